"""A project of a Label Studio server: its tasks, page by page with annotations and predictions, and the images that they show.

Source: labelstud.io, "API reference", and a server 1.23. Not its exports: those in other formats than JSON lose shapes, and the
one in JSON has no predictions but their numbers. What is read is written as such an export, with the images under the names that
they have here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar
from urllib.parse import urljoin

import orjson
from pydantic import Field

from pelagos_contract.annotation_tools import LabelStudioSource
from pelagos_contract.beneath import Folder
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import LABEL_STUDIO
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.fetching import (
    Credentials,
    Fetched,
    FetchError,
    UnexpectedStatusError,
    Wanted,
    download,
    shown_url,
)
from pelagos_pipelines.sources import fetched, services, volume
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Names, Told

Made = TypeVar("Made")
LARGEST_IMAGE = 2**32
_LOOKED_AT, _READ = 500, 50
"""Tasks of a page: without what people drew, and with it."""
_LARGEST_PAGE = 2 * services.LARGEST_LIST
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""A personal access token; a legacy one has no dots."""
_IMAGE = re.compile(r"<(?:Image|HyperText)\b[^>]*>", re.IGNORECASE)
_VALUE = re.compile(r"\bvalue(?:List)?\s*=\s*[\"']\$(\w{1,200})", re.IGNORECASE)
_AT = re.compile(r"https?://|/")
"""What an image's place begins with, if it can be asked for."""
_Count = Annotated[int, Field(ge=0)]


class _Project(Told):
    id: int
    title: Annotated[str, Field(max_length=10_000)] = ""
    label_config: str | None = ""


class _Row(Told):
    """A task, without what it shows."""

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
    """One that is asked for one project."""

    def __init__(self, source: LabelStudioSource, errand: Errand) -> None:
        self.client, self.base, self.project = errand.client, source.url, source.project
        self._token = errand.secret.get("token", "").strip()
        self._errand = errand
        self._is_personal = _TOKEN.fullmatch(self._token) is not None
        # A personal one is for renewing alone; what it gives is good for minutes, and renewed when it is not.
        self._login = None if self._is_personal else fetched.login(errand.secret, _legacy, errand)

    def held(self, ask: Callable[[Credentials], Made]) -> Made:
        """What ``ask`` gives with a login that is good now."""
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
        """Every task, as it is understood and as it came.

        Raises FetchError when there are others at the end than at the beginning.
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
    """By when each task was changed last, and how many annotations and predictions it has."""
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
    """The tasks as a JSON export, and their images in ``images/``. What changes meanwhile is seen by the next look."""
    server = _Server(source, errand)
    folder = errand.scratch / "project"
    folder.mkdir(parents=True)
    work = _Work(server, errand, folder, frozenset(_keys(server.about().label_config or "")))
    with (folder / f"project-{source.project}.json").open("xb") as file:
        work.write(file)
    if work.left and not work.images:
        raise RefusedError(Reason.SOURCE_INVALID, f"no image could be fetched: {work.said}", errand.client.field)
    tree = volume.collected(f"project {source.project}", Folder(folder), folder, errand.client.field)
    excluded = Exclusion.of((name for name, _, _ in work.left), ExclusionReason.NOT_FETCHED)
    warnings = (f"images could not be fetched, and their tasks are left out: {work.said}",) if work.left else ()
    tree = replace(tree, excluded=(*tree.excluded, *excluded), warnings=(*tree.warnings, *warnings))
    return tree, fetched.counted(origin.model_copy(update={"bytes": work.done}), tree)


class _LeftError(Exception):
    """An image cannot be had, and why."""


@dataclass
class _Work:
    """What has been brought so far. ``left``: an image, the annotations of its task, and why it is not there."""

    server: _Server
    errand: Errand
    folder: Path
    keys: frozenset[str]
    names: Names = field(default_factory=Names)
    left: list[tuple[str, int, str]] = field(default_factory=list)
    images: int = 0
    done: int = 0

    def write(self, file: BinaryIO) -> None:
        """The export, task by task; memory holds a page of them."""
        file.write(b"[")
        is_first = True
        for task, document in self.server.tasks(_Task, _READ, fields="all"):
            try:
                data = self._data(task)
            except _LeftError as error:
                name = shown(f"task {task.id}: {error.args[0]}")[:400]
                self.left.append((name, len(task.annotations), str(error.args[1])))
                continue
            file.write(b"\n" if is_first else b",\n")
            file.write(orjson.dumps(document | {"data": data}))
            is_first = False
        file.write(b"]\n")

    @property
    def said(self) -> str:
        """Of those that are left out."""
        reasons = "; ".join(
            f"{count} since {why}" for why, count in Counter(why for *_, why in self.left).most_common(3)
        )
        drawn = sum(count for _, count, _ in self.left)
        return f"{reasons} (with {drawn} annotations): {format_names(name for name, _, _ in self.left)}"

    def _data(self, task: _Task) -> dict[str, Any]:
        """What the task shows, with the names that its images have here."""
        return {key: self._value(task, value) if self._is_image(key) else value for key, value in task.data.items()}

    def _is_image(self, key: str) -> bool:
        return not self.keys or key in self.keys

    def _value(self, task: _Task, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(task, each) for each in value]
        if not isinstance(value, str) or not (self.keys or services.is_image_name(_named(value))):
            return value
        return self._brought(task, value)

    def _brought(self, task: _Task, place: str) -> str:
        """The name of the image at a place, once it is here."""
        told = shown_url(place)
        if place.startswith("data:"):
            raise _LeftError("an image within its task", "images that are written into tasks are not read")
        if _AT.match(place) is None:
            scheme = shown(place.partition("://")[0])[:20]
            why = f"{scheme}:// is storage that only its server can read" if "://" in place else "it is no address"
            raise _LeftError(told, f"{why}: have Label Studio serve it, or use the storage as the source")
        url = urljoin(f"{self.server.base.rstrip('/')}/", place)
        target = self.errand.scratch / "image"
        try:
            found = self._download(url, lambda login: Wanted(url, target, login, limit=LARGEST_IMAGE))
        except UnexpectedStatusError as error:
            raise _LeftError(told, f"its server answers with HTTP {error.status}") from error
        name = self.names.claim(f"images/{services.image_name(_named(place), found.path)}", str(task.id))
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        found.path.rename(self.folder / name)
        self.images += 1
        self.done += found.size
        self.errand.progress(self.done, 0)
        return name

    def _download(self, url: str, wanted: Callable[[Credentials], Wanted]) -> Fetched:
        """With the login only where it is the server's own."""
        client = self.server.client
        if services.is_below(self.server.base, url):
            return self.server.held(lambda login: download(client, wanted(login)))
        return download(client, wanted(Credentials()))


def _keys(configuration: str) -> Iterator[str]:
    """Under which the configuration of the labelling has images."""
    for tag in _IMAGE.findall(configuration):
        yield from _VALUE.findall(tag)


def _named(place: str) -> str:
    """What an image is called at its place."""
    return services.path_of(place).removeprefix("data/upload/")


def _legacy(secret: Mapping[str, str]) -> Credentials:
    return Credentials.scheme("Token", secret["token"])


PLACE = RemotePlace(LABEL_STUDIO, look, fetch)
