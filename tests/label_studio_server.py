"""A server with those parts of Label Studio's API that a push uses, as version 1.23 answers them, and faults on demand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

PAT = "header.refresh.signature"


@dataclass
class LabelStudio:
    """One project, with the number 3. ``answers`` come before any other, one for each call: status and headers."""

    url: str = ""
    config: str = "<View></View>"
    tasks: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    access: int = 0
    """How many access tokens were issued; only the last one is valid."""

    def controls(self) -> dict[str, Any]:
        """The value of ``parsed_label_config`` for the configuration."""
        found = {}
        for element in ElementTree.fromstring(self.config):
            if element.tag in {"RectangleLabels", "Choices"}:
                labels = [child.get("value") for child in element]
                named = {"type": element.tag, "to_name": [element.get("toName")], "labels": labels}
                found[str(element.get("name"))] = named
        return found

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        """The status and content of an answer."""
        if path == "/api/projects/3/" and method == "PATCH":
            self.config = json.loads(body)["label_config"]
        if path == "/api/projects/3/":
            return 200, {"id": 3, "label_config": self.config, "parsed_label_config": self.controls()}
        if path == "/api/tasks/":
            page, size = int(query["page"][0]), int(query["page_size"][0])
            found = self.tasks[(page - 1) * size : page * size]
            return (200, {"tasks": found, "total": len(self.tasks)}) if found or page == 1 else (404, {})
        if path == "/api/projects/3/import":
            named = re.search(rb'filename="([^"]+)"', body)
            assert named is not None
            number = len(self.tasks) + 1
            image = f"/data/upload/3/0a1b2c3d-{named[1].decode()}"
            self.tasks.append({"id": number, "data": {"image": image}, "total_predictions": 0, "total_annotations": 0})
            return 201, {"task_count": 1, "task_ids": [number]}
        if path == "/api/predictions/":
            told = json.loads(body)
            self.predictions.append(told)
            self.tasks[told["task"] - 1]["total_predictions"] += 1
            return 201, {"id": len(self.predictions), **told}
        return 404, {"detail": "Not found."}


@contextmanager
def serving() -> Iterator[LabelStudio]:
    """A running server; yields its state."""
    state = LabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            status, content = 200, None
            headers: dict[str, str] = {}
            if parts.path == "/api/token/refresh":
                status = 200 if json.loads(body)["refresh"] == PAT else 401
                state.access += status == 200
                content = {"access": f"access-{state.access}"} if status == 200 else {"detail": "Token is invalid"}
            elif self.headers["Authorization"] not in {f"Bearer access-{state.access}", "Token legacy"}:
                status, content = 401, {"detail": "Invalid token."}
            elif state.answers:
                status, headers = state.answers.pop(0)
            else:
                status, content = state.answer(self.command, parts.path, parse_qs(parts.query), body)
            answer = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 - as the library calls them

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
