"""CVAT: a push creates a task in a project, with the images in order and a model's answers as shapes with the source ``auto``.

CVAT does not keep the original of a shape that a person changed, and accepts the images of a task only once. So a suggestion is
first written to the store, by its digest, which is in the image's name next to that of its content. A task is named as unfinished
until its shapes exist, and the next push completes it: existing images get their suggestions, and a task without images is
removed.
Source: the server's own description of its API, ``cvat/schema.yml`` of cvat-ai/cvat, as of 2.80; for uploads ``UploadMixin`` of
its engine, and the protocol that it follows (tus.io, 1.0).
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from pelagos.cli.annotating.calls import TRIES, Calls
from pelagos.cli.annotating.tool import Records, Suggestion, Tool, ToolError
from pelagos_contract import suggestions
from pelagos_contract.dataset import SUGGESTED_BY
from pelagos_contract.suggestions import Marked, Suggested, SuggestedBox, SuggestedMask
from pelagos_contract.tasks import Task
from pelagos_contract.text import shown

_PAGE = 100
_MOST_PAGES = 10_000
_TIMEOUT = 300.0
_IMAGES, _OF_A_JOB = 200, 20
"""Images per task, and per job: as many as a person opens, goes through, and finishes."""
_CHUNK = 10 * 2**20
_SHAPES = 5000
"""Shapes per request, unless a single image has more."""
_UNFINISHED = " (push not finished)"
_LONGEST_NAME = 256 - len(_UNFINISHED)
_PAUSES = (0.2, 5.0)
_LONGEST_WORK = 1800.0
"""Longest time, in seconds, for a server to process the images of a task."""
_KINDS: Mapping[str, str] = {
    Task.DETECTION: "rectangle",
    Task.ORIENTED_DETECTION: "rectangle",
    Task.INSTANCE_SEGMENTATION: "mask",
    Task.CLASSIFICATION: "tag",
}
"""The label type of each task's suggestions; labels of type "any" fit as well."""
_THINNEST = 0.01
"""Shortest side of a turned box in pixels; anything shorter is rounded to zero."""
_UPLOAD = re.compile(r"[0-9a-f-]{36}")
_ACCEPT = {"Accept": "application/vnd.cvat+json"}


