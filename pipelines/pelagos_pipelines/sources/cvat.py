"""A project, task or job of a CVAT server: exported as "CVAT for images 1.1" with its images, downloaded and unpacked.

Source: the server's API schema, ``cvat/schema.yml`` of cvat-ai/cvat, as of 2.80.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from pydantic import Field

from pelagos_contract.annotation_tools import CvatSource
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import CVAT
from pelagos_contract.suggestions import Marked
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import Exclusion, Pushed, SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.fetching import Credentials, FetchError, UnexpectedStatusError, Wanted, download, shown_url
from pelagos_pipelines.sources import fetched, services, suggested
from pelagos_pipelines.sources.kept import Seen
from pelagos_pipelines.sources.pictures import LARGEST_IMAGE
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Told

EXPORTED = "CVAT for images 1.1"
_ACCEPT = {"Accept": "application/vnd.cvat+json"}
_PAGE = 100
_PAUSES = (0.2, 15.0)
"""Shortest and longest seconds between polls for an export; small ones are ready at once."""
_NO_SUBSET = "default"
"""The folder for images without a subset, in the export of a project."""
_Count = Annotated[int, Field(ge=0)]
_Name = Annotated[str, Field(max_length=4096)]


class _Thing(Told):
    """A project, a task or a job. Jobs have no name."""

    id: int
    name: _Name = ""
    updated_date: _Name
    dimension: _Name | None = None
    size: _Count = 0
    start_frame: _Count = 0
    subset: str = ""


class _Job(Told):
    """A job. Its images count as reviewed if it is completed, or in the stage of validation or acceptance."""

    id: int
    task_id: int
    start_frame: _Count
    stop_frame: _Count
    state: _Name = "new"
    stage: _Name = "annotation"
    type: _Name = "annotation"

    @property
    def is_done(self) -> bool:
        return self.type == "annotation" and (self.state == "completed" or self.stage != "annotation")


class _Label(Told):
    id: int
    name: _Name


class _Page(Told):
    next: _Name | None = None
    results: Sequence[Told]


class _Things(_Page):
    results: list[_Thing]


class _Labels(_Page):
    results: list[_Label]


class _Jobs(_Page):
    results: list[_Job]


class _Frame(Told):
    name: _Name


class _Meta(Told):
    """The images of a task or job; a video has one frame entry for all. Frame numbers are those of the task."""

    size: _Count
    frames: list[_Frame] | None = None
    deleted_frames: tuple[int, ...] = ()
    included_frames: list[int] | None = None
    chunks_updated_date: _Name = ""
    """When the images were last changed, not counting annotations."""

    def numbered(self, first: int) -> list[tuple[int, str]] | None:
        """The number and name of each image of a task, or of a job that begins with frame ``first``; None without names."""
        if self.frames is None or self.included_frames is not None or len(self.frames) != self.size:
            return None
        return [(number, each.name) for number, each in enumerate(self.frames, first)]


class _Started(Told):
    rq_id: Annotated[str, Field(min_length=1, max_length=1000)]


class _Request(Told):
    status: Literal["queued", "started", "failed", "finished"]
    message: str = ""
    result_url: _Name | None = None


class _Server:
    """A client for one project, task or job."""

    def __init__(self, source: CvatSource, errand: Errand) -> None:
        self.client, self.base, self.store = errand.client, source.url, errand.kept.store
        self.login = fetched.login(errand.secret, _credentials, errand)
        given = {"project": source.project, "task": source.task, "job": source.job}
        self._metas: dict[tuple[str, int], _Meta] = {}
        self._parts: list[_Thing] | None = None
        self.kind, self.number = next((kind, number) for kind, number in given.items() if number is not None)

    @property
    def words(self) -> str:
        return f"{self.kind} {self.number}"

    def get(self, path: str, model: type[services.Model], **asked: Any) -> services.Model:
        url = services.address(self.base, path)
        return services.understood(
            self.client, url, model, self.client.json(url, login=self.login, headers=_ACCEPT, **asked)
        )

    def all(self, path: str, model: type[_Page], **params: Any) -> Iterator[Any]:
        """The entries of all pages."""
        url = services.address(self.base, path)
        params |= {"page_size": _PAGE, "sort": "id"}

        def following(document: Any) -> str | None:
            found = services.understood(self.client, url, model, document).next
            return services.rebased(self.base, found) if found else None

        for document in self.client.pages(url, following, params=params, login=self.login, headers=_ACCEPT):
            yield from services.understood(self.client, url, model, document).results

    def thing(self) -> _Thing:
        return self.get(f"/api/{self.kind}s/{self.number}", _Thing)

    def tasks(self) -> list[_Thing]:
        """The tasks of a project; empty for a task or job."""
        return [*self.all("/api/tasks", _Things, project_id=self.number)] if self.kind == "project" else []

    def parts(self) -> Iterator[tuple[str, _Thing]]:
        """The things with images: the job, or all tasks, cached from the first request."""
        if self._parts is None:
            self._parts = self.tasks() if self.kind == "project" else [self.thing()]
        return ((("job" if self.kind == "job" else "task"), each) for each in self._parts)

    def meta(self, kind: str, number: int) -> _Meta:
        """The images of a task or job, cached from the first request."""
        if (kind, number) not in self._metas:
            path = f"/api/{kind}s/{number}/data/meta"
            self._metas[kind, number] = self.get(path, _Meta, limit=services.LARGEST_LIST)
        return self._metas[kind, number]

    def jobs(self) -> list[_Job]:
        """The jobs in which people review the images."""
        if self.kind == "job":
            return [self.get(f"/api/jobs/{self.number}", _Job)]
        return [*self.all("/api/jobs", _Jobs, **{f"{self.kind}_id": self.number})]

    def labels(self) -> list[tuple[int, str]]:
        return [
            (label.id, label.name) for label in self.all("/api/labels", _Labels, **{f"{self.kind}_id": self.number})
        ]


def look(source: CvatSource, errand: Errand) -> Origin:
    """The state by the last changes of it, its tasks and labels, and by which jobs are done."""
    server = _Server(source, errand)
    thing, tasks = server.thing(), server.tasks()
    for each in (thing, *tasks):
        if each.dimension == "3d":
            what = server.words if each is thing else f"task {each.id} of {server.words}"
            raise RefusedError(
                Reason.FORMAT_INVALID,
                f"{what} holds point clouds, and no images: name another one",
                errand.client.field,
            )
    parts = [(each.id, each.updated_date, each.size) for each in tasks]
    done = [job.id for job in server.jobs() if job.is_done]
    return Origin(
        url=shown_url(source.url),
        version=shown(f"{server.words}{f' ({thing.name})' if thing.name else ''}")[:500],
        modified=shown(max([thing.updated_date, *(each.updated_date for each in tasks)]))[:500],
        state=services.state_of(thing.updated_date, parts, server.labels(), *([done] if done else ())),
    )


@dataclass(frozen=True)
class _Image:
    """An image of a task: its path in an export, its key in `Kept`, and the state of the task."""

    task: int
    number: int
    path: str
    key: str
    state: str


def fetch(source: CvatSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the export, with images that the store does not have yet. Changes in the meantime are found by the next look."""
    server = _Server(source, errand)
    pushed = _pushed(server)
    images = _images(server)
    # Unreviewed images are not needed; they are fetched once somebody has reviewed them.
    wanted = [image for image in images if not _waits(image.path, pushed)]
    seen = {image: found for image in wanted if (found := errand.kept.find(image.key, image.state)) is not None}
    # An export with all images is one request; single images take one each, which only pays off if few are missing.
    is_little = bool(wanted) and 2 * (len(wanted) - len(seen)) <= len(images)
    added = list[int]()

    def complete(folder: Path) -> None:
        if is_little:
            added.append(_complete(server, errand, folder, wanted, seen))

    tree, size = _downloaded(server, errand, complete, with_images=not is_little)
    for image in images:
        if image.path in tree.known:
            errand.kept.note(image.key, image.path, state=image.state)
    tree = _told(_compared(server, tree, pushed), pushed)
    return tree, fetched.counted(origin.model_copy(update={"bytes": size + sum(added)}), tree)


