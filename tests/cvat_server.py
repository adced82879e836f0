"""A CVAT server with exports, uploads, tasks and annotations, written from its published description (cvat/schema.yml, 2.80).

tests/sources/test_cvat_server.py drives it with the real SDK, whose models refuse what the description does not allow.
"""

from __future__ import annotations

import base64
import email
import io
import itertools
import re
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from PIL import Image

from web_servers import Reply, Request

VERSION = "2.80.0"
FORMAT = "CVAT for images 1.1"
TOKEN = "reef-token"
OWNER: dict[str, Any] = {
    "username": "diver",
    "id": 1,
    "url": "http://cvat/api/users/1",
    "first_name": "",
    "last_name": "",
}
Box = tuple[str, float, float, float, float]


@dataclass
class Task:
    """A task. ``images`` by name, in the order of frames; ``boxes`` by names of images: label and corners."""

    name: str = "reef"
    images: dict[str, bytes] = field(default_factory=dict)
    boxes: dict[str, list[Box]] = field(default_factory=dict)
    project: int | None = None
    subset: str = ""
    updated: str = "2026-11-01T10:00:00Z"
    deleted: set[int] = field(default_factory=set)
    dimension: str = "2d"
    lost: set[str] = field(default_factory=set)
    """Images that an export leaves out, as when the share that holds them is offline."""
    turned: dict[str, list[tuple[Box, float]]] = field(default_factory=dict)
    """Rotated boxes of an image, with their angles."""
    masks: dict[str, list[tuple[str, list[int]]]] = field(default_factory=dict)
    """Masks of an image: the label, then runs and corners as the server stores them."""
    tags: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """How the boxes of an image were made, where not by hand."""
    jobs: int = 0
    """Images in each job; 0: all in one job."""
    chunks: str = "2026-11-01T09:00:00Z"
    """When the images were changed."""
    uploads: dict[str, tuple[str, int, bytearray]] = field(default_factory=dict)
    """Uploads in progress by identifier: name, size, and the bytes received."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files that were uploaded before the task is created from them."""


