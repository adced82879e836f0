"""A fake server for Weights & Biases, written from the requests that the real client sends and the answers that it reads.

GraphQL (RunResumeStatus, UpsertBucket, CreateRunFiles) and the stream of files, with the API key. Other details of real answers
are unknown: no real server was ever reached.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from web_servers import Reply, Request, Server

KEY = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Wandb:
    """``runs`` by id: the rows of their history, the summary, the configuration, whether they are complete; ``files`` by name."""

    url: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path.startswith("/upload/"):
            self.files[request.path.removeprefix("/upload/")] = request.body
            return Reply({})
        login = base64.b64encode(f"api:{KEY}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {login}":
            return Reply({"errors": [{"message": "user is not logged in"}]}, 401)
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        content = json.loads(body or b"{}")
        if request.path == "/graphql":
            return Reply({"data": self._graphql(content)})
        if request.path.endswith("/file_stream"):
            return self._stream(request.path.split("/")[-2], content)
        return Reply({}, 404)

    def _graphql(self, content: dict[str, Any]) -> dict[str, Any]:
        asked, given = content["query"], content["variables"]
        if "CreateRunFiles" in asked:
            uploads = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": uploads}}
        if "RunResumeStatus" in asked:
            known = self.runs.get(given["name"])
            return {"model": {"bucket": {"historyLineCount": len(known["history"])} if known else None}}
        if "UpsertBucket" not in asked:
            return {}
        run = self.runs.setdefault(given["name"], {"history": [], "summary": {}, "complete": False})
        run |= {name: given[name] for name in ("project", "entity", "host") if given.get(name)}
        run |= {"name": given.get("displayName") or run.get("name")}
        run |= {"config": json.loads(given.get("config") or "{}")}
        entity = {"id": "2", "name": given["entity"] or "of-the-key"}
        bucket = {
            "id": "1",
            "name": given["name"],
            "displayName": run["name"],
            "description": None,
            "config": "{}",
            "sweepName": None,
            "project": {"id": "3", "name": given["project"], "entity": entity},
            "historyLineCount": len(run["history"]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _stream(self, name: str, content: dict[str, Any]) -> Reply:
        run = self.runs[name]
        for file, piece in (content.get("files") or {}).items():
            lines = [json.loads(line) for line in piece["content"]]
            if file == "wandb-history.jsonl":
                run["history"][piece["offset"] :] = lines
            elif file == "wandb-summary.json":
                run["summary"] = lines[-1]
        run["complete"] = run["complete"] or bool(content.get("complete"))
        return Reply({"exitcode": None, "limits": {}})


def reached(server: Server) -> set[str]:
    """Paths that were requested, without names of runs."""
    return {"/".join(request.path.split("/")[:2]) for request in server.seen}