def _images(server: _Server) -> list[_Image]:
    """The images of all tasks; empty if a task has images with other names in an export, or with unsafe names."""
    if server.kind == "job":
        return []
    found = list[_Image]()
    for _, task in server.parts():
        meta = server.meta("task", task.id)
        numbered = meta.numbered(0)
        if numbered is None:
            return []
        gone = set(meta.deleted_frames)
        folder = f"images/{task.subset or _NO_SUBSET}/" if server.kind == "project" else "images/"
        for number, name in numbered:
            path = f"{folder}{name}"
            if not _is_plain(path):
                return []
            if number not in gone:
                key = f"{server.base} task {task.id} frame {number} {name}"
                found.append(_Image(task.id, number, path, key, meta.chunks_updated_date))
    return found if len({image.path for image in found}) == len(found) else []


def _is_plain(path: str) -> bool:
    parts = path.split("/")
    return path.isprintable() and all(
        part not in {"", ".", ".."} and not part.startswith(".") and len(os.fsencode(part)) <= 255 for part in parts
    )


def _complete(
    server: _Server, errand: Errand, folder: Path, images: Sequence[_Image], seen: Mapping[_Image, Seen]
) -> int:
    """Add the images to an export of annotations, from the store or one by one; returns the downloaded bytes."""
    size = 0
    for image in images:
        target = folder / image.path
        if image in seen and errand.kept.bring(seen[image], target):
            continue
        url = services.address(server.base, f"/api/tasks/{image.task}/data")
        url = f"{url}?{urlencode({'type': 'frame', 'number': image.number, 'quality': 'original'})}"
        try:
            size += download(server.client, Wanted(url, target, server.login, limit=LARGEST_IMAGE)).size
        except UnexpectedStatusError as error:
            if error.status in {401, 403}:
                raise
            continue  # The comparison with the server's images reports it.
        errand.progress(size, 0)
    return size


