"""Labelbox's GraphQL API for exports of a project, as the client labelbox 7.17.0 calls it, and the storage behind it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from web_servers import Reply, Request

KEY = "reef-key"


@dataclass
class Labelbox:
    """The project ``reef1``. ``name`` is its own address; ``masks`` by the names of images."""

    images: dict[str, bytes] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)
    name: str = ""
    active: str = "2026-11-01T10:00:00.000Z"
    prepares: int = 1
    lost: set[str] = field(default_factory=set)
    rows_told: int | None = None
    fails: str = ""
    exports: int = 0
    """How many exports were made: each signs the addresses of images again."""

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        is_mine = request.headers.get("authorization") == f"Bearer {KEY}"
        if request.path == "/graphql":
            return self._graph(request.document) if is_mine else _error("UNAUTHENTICATED", "Invalid API key")
        if found := re.fullmatch("/storage/(images|parts)/(.+)", request.path):
            # Signed addresses need no key, and must not be sent one.
            if "authorization" in request.headers or found[2] in self.lost:
                return Reply(b"", 404)
            if found[1] == "parts":
                return Reply(self.parts()[int(found[2])])
            content = self.images[found[2]]
            return Reply(content, etag=f'"{hashlib.md5(content).hexdigest()}"')
        if (found := re.fullmatch("/masks/(.+)", request.path)) and is_mine:
            return Reply(self.masks[found[1]])
        return Reply(b"", 404)

    def _graph(self, asked: Any) -> Reply:
        query, variables = asked["query"], asked["variables"]
        if "project(where" in query:
            if variables["id"] != "reef1":
                return _error("RESOURCE_NOT_FOUND", "Project not found")
            rows = len(self.images) if self.rows_told is None else self.rows_told
            project = {"id": "reef1", "name": "reef", "updatedAt": "2026-10-01T10:00:00.000Z"}
            return _data({"project": project | {"lastActivityTime": self.active, "dataRowCount": rows}})
        if "exportDataRowsInProject" in query:
            assert variables["input"]["filters"]["projectId"] == "reef1"
            self.exports += 1
            return _data({"exportDataRowsInProject": {"taskId": "task1", "isStreamable": True}})
        if "createdTasks" in query:
            self.prepares -= 1
            status = "IN_PROGRESS" if self.prepares >= 0 else "FAILED" if self.fails else "COMPLETE"
            return _data({"user": {"createdTasks": [{"status": status, "errors": self.fails or None}]}})
        if "user{id}" in query:
            return _data({"user": {"id": "user1"}})
        if "exportMetadataHeader" in query:
            told = {"totalSize": sum(map(len, self.parts())), "totalLines": len(self.images)}
            return _data({"task": {"exportMetadataHeader": told if variables["streamType"] == "RESULT" else None}})
        if "exportFileFromOffset" in query:
            start, offset = 0, int(variables["offset"])
            for number, part in enumerate(self.parts()):
                if start == offset:
                    file = {"file": f"{self.name}/storage/parts/{number}", "lines": {"start": number, "end": number}}
                    offsets = {"start": start, "end": start + len(part) - 1}
                    return _data({"task": {"exportFileFromOffset": file | {"offsets": offsets}}})
                start += len(part)
        return _error("INTERNAL_SERVER_ERROR", "what?")

    def parts(self) -> list[bytes]:
        """The export: one part for each row."""
        return [json.dumps(self._row(number, name)).encode() + b"\n" for number, name in enumerate(self.images)]

    def _row(self, number: int, name: str) -> dict[str, Any]:
        drawn: dict[str, Any] = {"feature_id": f"feature{number}", "name": ("crab", "fish")[number % 2]}
        if name in self.masks:
            drawn |= {"annotation_kind": "ImageSegmentationMask", "mask": {"url": f"{self.name}/masks/{name}"}}
        else:
            box = {"top": 3, "left": 2, "height": 22, "width": 18}
            drawn |= {"annotation_kind": "ImageBoundingBox", "bounding_box": box}
        label: dict[str, Any] = {"label_kind": "Default", "id": f"label{number}"}
        label |= {"annotations": {"objects": [drawn], "classifications": [], "relationships": []}}
        url = f"{self.name}/storage/images/{name}?signature={self.exports:06}"
        return {
            "data_row": {"id": f"row{number}", "external_id": "dive.png", "row_data": url},
            "media_attributes": {"width": 40, "height": 30, "mime_type": "image/png"},
            "projects": {"reef1": {"name": "reef", "labels": [label]}},
        }


def _data(found: Any) -> Reply:
    return Reply({"data": found})


def _error(code: str, message: str) -> Reply:
    return Reply({"errors": [{"message": message, "extensions": {"code": code}}], "data": None})
