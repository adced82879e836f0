"""A fake FAIR EVA server: it answers as the published API of FAIR EVA 1.5 does, and fails as the real one was seen to.

``POST /v1.0/rda/rda_all`` and ``POST /v1.0/rda/rda_<id>`` with ``{id, repo, api_endpoint, lang}``. Answers are keyed by the
requested id, beside ``evaluator_logs``. If an indicator fails, the call for all answers 500, and its own call 422 with the name
ERROR.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pelagos_contract.fair.indicators import INDICATORS, PRINCIPLES, Indicator


class FairEva:
    """``points`` by codes of indicators, 100 for others; ``failing`` cannot be evaluated; ``raw`` replaces the whole answer."""

    def __init__(self) -> None:
        self.points: dict[str, float] = {}
        self.failing: set[str] = set()
        self.raw: bytes | None = None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    def result(self, indicator: Indicator, *, weighted: bool) -> dict[str, Any]:
        points = self.points.get(indicator.code, 100)
        weight = {"weight": indicator.weight} if weighted else {}
        return {
            # The call for all gives the method's name; the call for one gives that name in capitals.
            "name": indicator.method if weighted else indicator.method.upper(),
            "msg": [{"message": ["found", {"message": f"of {indicator.code}", "points": points}], "points": points}],
            "points": points,
            "color": "#2ECC71",
            "test_status": "pass" if points >= 75 else "indeterminate" if points > 50 else "fail",
            "score": {"earned": points, "total": 100, **weight},
        }

    def answer(self, method: str) -> tuple[int, Any]:
        failed = {"name": "ERROR", "msg": "Exception: no network", "points": 0, "test_status": "fail"}
        if method == "rda_all":
            if self.failing:
                return 500, {"title": "Internal Server Error", "status": 500}
            return 200, {
                principle: {
                    each.method: self.result(each, weighted=True) for each in INDICATORS if each.principle == principle
                }
                for principle in PRINCIPLES
            }
        indicator = next(each for each in INDICATORS if each.method == method)
        return (422, failed) if indicator.code in self.failing else (200, self.result(indicator, weighted=False))


@contextmanager
def serving(service: FairEva) -> Iterator[FairEva]:
    """Serve ``service``; yields it with its address set."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            method = self.path.removeprefix("/v1.0/rda/")
            service.asked.append((method, body))
            status, found = service.answer(method)
            content = json.dumps({body["id"]: found, "evaluator_logs": []}).encode()
            if service.raw is not None:
                status, content = 200, service.raw
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
