"""Label Studio: images are uploaded to a project, and a model's answers are stored as predictions for their tasks.

An image is recognized by its file name, which begins with the digest of its content: a task from an interrupted push is found and
completed, never created twice.
Source: labelstud.io/api (version 1.23): import, tasks, predictions, token refresh; docs, "Import pre-annotations".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from xml.sax.saxutils import quoteattr

import aiohttp

from pelagos.cli.annotating.calls import Calls
from pelagos.cli.annotating.tool import Records, Suggestion, Tool, ToolError
from pelagos_contract.tasks import Task
from pelagos_contract.text import shown

_PAGE = 500
_MOST_PAGES = 10_000
_TIMEOUT = 60.0
_IDENTITY = re.compile(r"pelagos-([0-9a-f]{32})-")
_CONTROLS: Mapping[str, str] = {
    Task.DETECTION: "RectangleLabels",
    Task.CLASSIFICATION: "Choices",
    Task.ORIENTED_DETECTION: "RectangleLabels",
    Task.INSTANCE_SEGMENTATION: "BrushLabels",
}
"""The tag of the labelling interface for each task's suggestions."""
_PERCENT = 100.0
_MOST_PIXELS = 100_000_000
"""Largest image whose masks are written in brush format: the limit of the served models."""


class _Server:
    """A project on a server, accessed with a personal access token or a legacy token."""

    def __init__(self, session: aiohttp.ClientSession, url: str, project: int, token: str) -> None:
        self._calls = Calls(session, url, "Label Studio", self._login)
        self._session, self._project, self._token = session, project, token
        self._is_personal = token.count(".") == 2
        self._access = "" if self._is_personal else f"Token {token}"
        self._control: tuple[str, str] | None = None
        self._tasks: dict[str, tuple[int, bool]] = {}
        self.left_out: Counter[str] = Counter()

    @property
    def address(self) -> str:
        return f"{self._calls.url}/projects/{self._project}"

    async def prepare(self, task: str, classes: Sequence[str]) -> None:
        kind = _CONTROLS.get(task)
        if kind is None:
            raise ToolError(f"suggestions for {task} are not supported, only for {', '.join(_CONTROLS)}")
        project = await self._calls.json("GET", f"/api/projects/{self._project}/")
        controls = project.get("parsed_label_config") or {}
        if not controls:
            config = _interface(kind, classes)
            project = await self._calls.json("PATCH", f"/api/projects/{self._project}/", json={"label_config": config})
            controls = project.get("parsed_label_config") or {}
        fitting = {name: control for name, control in controls.items() if control.get("type") == kind}
        if len(fitting) != 1:
            raise ToolError(
                f"the labelling interface of {self.address} has {len(fitting)} tags {kind}, and one is needed for {task}: correct"
                " it in the project's settings, or name an empty project"
            )
        name, control = next(iter(fitting.items()))
        lacking = sorted(set(classes) - set(control.get("labels") or ()))
        if lacking:
            raise ToolError(
                f"the tag {name} of the labelling interface of {self.address} lacks {', '.join(map(shown, lacking))}: add them in"
                " the project's settings"
            )
        self._control = name, str((control.get("to_name") or ["image"])[0])

    async def known(self, identities: Iterable[str]) -> set[str]:
        wanted = set(identities)
        for page in range(1, _MOST_PAGES):
            asked = {"project": str(self._project), "page": str(page), "page_size": str(_PAGE), "fields": "all"}
            answer = await self._calls.json("GET", "/api/tasks/", params=asked, missing={404: {"tasks": []}})
            listed = answer.get("tasks") or []
            for task in listed:
                self._note(task)
            if len(listed) < _PAGE:
                break
        return {identity for identity in wanted if self._tasks.get(identity, (0, False))[1]}

    def _note(self, task: Mapping[str, Any]) -> None:
        """Remember a task of ours. Of several for one image the first counts: the others were created by hand."""
        texts = [str(value) for value in (task.get("data") or {}).values() if isinstance(value, str)]
        found = next((match for text in texts if (match := _IDENTITY.search(text))), None)
        if found is not None:
            has_any = any(
                task.get(name) for name in ("total_predictions", "total_annotations", "predictions", "annotations")
            )
            self._tasks.setdefault(found[1], (int(task["id"]), has_any))

    async def add(self, suggestions: Sequence[Suggestion], added: Callable[[int], None]) -> None:
        for suggestion in suggestions:
            await self._add(suggestion)
            added(1)

    async def _add(self, suggestion: Suggestion) -> None:
        task, _ = self._tasks.get(suggestion.identity, (None, False))
        if task is None:
            task = await self._upload(suggestion)
        assert self._control is not None
        body = {
            "task": task,
            "model_version": suggestion.model,
            "score": round(suggestion.score, 6),
            "result": list(_results(suggestion, self._control, self.left_out)),
        }
        await self._calls.json("POST", "/api/predictions/", json=body)
        self._tasks[suggestion.identity] = task, True

    async def _upload(self, suggestion: Suggestion) -> int:
        form = aiohttp.FormData()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", suggestion.name.rpartition("/")[2])[-80:]
        form.add_field("file", await suggestion.read(), filename=f"pelagos-{suggestion.identity}-{plain}")
        asked = {"commit_to_project": "true", "return_task_ids": "true"}
        path = f"/api/projects/{self._project}/import"
        answer = await self._calls.json("POST", path, params=asked, data=form, tries=1)
        found = answer.get("task_ids") or []
        if len(found) != 1:
            raise ToolError(f"{self._calls.url} created {len(found)} tasks for one image, {suggestion.name}")
        return int(found[0])

    async def _login(self, is_refused: bool) -> str:
        """The Authorization header. A personal access token is exchanged for access tokens that last a few minutes."""
        if not self._is_personal:
            return "" if is_refused else self._access
        if is_refused or not self._access:
            self._access = f"Bearer {await self._renewed()}"
        return self._access

    async def _renewed(self) -> str:
        url = self._calls.url
        try:
            async with self._session.post(f"{url}/api/token/refresh", json={"refresh": self._token}) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ToolError(f"{url} cannot be reached: {error or type(error).__name__}") from error
        if answer.status >= 400:
            raise ToolError(
                f"{url} refuses the token ({answer.status}): create a new personal access token (Account & Settings), and "
                "put it into the Secret"
            )
        return str(self._calls.parsed(content, "the token").get("access", ""))


