"""A project of a Label Studio server: its tasks with annotations and predictions, page by page, and their images.

Source: labelstud.io, "API reference", and a server 1.23. Exports are not used: formats other than JSON lose shapes, and JSON only
has the ids of predictions. The tasks are written in the form of a JSON export, with the local names of the images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, TypeVar

import orjson
from pydantic import Field

from pelagos_contract.annotation_tools import LabelStudioSource
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import LABEL_STUDIO
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import (
    Credentials,
    FetchError,
    UnexpectedStatusError,
    shown_url,
)
from pelagos_pipelines.sources import fetched, services, volume
from pelagos_pipelines.sources.pictures import LeftError, Pictures
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Told

Made = TypeVar("Made")
_LOOKED_AT, _READ = 500, 50
"""Tasks per page: without annotations, and with them."""
_LARGEST_PAGE = 2 * services.LARGEST_LIST
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""A personal access token; a legacy one has no dots."""
_IMAGE = re.compile(r"<(?:Image|HyperText)\b[^>]*>", re.IGNORECASE)
_VALUE = re.compile(r"\bvalue(?:List)?\s*=\s*[\"']\$(\w{1,200})", re.IGNORECASE)
_UPLOADED = re.compile(r"/data/upload/\d+/[0-9a-f]{8}-")
"""Paths of uploaded files, which are unique for each upload, so that a path always leads to the same image."""
_Count = Annotated[int, Field(ge=0)]


class _Project(Told):
    id: int
    title: Annotated[str, Field(max_length=10_000)] = ""
    label_config: str | None = ""


class _Row(Told):
    """A task without its data."""

    id: int
    updated_at: Annotated[str, Field(max_length=100)]
    total_annotations: _Count = 0
    cancelled_annotations: _Count = 0
    total_predictions: _Count = 0


class _Task(Told):
    id: int
    data: dict[str, Any]
    annotations: tuple[dict[str, Any], ...] = ()


class _Page(Told):
    total: _Count
    tasks: list[dict[str, Any]]


class _Access(Told):
    access: Annotated[str, Field(min_length=1, max_length=16_384)]


class _Server:
    """A client for one project."""

    def __init__(self, source: LabelStudioSource, errand: Errand) -> None:
        self.client, self.base, self.project = errand.client, source.url, source.project
        self._token = errand.secret.get("token", "").strip()
        self._errand = errand
        self._is_personal = _TOKEN.fullmatch(self._token) is not None
        # A personal token only serves to get access tokens, which expire after minutes and are then renewed.
        self._login = None if self._is_personal else fetched.login(errand.secret, _legacy, errand)

    def held(self, ask: Callable[[Credentials], Made]) -> Made:
        """The result of ``ask`` with valid credentials, which are renewed if the server rejects them."""
        try:
            return ask(self._login if self._login is not None else self._renewed())
        except UnexpectedStatusError as error:
            if error.status != 401 or not self._is_personal:
                raise
        return ask(self._renewed())

    def _renewed(self) -> Credentials:
        url = services.address(self.base, "/api/token/refresh")
        found = self.client.json(url, method="POST", body={"refresh": self._token})
        access = services.understood(self.client, url, _Access, found).access
        self._login = fetched.login({"token": access}, lambda given: Credentials.bearer(given["token"]), self._errand)
        return self._login

    def get(self, path: str, model: type[services.Model], **asked: Any) -> services.Model:
        url = services.address(self.base, path)
        found = self.held(lambda login: self.client.json(url, login=login, **asked))
        return services.understood(self.client, url, model, found)

    def about(self) -> _Project:
        return self.get(f"/api/projects/{self.project}", _Project)

    def tasks(
        self, model: type[services.Model], size: int, **params: Any
    ) -> Iterator[tuple[services.Model, dict[str, Any]]]:
        """Every task, as a model and as the original document.

        Raises FetchError when the tasks changed while the pages were read.
        """
        url = services.address(self.base, "/api/tasks")
        seen, page, expected = set[int](), 1, None
        while expected is None or len(seen) < expected:
            asked = {"project": self.project, "page": page, "page_size": size, **params}
            found = self.get("/api/tasks", _Page, params=asked, limit=_LARGEST_PAGE)
            if found.total > volume.MAX_FILES:
                raise self.client.invalid(url, f"has {found.total} tasks, allowed are {volume.MAX_FILES}: divide it")
            if expected not in (None, found.total) or (not found.tasks and found.total):
                raise FetchError(f"project {self.project} of Label Studio got other tasks while it was read")
            expected, page = found.total, page + 1
            for document in found.tasks:
                task: Any = services.understood(self.client, url, model, document)
                if task.id in seen:
                    raise FetchError(f"project {self.project} of Label Studio got other tasks while it was read")
                seen.add(task.id)
                yield task, document