def _downloaded(
    server: _Server, errand: Errand, complete: Callable[[Path], None], *, with_images: bool
) -> tuple[SourceFiles, int]:
    """Download an export; returns its files and its size in bytes."""
    url = _exported(server, with_images=with_images)
    try:
        found = download(errand.client, Wanted(url, errand.scratch / "archive", server.login), errand.progress)
    except UnexpectedStatusError as error:
        if error.status not in {404, 410}:
            raise
        raise FetchError(f"the export of {server.words} of CVAT is gone before it was downloaded") from error
    return fetched.unpacked(f"the export of {server.words}", found.path, errand, complete), found.size


def _exported(server: _Server, *, with_images: bool) -> str:
    """Request a new export; returns its address."""
    path = f"/api/{server.kind}s/{server.number}/dataset/export"
    url = services.address(server.base, path)
    doing = f"waiting for the export of {server.words} of CVAT"

    def begun() -> _Started | None:
        asked: dict[str, Any] = {"login": server.login, "headers": _ACCEPT, "method": "POST", "body": b""}
        asked["params"] = {"format": EXPORTED, "save_images": "true" if with_images else "false"}
        answer = server.client.answer(url, expect=(202, 409), **asked)
        if answer.status == 409:  # an earlier export is in progress, which has an older state: try again after it
            return None
        return services.understood(server.client, url, _Started, server.client.parsed(answer))

    started = server.client.poll(begun, doing, _PAUSES)

    def finished() -> _Request | None:
        request = server.get(f"/api/requests/{quote(started.rq_id, safe='')}", _Request)
        return request if request.status in {"failed", "finished"} else None

    request = server.client.poll(finished, doing, _PAUSES)
    if request.status == "failed" or not request.result_url:
        why = shown(request.message)[:300] or "it does not say why"
        raise server.client.invalid(url, f"could not export {server.words}: {why}")
    return services.rebased(server.base, request.result_url)