@dataclass
class Cvat:
    """The server. ``prepares``: how often a request reports that it is in progress before it has ended.

    ``name`` is the address that the server puts into its answers: behind a proxy, servers often know another one than clients.
    """

    name: str = "http://cvat"
    tasks: dict[int, Task] = field(default_factory=dict)
    projects: dict[int, str] = field(default_factory=dict)
    jobs: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """By the number of a job: its task, and its first and last frame."""
    states: dict[int, str] = field(default_factory=dict)
    """States of jobs other than ``new``."""
    types: dict[str, str] = field(default_factory=dict)
    """Types of labels other than ``any``."""
    labels: list[str] = field(default_factory=lambda: ["crab", "fish"])
    token: str = TOKEN
    prepares: int = 1
    fails: str = ""
    page: int = 2
    busy: int = 0
    """How many exports are refused because another one is being made."""
    requests: dict[str, list[Any]] = field(default_factory=dict)
    imported: list[tuple[int, Any]] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(100))

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        if request.path == "/api/server/about":
            about = {
                "name": "CVAT",
                "description": "",
                "version": VERSION,
                "logo_url": f"{self.name}/l.png",
                "subtitle": "",
            }
            return Reply(about)
        if request.headers.get("authorization") not in {f"Bearer {self.token}", "Basic ZGl2ZXI6cmVlZg=="}:
            return Reply({"detail": "Authentication credentials were not provided."}, 401)
        for method, pattern, answer in self._routes:
            found = re.fullmatch(pattern, request.path.rstrip("/"))
            if found and request.method == method:
                told: Reply = answer(self, request, *found.groups())
                return told
        return Reply({"detail": "Not found."}, 404)

    def _thing(self, request: Request, kind: str, number: str) -> Reply:
        known: dict[str, Mapping[int, Any]] = {"projects": self.projects, "tasks": self.tasks, "jobs": self.jobs}
        if int(number) not in known[kind]:
            return Reply({"detail": "Not found."}, 404)
        told = {"projects": self.project, "tasks": self.task, "jobs": self.job}[kind]
        return Reply(told(int(number)))

    def _changed(self, request: Request, kind: str, number: str) -> Reply:
        self._thing(request, kind, number)
        if "labels" in request.document:
            self.labels += [each["name"] for each in request.document["labels"]]
        if "name" in request.document and kind == "tasks":
            self.tasks[int(number)].name = request.document["name"]
        return self._thing(request, kind, number)

    def _deleted(self, request: Request, number: str) -> Reply:
        self.forget(int(number))
        return Reply(b"", 204)

    def forget(self, task: int) -> None:
        """Remove a task with its jobs and its requests."""
        del self.tasks[task]
        self.jobs = {number: job for number, job in self.jobs.items() if job[0] != task}
        self.requests = {name: asked for name, asked in self.requests.items() if asked[2:] != ["task", task]}

    def _jobs(self, request: Request) -> Reply:
        wanted = int(request.query.get("project_id", 0))
        task = int(request.query.get("task_id", 0))
        found = [
            self.job(number)
            for number, (of, _, _) in self.jobs.items()
            if (not task or of == task) and (not wanted or self.tasks[of].project == wanted)
        ]
        return self._paged(request, found)

    def _requests(self, request: Request) -> Reply:
        wanted = int(request.query.get("task_id", 0))
        found = [
            self._request(request, name).body
            for name, (_, content, target, number) in [*self.requests.items()]
            if target == "task" and number == wanted and not isinstance(content, bytes)
        ]
        return self._paged(request, found)

    def _listed(self, request: Request) -> Reply:
        wanted = int(request.query.get("project_id", 0))
        found = [self.task(number) for number, task in self.tasks.items() if not wanted or task.project == wanted]
        return self._paged(request, found)

    def _labels(self, request: Request) -> Reply:
        found = [
            {"id": number, "name": name, "color": "#ff0000", "attributes": [], "sublabels": []}
            | {"type": self.types.get(name, "any")}
            | {"project_id": None, "task_id": 1, "parent_id": None, "has_parent": False}
            for number, name in enumerate(self.labels, 1)
        ]
        return self._paged(request, found)

    def _paged(self, request: Request, found: list[Any]) -> Reply:
        page = int(request.query.get("page", 1))
        size = min(self.page, int(request.query.get("page_size", 10)))
        if page > 1 and (page - 1) * size >= len(found):
            return Reply({"detail": "Invalid page."}, 404)
        asked = "&".join(f"{key}={value}" for key, value in request.query.items() if key != "page")
        following = f"{self.name}{request.path}?page={page + 1}&{asked}" if page * size < len(found) else None
        listed = {"count": len(found), "next": following, "previous": None}
        return Reply(listed | {"results": found[(page - 1) * size : page * size]})

    def _meta(self, request: Request, kind: str, number: str) -> Reply:
        first, last = 0, 10**9
        task = self.tasks.get(int(number), Task())
        if kind == "jobs":
            of, first, last = self.jobs[int(number)]
            task = self.tasks[of]
        frames = [
            {"name": name, "related_files": 0, "has_related_context": False}
            | dict(zip(("width", "height"), _size(content), strict=True))
            for frame, (name, content) in enumerate(task.images.items())
            if first <= frame <= last
        ]
        return Reply(
            {
                "size": len(frames),
                "frames": frames,
                "deleted_frames": sorted(f for f in task.deleted if first <= f <= last),
            }
            | {
                "chunk_size": 36,
                "image_quality": 70,
                "start_frame": 0,
                "stop_frame": len(frames) - 1,
                "frame_filter": "",
            }
            | {"included_frames": None, "storage": "local", "cloud_storage_id": None, "chapters": None}
            | {"chunks_updated_date": task.chunks}
        )

    def _export(self, request: Request, kind: str, number: str) -> Reply:
        if request.query.get("format") != FORMAT:
            return Reply([f"Unknown format {request.query.get('format')}"], 400)
        if self.busy:
            self.busy -= 1
            return Reply({"detail": "Export request is being processed"}, 409)
        name = f"action=export&target={kind[:-1]}&id={number}&subresource=dataset&format={quote(FORMAT)}&n={next(self.numbers)}"
        content = self.exported(kind, int(number), with_images=request.query.get("save_images", "").lower() == "true")
        self.requests[name] = [self.prepares, content, kind[:-1], int(number)]
        return Reply({"rq_id": name}, 202)

    def _request(self, request: Request, name: str) -> Reply:
        if name not in self.requests:
            return Reply({"detail": "Not found."}, 404)
        left, content, target, number = self.requests[name]
        self.requests[name][0] -= 1
        status = "started" if left > 0 else "failed" if self.fails else "finished"
        if status == "finished" and isinstance(content, list):
            self._make(number, content)
        is_export = isinstance(content, bytes)
        url = f"{self.name}/api/{target}s/{number}/dataset/download?rq_id={quote(name, safe='')}"
        operation = {"type": "export:dataset" if is_export else "create:task", "target": target, "project_id": None}
        operation |= {"task_id": number, "job_id": None, "org_id": None, "format": FORMAT, "function_id": None}
        return Reply(
            {"id": name, "status": status, "message": self.fails if status == "failed" else "", "progress": None}
            | {"operation": operation | {"lightweight": None}, "owner": {"id": 1, "username": "diver"}}
            | dict.fromkeys(("created_date", "started_date", "finished_date", "expiry_date"), "2026-11-01T10:00:00Z")
            | {"result_url": url if status == "finished" and is_export else None, "result_id": None}
        )

    def _download(self, request: Request, kind: str, number: str) -> Reply:
        found = self.requests.get(request.query.get("rq_id", ""))
        if found is None:
            return Reply({"detail": "Not found."}, 404)
        return Reply(found[1], headers={"Content-Disposition": 'attachment; filename="task.zip"'}, etag='"export"')

    def _formats(self, request: Request) -> Reply:
        each = {"name": FORMAT, "ext": "ZIP", "version": "1.1", "enabled": True, "dimension": "2d"}
        return Reply({"importers": [each | {"name": "CVAT 1.1"}], "exporters": [each]})

    def _annotations(self, request: Request, number: str) -> Reply:
        task = self.tasks[int(number)]
        if request.method != "GET":
            self.imported.append((int(number), request.document))
            if request.query.get("action") == "create":
                self._draw(task, request.document)
            return Reply(request.document)
        frames = {name: frame for frame, name in enumerate(task.images)}
        drawn: list[tuple[str, str, str, list[float], float]] = [
            *(("rectangle", name, box[0], [*box[1:]], 0.0) for name, found in task.boxes.items() for box in found),
            *(("rectangle", name, box[0], [*box[1:]], by) for name, all_ in task.turned.items() for box, by in all_),
            *(
                ("mask", name, label, [*map(float, points)], 0.0)
                for name, all_ in task.masks.items()
                for label, points in all_
            ),
        ]
        shapes = [
            {"type": kind, "frame": frames[name], "label_id": self.labels.index(label) + 1, "points": points}
            | {
                "id": count,
                "group": 0,
                "source": task.sources.get(name, "manual"),
                "occluded": False,
                "outside": False,
                "z_order": 0,
                "rotation": rotation,
            }
            | {"attributes": [], "elements": [], "score": 1.0}
            for count, (kind, name, label, points, rotation) in enumerate(drawn, 1)
        ]
        tags = [
            {"frame": frames[name], "label_id": self.labels.index(label) + 1, "source": "auto", "attributes": []}
            | {"id": 1, "group": 0}
            for name, found in task.tags.items()
            for label in found
        ]
        return Reply({"version": 0, "tags": tags, "shapes": shapes, "tracks": []})

    def _draw(self, task: Task, added: Mapping[str, Any]) -> None:
        names = [*task.images]
        for each in added.get("shapes", ()):
            name, label, points = names[each["frame"]], self.labels[each["label_id"] - 1], each["points"]
            if each["type"] == "mask":
                _require_mask(points)
                task.masks.setdefault(name, []).append((label, points))
            elif each.get("rotation"):
                task.turned.setdefault(name, []).append(((label, *points), each["rotation"]))
            else:
                task.boxes.setdefault(name, []).append((label, *points))
            task.sources[name] = each.get("source", "manual")
        for each in added.get("tags", ()):
            task.tags.setdefault(names[each["frame"]], []).append(self.labels[each["label_id"] - 1])

    def _data(self, request: Request, number: str) -> Reply:
        """The four requests that make up an upload, distinguished by the header that each carries."""
        task = self.tasks[int(number)]
        if "upload-start" in request.headers:
            return Reply(b"", 202)
        if task.images:
            return Reply(["Adding more data is not supported"], 400)
        if "upload-length" in request.headers:
            told = dict(each.split(" ") for each in request.headers["upload-metadata"].split(","))
            name = base64.b64decode(told["filename"]).decode()
            if name in task.files:
                return Reply("File with same name already exists", 409)
            identifier = str(uuid.uuid4())
            task.uploads[identifier] = name, int(request.headers["upload-length"]), bytearray()
            place = f"{self.name}{request.path.rstrip('/')}/{identifier}"
            return Reply(b"", 201, {"Location": place, "Upload-Filename": name})
        if "upload-multiple" in request.headers:
            head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
            for part in email.message_from_bytes(head + request.body).walk():
                if file := part.get_filename():
                    task.files[file.rpartition("/")[2]] = bytes(part.get_payload(decode=True))
            return Reply(b"", 200)
        asked = request.document
        order = asked.get("upload_file_order") or sorted(task.files)
        if sorted(order) != sorted(task.files) or (
            asked.get("sorting_method") != "predefined" and order != sorted(order)
        ):
            return Reply(["The upload file list does not match the uploaded files"], 400)
        name = f"action=create&target=task&id={number}&n={next(self.numbers)}"
        self.requests[name] = [self.prepares, order, "task", int(number)]
        return Reply({"rq_id": name}, 202)

    def _chunk(self, request: Request, number: str, identifier: str) -> Reply:
        task = self.tasks[int(number)]
        if identifier not in task.uploads:
            return Reply(b"", 404)
        name, size, content = task.uploads[identifier]
        if request.method == "PATCH":
            if int(request.headers["upload-offset"]) != len(content):
                return Reply(b"", 409)
            content += request.body
            if len(content) == size:
                task.files[name] = bytes(task.uploads.pop(identifier)[2])
        told = {"Upload-Offset": str(len(content)), "Upload-Length": str(size), "Upload-Filename": name}
        return Reply(b"", 204 if request.method == "PATCH" else 200, told)

    def _frame(self, request: Request, number: str) -> Reply:
        task, frame = self.tasks[int(number)], int(request.query["number"])
        if (request.query["type"], request.query["quality"]) != ("frame", "original"):
            return Reply(["Specify data type"], 400)
        name, content = [*task.images.items()][frame]
        return Reply({"detail": "Not found."}, 404) if name in task.lost else Reply(content)

    def _make(self, number: int, order: list[str]) -> None:
        """Create a task, split into jobs, from its uploaded files."""
        task = self.tasks[number]
        if task.files:
            task.images, task.files = {name: task.files[name] for name in order}, {}
            size = task.jobs or len(order)
            for first in range(0, len(order), size):
                last = min(first + size, len(order)) - 1
                self.jobs[max([0, *self.jobs]) + 1] = number, first, last

    def _created(self, request: Request) -> Reply:
        asked = request.document
        number = max([0, *self.tasks]) + 1
        self.tasks[number] = Task(asked["name"], project=asked.get("project_id"), jobs=asked.get("segment_size", 0))
        self.labels = [each["name"] for each in asked.get("labels", [])] or self.labels
        return Reply(self.task(number), 201)

    _routes: Any = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        """Build the table of routes."""
        things = "(projects|tasks|jobs)/([0-9]+)"
        cls = type(self)
        self._routes = (
            ("GET", f"/api/{things}", cls._thing),
            ("PATCH", f"/api/{things}", cls._changed),
            ("DELETE", "/api/tasks/([0-9]+)", cls._deleted),
            ("GET", "/api/jobs", cls._jobs),
            ("POST", "/api/tasks/([0-9]+)/data", cls._data),
            ("GET", "/api/tasks/([0-9]+)/data", cls._frame),
            *((method, "/api/tasks/([0-9]+)/data/([0-9a-f-]{36})", cls._chunk) for method in ("HEAD", "PATCH")),
            ("GET", "/api/requests", cls._requests),
            ("GET", "/api/tasks", cls._listed),
            ("POST", "/api/tasks", cls._created),
            ("GET", "/api/labels", cls._labels),
            ("GET", f"/api/{things}/data/meta", cls._meta),
            ("POST", f"/api/{things}/dataset/export", cls._export),
            ("GET", f"/api/{things}/dataset/download", cls._download),
            ("GET", "/api/requests/(.+)", cls._request),
            ("GET", "/api/server/annotation/formats", cls._formats),
            *((method, "/api/tasks/([0-9]+)/annotations", cls._annotations) for method in ("GET", "PUT", "PATCH")),
        )

    def project(self, number: int) -> dict[str, Any]:
        """A project as the server's API returns it."""
        mine = [task for task in self.tasks.values() if task.project == number]
        return self._common(f"projects/{number}", number) | {
            "name": self.projects[number],
            "tasks": {"count": len(mine), "url": f"{self.name}/api/tasks"},
            "task_subsets": sorted({task.subset for task in mine}),
            "updated_date": max([task.updated for task in mine], default="2026-11-01T10:00:00Z"),
            "status": "annotation",
        }

    def task(self, number: int) -> dict[str, Any]:
        """A task as the server's API returns it."""
        task = self.tasks[number]
        return self._common(f"tasks/{number}", number) | {
            "name": task.name,
            "updated_date": task.updated,
            "jobs": {"count": 1, "completed": 0, "validation": 0, "url": f"{self.name}/api/jobs"},
            "project_id": task.project,
            "size": len(task.images),
            "mode": "annotation",
            "dimension": task.dimension,
            "subset": task.subset,
            "status": "annotation",
            "segment_size": len(task.images),
            "data": number,
        }

    def job(self, number: int) -> dict[str, Any]:
        """A job as the server's API returns it."""
        of, first, last = self.jobs[number]
        return self._common(f"jobs/{number}", number) | {
            "task_id": of,
            "issues": {"count": 0, "url": f"{self.name}/api/issues"},
            "updated_date": self.tasks[of].updated,
            "start_frame": first,
            "stop_frame": last,
            "frame_count": last - first + 1,
            "mode": "annotation",
            "type": "annotation",
            "stage": "annotation",
            "state": self.states.get(number, "new"),
            "status": "annotation",
            "project_id": self.tasks[of].project,
        }

    def _common(self, path: str, number: int) -> dict[str, Any]:
        place = {"id": number, "location": "local", "cloud_storage_id": None}
        return {
            "id": number,
            "url": f"{self.name}/api/{path}",
            "owner": OWNER,
            "assignee": None,
            "bug_tracker": "",
            "created_date": "2026-10-01T10:00:00Z",
            "dimension": "2d",
            "labels": {"url": f"{self.name}/api/labels?{path}"},
            "target_storage": place,
            "source_storage": place,
            "organization": None,
            "guide_id": None,
        }

    def exported(self, kind: str, number: int, *, with_images: bool = True) -> bytes:
        """The zip file of an export."""
        of, first, last = self.jobs[number] if kind == "jobs" else (number, 0, 10**9)
        mine = {key: task for key, task in self.tasks.items() if (task.project if kind == "projects" else key) == of}
        content, lines, frame_of_all = io.BytesIO(), list[str](), 0
        with zipfile.ZipFile(content, "w") as packed:
            for key, task in mine.items():
                for frame, (name, image) in enumerate(task.images.items()):
                    if frame in task.deleted or not first <= frame <= last:
                        continue
                    width, height = _size(image)
                    told = f' subset="{task.subset}" task_id="{key}"' if kind == "projects" else ""
                    lines.append(
                        f'<image id="{frame_of_all}" name={quoteattr(name)}{told} width="{width}" height="{height}">'
                    )
                    made = task.sources.get(name, "manual")
                    lines += (_box(box, made) for box in task.boxes.get(name, ()))
                    lines += (_box(box, made, by) for box, by in task.turned.get(name, ()))
                    lines += (_mask(label, points, made) for label, points in task.masks.get(name, ()))
                    lines += (
                        f'<tag label={quoteattr(label)} source="{made}"></tag>' for label in task.tags.get(name, ())
                    )
                    lines.append("</image>")
                    frame_of_all += 1
                    if with_images and name not in task.lost:
                        packed.writestr(
                            f"images/{task.subset}/{name}" if kind == "projects" else f"images/{name}", image
                        )
            labels = "".join(f"<label><name>{name}</name><attributes/></label>" for name in self.labels)
            meta = f"<meta><{kind[:-1]}><id>{number}</id><labels>{labels}</labels></{kind[:-1]}></meta>"
            document = f"<annotations><version>1.1</version>{meta}{''.join(lines)}</annotations>"
            packed.writestr("annotations.xml", f'<?xml version="1.0" encoding="utf-8"?>{document}')
        return content.getvalue()