def look(source: LabelStudioSource, errand: Errand) -> Origin:
    """The state by each task's last change and its numbers of annotations and predictions."""
    server = _Server(source, errand)
    project = server.about()
    rows = [row for row, _ in server.tasks(_Row, _LOOKED_AT)]
    state = services.state_of(
        [(r.id, r.updated_at, r.total_annotations, r.cancelled_annotations, r.total_predictions) for r in rows]
    )
    return Origin(
        url=shown_url(source.url),
        version=shown(f"project {source.project} ({project.title})")[:500],
        modified=shown(max((row.updated_at for row in rows), default="")) or None,
        state=state,
    )


def fetch(source: LabelStudioSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the tasks as a JSON export, and their images in ``images/``. Changes in the meantime are found by the next look."""
    server = _Server(source, errand)
    folder = errand.scratch / "project"
    folder.mkdir(parents=True)
    pictures = Pictures(source.url, server.held, errand, folder)
    keys = frozenset(_keys(server.about().label_config or ""))
    with (folder / f"project-{source.project}.json").open("xb") as file:
        _Export(server, pictures, keys).write(file)
    return pictures.collected(f"project {source.project}", origin)


@dataclass
class _Export:
    """Writes the tasks as an export; ``keys`` are the members of their data that are images."""

    server: _Server
    pictures: Pictures
    keys: frozenset[str]

    def write(self, file: BinaryIO) -> None:
        """Write task by task, with one page of tasks in memory."""
        file.write(b"[")
        is_first = True
        for task, document in self.server.tasks(_Task, _READ, fields="all"):
            try:
                data = {key: self._value(task, key, value) for key, value in task.data.items()}
            except LeftError as error:
                self.pictures.leave(f"task {task.id}", len(task.annotations), error)
                continue
            file.write(b"\n" if is_first else b",\n")
            file.write(orjson.dumps(document | {"data": data}))
            is_first = False
        file.write(b"]\n")

    def _value(self, task: _Task, key: str, value: Any) -> Any:
        """A value of a task's data, with images replaced by their local names."""
        if self.keys and key not in self.keys:
            return value
        if isinstance(value, list):
            return [self._value(task, key, each) for each in value]
        if not isinstance(value, str) or not (self.keys or services.is_image_name(_named(value))):
            return value
        url = services.rebased(self.server.base, value) if value.startswith("/") else value
        return self.pictures.bring(url, _named(value), str(task.id), is_fixed=_UPLOADED.match(value) is not None)


def _keys(configuration: str) -> Iterator[str]:
    """The keys of images in the labelling configuration."""
    for tag in _IMAGE.findall(configuration):
        yield from _VALUE.findall(tag)


def _named(place: str) -> str:
    """The name of an image in its URL."""
    return services.path_of(place).removeprefix("data/upload/")


def _legacy(secret: Mapping[str, str]) -> Credentials:
    return Credentials.scheme("Token", secret["token"])


PLACE = RemotePlace(LABEL_STUDIO, look, fetch)
