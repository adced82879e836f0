"""A BIIGLE server with volumes, their images and CSV reports, written from its source (biigle/core: routes and controllers)."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fetched_sources import zipped
from web_servers import Reply, Request

EMAIL, TOKEN = "diver@example.org", "reef-token"
_TYPES = {1: "ImageAnnotations\\Abundance", 7: "ImageAnnotations\\Csv", 13: "ImageLabels\\Csv"}
_LABEL = ("label_id", "label_name", "label_hierarchy")
_PERSON = ("user_id", "firstname", "lastname")
_DRAWN = ("shape_id", "shape_name", "points", "attributes", "annotation_id", "created_at")
_PLACE = ("image_id", "filename", "image_longitude", "image_latitude")
_ANNOTATIONS = ("annotation_label_id", *_LABEL, *_PERSON, *_PLACE, *_DRAWN)
_LABELS = ("image_label_id", "image_id", "filename", "longitude", "latitude", *_PERSON, *_LABEL, "created_at")
Shape = tuple[str, str, str, list[float]]
"""One annotation of an image: label, name of the shape, points."""


@dataclass
class Volume:
    """A volume with ``images`` by their names; their ids follow from the order."""

    name: str = "station"
    images: dict[str, bytes] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=list)
    media: str = "image"


@dataclass
class Biigle:
    """The server. ``prepares``: how often a report is not ready yet; ``lost``: images that the server cannot deliver."""

    volumes: dict[int, Volume] = field(default_factory=dict)
    projects: dict[int, list[int]] = field(default_factory=dict)
    prepares: int = 1
    lost: set[str] = field(default_factory=set)
    reports: dict[int, list[Any]] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(500))

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        login = base64.b64encode(f"{EMAIL}:{TOKEN}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {login}":
            return Reply({"message": "Unauthenticated."}, 401)
        routes: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            ("GET", "reports", self._types),
            ("GET", "volumes/([0-9]+)", self._volume),
            ("GET", "projects/([0-9]+)/volumes", self._project),
            ("GET", "volumes/([0-9]+)/filenames", self._names),
            ("GET", "volumes/([0-9]+)/annotations", self._drawn),
            ("GET", "volumes/([0-9]+)/files/labels", self._said),
            ("POST", "volumes/([0-9]+)/reports", self._ask),
            ("GET", "reports/([0-9]+)", self._report),
            ("DELETE", "reports/([0-9]+)", self._remove),
            ("GET", "images/([0-9]+)/file", self._image),
        )
        for method, pattern, answer in routes:
            found = re.fullmatch(f"/api/v1/{pattern}", request.path)
            if found and method == request.method:
                try:
                    return answer(request, *map(int, found.groups()))
                except KeyError:
                    break
        return Reply({"message": "Not found."}, 404)

    def _types(self, request: Request) -> Reply:
        return Reply([{"id": number, "name": name} for number, name in _TYPES.items()])

    def _volume(self, request: Request, number: int) -> Reply:
        return Reply(self._told(number))

    def _told(self, number: int) -> dict[str, Any]:
        volume = self.volumes[number]
        media = {"id": 1, "name": volume.media}
        return {"id": number, "name": volume.name, "media_type": media, "updated_at": "2026-11-01T10:00:00.000000Z"}

    def _project(self, request: Request, number: int) -> Reply:
        return Reply([self._told(each) for each in self.projects[number]])

    def _names(self, request: Request, number: int) -> Reply:
        names = {number * 100 + place: name for place, name in enumerate(self.volumes[number].images)}
        return Reply(names or [])

    def _drawn(self, request: Request, number: int) -> Reply:
        return Reply([list(each) for each in self.volumes[number].shapes])

    def _said(self, request: Request, number: int) -> Reply:
        return Reply([])

    def _ask(self, request: Request, number: int) -> Reply:
        kind = _TYPES.get(request.document["type_id"])
        if request.headers.get("accept") != "application/json":
            return Reply(b"<html>", 302, {"Location": "/"})
        if kind not in {"ImageAnnotations\\Csv", "ImageLabels\\Csv"} or self.volumes[number].media != "image":
            return Reply({"message": "The selected type id is invalid."}, 422)
        report = next(self.numbers)
        self.reports[report] = [self.prepares, self._table(number, kind)]
        return Reply({"id": report, "type_id": request.document["type_id"]}, 201)

    def _report(self, request: Request, number: int) -> Reply:
        self.reports[number][0] -= 1
        if self.reports[number][0] >= 0:
            return Reply({"message": "Not found."}, 404)
        return Reply(self.reports[number][1])

    def _remove(self, request: Request, number: int) -> Reply:
        del self.reports[number]
        return Reply(b"")

    def _image(self, request: Request, number: int) -> Reply:
        name, content = [*self.volumes[number // 100].images.items()][number % 100]
        if name in self.lost:
            return Reply(b"", 404)
        return Reply(content, headers={"Last-Modified": f"{hashlib.sha256(content).hexdigest()[:8]}"})

    def _table(self, number: int, kind: str) -> bytes:
        volume, text = self.volumes[number], io.StringIO()
        is_drawn = kind == "ImageAnnotations\\Csv"
        table = csv.DictWriter(text, _ANNOTATIONS if is_drawn else _LABELS)
        table.writeheader()
        for place, (image, label, shape, points) in enumerate(volume.shapes if is_drawn else (), 1):
            row: dict[str, Any] = {"annotation_label_id": place, "annotation_id": place, "label_id": 3, "shape_id": 5}
            row |= {"label_name": label, "label_hierarchy": label, "user_id": 1, "filename": image, "image_id": 1}
            table.writerow(row | {"shape_name": shape, "points": json.dumps(points), "attributes": "{}"})
        return zipped({f"{number}-{volume.name}.csv": text.getvalue().encode()})