def _results(suggestion: Suggestion, control: tuple[str, str], left_out: Counter[str]) -> Iterable[dict[str, Any]]:
    """The regions of a prediction, in percent of the image; suggestions without a matching region are counted."""
    found = suggestion.found
    sizes = {"original_width": found["width"], "original_height": found["height"], "image_rotation": 0}
    named = {"from_name": control[0], "to_name": control[1]}
    if found["task"] == Task.CLASSIFICATION:
        best = max(found["classes"], key=lambda one: one["probability"])
        chosen: dict[str, Any] = {"choices": [best["label"]]}
        yield {"id": "class", "type": "choices", **named, "value": chosen, "score": best["probability"]}
        return
    is_brush = found["task"] == Task.INSTANCE_SEGMENTATION
    kind = "brushlabels" if is_brush else "rectanglelabels"
    for number, one in enumerate(found["instances" if is_brush else "detections"]):
        value = _painted(one, found, left_out) if is_brush else _rectangle(one, found)
        if value is not None:
            region = {"id": f"p{number}", "type": kind, **named, **sizes, "value": {**value, kind: [one["label"]]}}
            yield {**region, "score": one["score"]}


def _rectangle(one: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The region of a box; a turned box has its own length and width, and is rotated around its first corner."""
    if found["task"] == Task.ORIENTED_DETECTION:
        (left, top), (_, _, across, down, angle) = one["corners"][0], one["box"]
    else:
        left, top, right, bottom = one["box"]
        across, down, angle = right - left, bottom - top, 0
    width, height = found["width"], found["height"]
    return {
        "x": _PERCENT * left / width,
        "y": _PERCENT * top / height,
        "width": _PERCENT * across / width,
        "height": _PERCENT * down / height,
        "rotation": angle,
    }


def _painted(one: Mapping[str, Any], found: Mapping[str, Any], left_out: Counter[str]) -> dict[str, Any] | None:
    """The region of a mask in brush format."""
    import numpy as np

    from pelagos_contract import brushes, run_lengths

    size = int(found["height"]), int(found["width"])
    if size[0] * size[1] > _MOST_PIXELS:
        left_out[f"masks of images of more than {_MOST_PIXELS // 1_000_000} million pixels"] += 1
        return None
    try:
        if tuple(one["mask"]["size"]) != size:
            raise ValueError("a mask does not fit its image")
        part = run_lengths.part_of(one["mask"]["counts"], size)
    except ValueError as error:
        raise ToolError(f"the model answers with {error}: import or train it again") from None
    height, width = part.inside.shape
    if not part.inside.any():
        left_out["masks without pixels"] += 1
        return None
    painted: Any = np.zeros(size, bool)
    painted[part.top : part.top + height, part.left : part.left + width] = part.inside
    return {"format": "rle", "rle": brushes.encoded(painted)}


def _interface(kind: str, classes: Sequence[str]) -> str:
    """A labelling interface for an empty project."""
    inner = "Choice" if kind == "Choices" else "Label"
    listed = "".join(f"<{inner} value={quoteattr(name)}/>" for name in classes)
    return f'<View><Image name="image" value="$image"/><{kind} name="label" toName="image">{listed}</{kind}></View>'


@asynccontextmanager
async def _open(secret: Mapping[str, str], _: Records) -> AsyncIterator[_Server]:
    if not secret["project"].isdigit():
        raise ToolError(
            f"the key project of the Secret is {shown(secret['project'])!r}, and must be the project's number"
        )
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT), auto_decompress=True) as session:
        yield _Server(session, secret["url"], int(secret["project"]), secret["token"])


TOOL = Tool(
    name="labelStudio",
    keys={
        "url": "address of the server",
        "project": "number of the project",
        "token": "personal access token (Account & Settings)",
    },
    open=_open,
)