@dataclass
class _Server:
    """A project, or a task without images, on a server. ``kind`` says which of the two ``number`` identifies."""

    calls: Calls
    kind: str
    number: int
    records: Records
    labels: dict[str, int] = field(default_factory=dict)
    task: str = ""
    organization: Mapping[str, str] = field(default_factory=dict)
    """The parameter that makes calls refer to an organization's objects."""
    recent: dict[str, Suggested] = field(default_factory=dict)
    """Suggestions that this push has stored, by digest."""
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def address(self) -> str:
        return f"{self.calls.url}/{self.kind}s/{self.number}"

    async def prepare(self, task: str, classes: Sequence[str]) -> None:
        kind = _KINDS.get(task)
        if kind is None:
            raise ToolError(f"suggestions for {task} are not supported, only for {', '.join(_KINDS)}")
        self.task = task
        about = await self._json("GET", f"/api/{self.kind}s/{self.number}")
        owner = about.get("organization_id", about.get("organization"))
        self.organization = {"org_id": str(owner)} if isinstance(owner, int) else {}
        known = await self._labels()
        if not known:
            made = {"labels": [{"name": name, "attributes": []} for name in classes]}
            await self._json("PATCH", f"/api/{self.kind}s/{self.number}", json=made)
            known = await self._labels()
        self.labels = {name: number for name, (number, type_) in known.items() if type_ in {"any", kind}}
        self._require(classes, known)

    async def known(self, identities: Iterable[str]) -> set[str]:
        found = set[str]()
        for listed in await self._tasks():
            task = listed if listed.get("size") else await self._recovered(listed)
            if task is None or not task.get("size"):
                continue
            number = _number(task, "id")
            frames = await self._frames(number)
            if str(task.get("name", "")).endswith(_UNFINISHED) and frames:
                await self._finish(number, str(task["name"]), frames, is_new=False)
            found |= {marked.image for marked in frames.values()}
        return found & set(identities)

    async def add(self, suggestions: Sequence[Suggestion], added: Callable[[int], None]) -> None:
        wanted = {each.identity: _suggested(each, self.left_out) for each in suggestions}
        labels = {label for each in wanted.values() for label in _labels_of(each)}
        self._require(sorted(labels), await self._labels() if labels - self.labels.keys() else {})
        size = _IMAGES if self.kind == "project" else max(1, len(suggestions))
        for start in range(0, len(suggestions), size):
            some = suggestions[start : start + size]
            await self._push(some, wanted)
            added(len(some))

    async def _push(self, some: Sequence[Suggestion], wanted: Mapping[str, Suggested]) -> None:
        """Create a task with some images and their suggestions."""
        named = dict[str, Suggestion]()
        for each in some:
            suggested = wanted[each.identity]
            await self.records.keep(suggested)
            self.recent[suggested.digest] = suggested
            named[Marked(each.identity, suggested.digest, self.records.store).name(each.name)] = each
        number, name = await self._begun(some[0].model)
        path = f"/api/tasks/{number}/data/"
        await self._answer("POST", path, headers={"Upload-Start": ""})
        for file, each in named.items():
            await self._upload(path, file, await each.read())
        order = {"sorting_method": "predefined", "upload_file_order": list(named)}
        finished = {"image_quality": 95, "use_cache": True, **order}
        # Only one try: a repeated request may be refused, and the next push checks how far this one came.
        started = await self._json("POST", path, headers={"Upload-Finish": ""}, json=finished, tries=1)
        await self._work_done(str(started.get("rq_id", "")))
        frames = await self._frames(number)
        if len(frames) != len(named):
            raise ToolError(f"{self.calls.url} made {len(frames)} frames of {len(named)} images, in task {number}")
        await self._finish(number, name, frames, is_new=True)

    async def _begun(self, model: str) -> tuple[int, str]:
        """Number and name of an unfinished task: a new one, or the given one without images."""
        if self.kind == "project":
            name = f"{shown(model)[:_LONGEST_NAME]}{_UNFINISHED}"
            wanted = {"name": name, "project_id": self.number, "segment_size": _OF_A_JOB}
            made = await self._json("POST", "/api/tasks", json=wanted, tries=1)
            return _number(made, "id"), name
        about = await self._json("GET", f"/api/tasks/{self.number}")
        if about.get("size"):
            raise ToolError(
                f"{self.address} already has images, and CVAT adds none to such a task: name a project, or a task without "
                "images"
            )
        name = f"{str(about.get('name', '')).removesuffix(_UNFINISHED)[:_LONGEST_NAME]}{_UNFINISHED}"
        await self._json("PATCH", f"/api/tasks/{self.number}", json={"name": name})
        return self.number, name

    async def _recovered(self, task: Mapping[str, Any]) -> dict[str, Any] | None:
        """An unfinished task whose uploads the server was still processing; None otherwise.

        A task of ours that an earlier push left without images is deleted.
        """
        name, number = str(task.get("name", "")), _number(task, "id")
        if not name.endswith(_UNFINISHED):
            return None
        asked = {"task_id": str(number), "action": "create", "page_size": str(_PAGE)}
        listed = _listed(await self._json("GET", "/api/requests", params=asked), "results")
        working = [each for each in listed if each.get("status") in {"queued", "started"}]
        for each in working:
            await self._work_done(str(each.get("id", "")))
        if working:
            return await self._json("GET", f"/api/tasks/{number}")
        if self.kind == "project" and name.startswith(SUGGESTED_BY):
            await self._answer("DELETE", f"/api/tasks/{number}", passed=(404,))
        return None

    async def _upload(self, path: str, name: str, content: bytes) -> None:
        """Upload a file in chunks by the resumable protocol; continues where a connection broke."""
        version = {"Tus-Resumable": "1.0.0"}
        encoded = base64.b64encode(name.encode()).decode()
        # Older servers build the upload's address from the request's Origin.
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.calls.url))
        told = {"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {encoded}", "Origin": origin}
        made = await self._answer("POST", path, headers=version | told, passed=(409,))
        if made.status == 409:  # already uploaded: the name contains the content's digest
            return
        upload = made.headers.get("Location", "").rstrip("/").rpartition("/")[2]
        if _UPLOAD.fullmatch(upload) is None:
            raise ToolError(f"the answer to POST {path} does not say where to upload; is the url that of CVAT?")
        offset, failures = 0, 0
        while offset < len(content):
            piece = content[offset : offset + _CHUNK]
            kind = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            try:
                await self._answer("PATCH", f"{path}{upload}", headers=version | kind, data=piece, tries=1)
                offset += len(piece)
                failures = 0
            except ToolError:
                failures += 1
                if failures >= TRIES:
                    raise
                await asyncio.sleep(min(2.0**failures, _PAUSES[1]))
                there = await self._answer("HEAD", f"{path}{upload}", headers=version, passed=(404,))
                # A completed upload no longer exists (404).
                is_last = offset + len(piece) == len(content)
                offset = len(content) if there.status == 404 and is_last else _offset(there.headers)

    async def _work_done(self, request: str) -> None:
        """Wait until the server has processed a task's uploads."""
        if not request:
            raise ToolError(f"{self.calls.url} does not report the progress of a task: CVAT 2.31 or newer is needed")
        pause, end = _PAUSES[0], time.monotonic() + _LONGEST_WORK
        while True:
            found = await self._json("GET", f"/api/requests/{quote(request, safe='')}")
            if found.get("status") == "finished":
                return
            if found.get("status") == "failed":
                why = shown(str(found.get("message") or "it does not say why"))[:300]
                raise ToolError(f"{self.calls.url} could not create a task from the images: {why}")
            if time.monotonic() > end:
                raise ToolError(
                    f"{self.calls.url} is still processing the images after {_LONGEST_WORK:.0f} s; push again"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _PAUSES[1])

    async def _frames(self, task: int) -> dict[int, Marked]:
        """The frames of a task that are our images, by number."""
        meta = await self._json("GET", f"/api/tasks/{task}/data/meta")
        marked = ((frame, Marked.of(str(each.get("name", "")))) for frame, each in enumerate(_listed(meta, "frames")))
        return {frame: found for frame, found in marked if found is not None}

    async def _finish(self, task: int, name: str, frames: Mapping[int, Marked], *, is_new: bool) -> None:
        """Add suggestions to frames that have none, and give the task its final name."""
        annotated = set[int]() if is_new else await self._annotated(task)
        shapes, tags = list[dict[str, Any]](), list[dict[str, Any]]()
        for frame, marked in sorted(frames.items()):
            if frame in annotated:
                continue
            suggested = self.recent.get(marked.digest) or await self.records.find(marked.store, marked.digest)
            if suggested is None:
                continue
            drawn: list[SuggestedBox | SuggestedMask] = [*suggested.boxes, *(suggested.masks or ())]
            shapes += (self._shape(frame, one) for one in drawn if one.label in self.labels)
            if suggested.label in self.labels:
                tags.append({"frame": frame, "label_id": self.labels[suggested.label], "source": "auto"})
            if len(shapes) + len(tags) >= _SHAPES:
                await self._create(task, shapes, tags)
                shapes, tags = [], []
        await self._create(task, shapes, tags)
        await self._json("PATCH", f"/api/tasks/{task}", json={"name": name.removesuffix(_UNFINISHED)})

    def _shape(self, frame: int, one: SuggestedBox | SuggestedMask) -> dict[str, Any]:
        plain = {"occluded": False, "outside": False, "z_order": 0, "attributes": [], "source": "auto"}
        what = {"frame": frame, "label_id": self.labels[one.label], "score": one.score}
        if isinstance(one, SuggestedBox):
            return {**what, **plain, "type": "rectangle", "points": list(one.sides), "rotation": one.angle or 0}
        # The runs are followed by the first and the last pixel of the bounding box.
        corners = (one.left, one.top, one.left + one.width - 1, one.top + one.height - 1)
        return {**what, **plain, "type": "mask", "points": [*one.runs, *corners], "rotation": 0}

    async def _create(self, task: int, shapes: Sequence[Any], tags: Sequence[Any]) -> None:
        """Create the shapes of whole frames with only one try, because a frame with some shapes counts as complete."""
        if shapes or tags:
            added = {"version": 0, "shapes": shapes, "tags": tags, "tracks": []}
            path, action = f"/api/tasks/{task}/annotations/", {"action": "create"}
            await self._json("PATCH", path, params=action, json=added, tries=1)

    async def _annotated(self, task: int) -> set[int]:
        found = await self._json("GET", f"/api/tasks/{task}/annotations/")
        return {_number(each, "frame") for kind in ("shapes", "tags") for each in _listed(found, kind)}

    async def _tasks(self) -> list[dict[str, Any]]:
        if self.kind == "task":
            return [await self._json("GET", f"/api/tasks/{self.number}")]
        return [each async for each in self._all("/api/tasks", project_id=str(self.number), sort="id")]

    async def _labels(self) -> dict[str, tuple[int, str]]:
        """Number and type of labels by name, without those with a parent, which are only points of a skeleton."""
        asked = {f"{self.kind}_id": str(self.number)}
        return {
            str(each.get("name", "")): (_number(each, "id"), str(each.get("type") or "any"))
            async for each in self._all("/api/labels", **asked)
            if not each.get("parent_id")
        }

    def _require(self, classes: Sequence[str], known: Mapping[str, tuple[int, str]]) -> None:
        """Raise ToolError when a class has no label of a fitting type."""
        if lacking := [name for name in classes if name not in self.labels]:
            kind = _KINDS[self.task]
            named = [
                f"{shown(name)}{f' (there it is a {known[name][1]})' if name in known else ''}" for name in lacking
            ]
            raise ToolError(
                f"{self.address} lacks labels of the type {kind}, or any, for {', '.join(named)}: add them on its page"
            )

    async def _all(self, path: str, **asked: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects on all pages of a list."""
        for page in range(1, _MOST_PAGES):
            found = await self._json("GET", path, params={**asked, "page": str(page), "page_size": str(_PAGE)})
            for each in _listed(found, "results"):
                yield each
            if not found.get("next"):
                return

    async def _json(self, method: str, path: str, **asked: Any) -> dict[str, Any]:
        return await self.calls.json(method, path, **self._told(asked))

    async def _answer(self, method: str, path: str, **asked: Any) -> Any:
        return await self.calls.answer(method, path, **self._told(asked))

    def _told(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        headers, params = asked.get("headers", {}), asked.get("params", {})
        return {**asked, "headers": {**_ACCEPT, **headers}, "params": {**self.organization, **params}}


def _offset(headers: Mapping[str, str]) -> int:
    value = headers.get("Upload-Offset", "0")
    return int(value) if value.isdigit() else 0


def _number(document: Mapping[str, Any], name: str) -> int:
    """An integer in a server's answer. Raises ToolError for anything else."""
    value = document.get(name)
    if type(value) is not int:
        raise ToolError(f"the server returned an object whose {name} is not a number; is the url that of CVAT?")
    return value


def _listed(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list, which may be missing. Raises ToolError for anything else."""
    found = document.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ToolError(f"the server returned {name} that are not a list of objects; is the url that of CVAT?")
    return found


def _labels_of(suggested: Suggested) -> set[str]:
    boxes, masks = suggested.boxes, suggested.masks or ()
    named = {box.label for box in boxes} | {mask.label for mask in masks}
    return named | ({suggested.label} if suggested.label else set())


def _suggested(suggestion: Suggestion, left_out: Counter[str]) -> Suggested:
    """The suggestion as it is stored; upright boxes are clipped to the image, shapes without area are left out and counted."""
    found = suggestion.found
    width, height = int(found["width"]), int(found["height"])
    about = {"model": suggestion.model, "task": found["task"], "width": width, "height": height}
    if found["task"] == Task.CLASSIFICATION:
        best = max(found["classes"], key=lambda one: one["probability"])
        return Suggested.model_validate({**about, "label": best["label"]})
    if found["task"] == Task.INSTANCE_SEGMENTATION:
        return Suggested.model_validate({**about, "masks": [*_masks(found["instances"], (height, width), left_out)]})
    if found["task"] == Task.ORIENTED_DETECTION:
        return Suggested.model_validate({**about, "boxes": [*_turned(found["detections"], left_out)]})
    boxes = []
    for each in found["detections"]:
        left, top, right, bottom = (
            round(min(max(float(side), 0.0), float(end)), 2)
            for side, end in zip(each["box"], (width, height, width, height), strict=True)
        )
        if right > left and bottom > top:
            boxes.append({"label": each["label"], "sides": (left, top, right, bottom), "score": _score(each)})
        else:
            left_out["boxes without area on their image"] += 1
    return Suggested.model_validate({**about, "boxes": boxes})


def _turned(detections: Iterable[Mapping[str, Any]], left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield boxes as they are before being turned around their center. They may extend beyond the image."""
    for each in detections:
        x, y, width, height, angle = map(float, each["box"])
        if min(width, height) < _THINNEST:
            left_out["boxes without area on their image"] += 1
            continue
        sides = [round(side, 2) for side in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)]
        turned = {"angle": round(angle, 2) % 360}
        yield {"label": each["label"], "sides": sides, "score": _score(each), **(turned if turned["angle"] else {})}


def _masks(
    instances: Iterable[Mapping[str, Any]], size: tuple[int, int], left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield masks as runs along the rows of their bounding boxes, the most confident first, as in the answer."""
    import numpy as np

    from pelagos_contract import run_lengths

    written = 0
    for each in instances:
        try:
            if tuple(each["mask"]["size"]) != size:
                raise ValueError("a mask does not fit its image")
            part = run_lengths.part_of(each["mask"]["counts"], size)
        except ValueError as error:
            raise ToolError(f"the model answers with {error}: import or train it again") from None
        flat = part.inside.ravel()
        if not flat.any():
            left_out["masks without pixels"] += 1
            continue
        ends: Any = np.flatnonzero(np.diff(flat, append=not flat[-1])) + 1
        # The first run is of pixels outside the mask, and may have length 0.
        runs = np.diff(ends, prepend=[0, 0] if flat[0] else [0]).tolist()
        written += len(runs)
        if written > suggestions.MOST_RUNS:
            left_out[f"masks beyond {suggestions.MOST_RUNS} runs of pixels in an image"] += 1
            continue
        height, width = part.inside.shape
        yield {
            "label": each["label"],
            "left": part.left,
            "top": part.top,
            "width": width,
            "height": height,
            "runs": runs,
            "score": _score(each),
        }


def _score(found: Mapping[str, Any]) -> float:
    return round(min(max(float(found["score"]), 0.0), 1.0), 4)


@asynccontextmanager
async def _open(secret: Mapping[str, str], records: Records) -> AsyncIterator[_Server]:
    kind = "task" if secret.get("task") else "project"
    if not secret[kind].isdigit():
        raise ToolError(f"the key {kind} of the Secret is {shown(secret[kind])!r}, and must be the {kind}'s number")
    if secret.get("token"):
        login = f"Bearer {secret['token']}"
    else:
        pair = f"{secret['username']}:{secret['password']}"
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def authorization(is_refused: bool) -> str:
        return "" if is_refused else login

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session:
        yield _Server(Calls(session, secret["url"], "CVAT", authorization), kind, int(secret[kind]), records)


TOOL = Tool(
    name="cvat",
    keys={"url": "address of the server"},
    choices=(
        ("project, or task (its number)", (("project",), ("task",))),
        ("token (a personal access token), or username and password", (("token",), ("username", "password"))),
    ),
    open=_open,
)