def _compared(server: _Server, tree: SourceFiles, pushed: Mapping[str, Pushed]) -> SourceFiles:
    """Exclude by name the images that the server has but did not export; images deleted there do not count."""
    here = {name for path in tree.images for name in _names(path)}
    missing, count = list[str](), 0
    for kind, thing in server.parts():
        meta = server.meta(kind, thing.id)
        gone = set(meta.deleted_frames)
        count += max(0, meta.size - len(gone))
        for number, name in meta.numbered(thing.start_frame) or ():
            if number not in gone and _stem(name) not in here:
                if _waits(name, pushed):
                    count -= 1
                else:
                    missing.append(name)
    if missing:
        names = sorted({shown(name) for name in missing} - tree.known)
        told = f"CVAT did not give {len(names)} images, which are left out with what is drawn on them: {format_names(names)}"
        excluded = (*tree.excluded, *Exclusion.of(names, ExclusionReason.NOT_FETCHED))
        return replace(tree, excluded=excluded, warnings=(*tree.warnings, *([told] if names else ())))
    if len(tree.images) < count:
        warning = f"CVAT has {count} images in {server.words}, and exported {len(tree.images)}"
        return replace(tree, warnings=(*tree.warnings, warning))
    return tree


def _pushed(server: _Server) -> dict[str, Pushed]:
    """The images that were pushed from here, by their names: the suggestion, and whether the image's job is done."""
    ours = [
        (thing.id, number, name)
        for kind, thing in server.parts()
        for number, name in server.meta(kind, thing.id).numbered(thing.start_frame) or ()
        if Marked.of(name) is not None
    ]
    done = _Done()
    for job in server.jobs() if ours else ():
        if job.is_done:
            done.add(job.id if server.kind == "job" else job.task_id, job.start_frame, job.stop_frame)
    marked = {name: Marked.of(name) for thing, number, name in ours if done.has(thing, number)}
    known = suggested.found(server.store, {name: found for name, found in marked.items() if found is not None})
    return {name.rpartition("/")[2]: Pushed(known.get(name), name in marked) for _, _, name in ours}


class _Done:
    """Reviewed frames. Only the bounds of jobs are stored, since a server may report any number of jobs with any frames."""

    def __init__(self) -> None:
        self._ends: dict[int, dict[int, int]] = {}
        """By task (or job): the last frame of each part by its first."""
        self._starts: dict[int, list[int]] = {}

    def add(self, thing: int, first: int, last: int) -> None:
        ends = self._ends.setdefault(thing, {})
        ends[first] = max(last, ends.get(first, last))
        self._starts.pop(thing, None)

    def has(self, thing: int, number: int) -> bool:
        ends = self._ends.get(thing, {})
        if thing not in self._starts:
            self._starts[thing] = starts = sorted(ends)
            # Running maximum, so that the last part that begins before a frame reaches as far as any earlier one.
            for before, start in pairwise(starts):
                ends[start] = max(ends[start], ends[before])
        place = bisect_right(self._starts[thing], number)
        return place > 0 and number <= ends[self._starts[thing][place - 1]]


def _waits(name: str, pushed: Mapping[str, Pushed]) -> bool:
    found = pushed.get(name.rpartition("/")[2])
    return found is not None and not found.is_reviewed


def _told(tree: SourceFiles, pushed: Mapping[str, Pushed]) -> SourceFiles:
    """Add the suggestions, and the warnings about them."""
    warnings = list(tree.warnings)
    if lost := sum(each.is_reviewed and each.suggested is None for each in pushed.values()):
        warnings.append(
            f"what was suggested for {lost} images is in no store of the namespace, and is not compared with them"
        )
    if waiting := sum(not each.is_reviewed for each in pushed.values()):
        warnings.append(
            f"{waiting} images with suggestions are in jobs that nobody has finished yet: finish them in CVAT"
        )
    return replace(tree, pushed=pushed, warnings=tuple(warnings))


def _names(path: str) -> Iterator[str]:
    """Possible frame names of an exported image: it may be in a folder of its subset and have another suffix."""
    _, _, name = path.partition("images/")
    yield _stem(name)
    yield _stem(name.partition("/")[2])


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name


def _credentials(secret: Mapping[str, str]) -> Credentials:
    if "token" in secret:
        return Credentials.bearer(secret["token"])
    return Credentials.basic(secret["username"].strip(), secret["password"].strip())


PLACE = RemotePlace(CVAT, look, fetch)