def _box(box: Box, source: str, rotation: float = 0.0) -> str:
    label, *corners = box
    told = " ".join(f'{name}="{value}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    told += f' rotation="{rotation:.2f}"' if rotation else ""
    return f'<box label={quoteattr(label)} {told} occluded="0" source="{source}" z_order="0"></box>'


def _mask(label: str, points: list[int], source: str) -> str:
    """A mask as CVAT's exporter writes it: runs, and the rectangle of the image, whose last pixel is included."""
    *runs, left, top, right, bottom = map(int, points)
    part = f'left="{left}" top="{top}" width="{right - left + 1}" height="{bottom - top + 1}"'
    told = f'{part} rle="{", ".join(map(str, runs))}"'
    return f'<mask label={quoteattr(label)} source="{source}" occluded="0" {told} z_order="0"></mask>'


def _require_mask(points: list[int]) -> None:
    """Refuse masks that CVAT's own page could not draw."""
    *runs, left, top, right, bottom = points
    if any(one != int(one) for one in points) or sum(runs) != (right - left + 1) * (bottom - top + 1):
        raise ValueError("runs that are not those of the part")


def _size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return width, height


def reef(images: Mapping[str, bytes], **told: Any) -> Task:
    """A task with a box in each image."""
    boxes = {name: [(("crab", "fish")[place % 2], 2.0, 3.0, 20.0, 25.0)] for place, name in enumerate(images)}
    return Task(images=dict(images), boxes=boxes, **told)
