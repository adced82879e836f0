"""A project, task or job of a CVAT server: exported there as "CVAT for images 1.1" with its images, downloaded, and unpacked.

Source: the server's own description of its API, ``cvat/schema.yml`` of cvat-ai/cvat, as of 2.80.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from pelagos_contract.annotation_tools import CvatSource
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import CVAT
from pelagos_contract.suggestions import Marked
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import Exclusion, Pushed, SourceFiles
from pelagos_pipelines.fetching import Credentials, FetchError, UnexpectedStatusError, Wanted, download, shown_url
from pelagos_pipelines.sources import fetched, services, suggested, volume
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Told

EXPORTED = "CVAT for images 1.1"
_ACCEPT = {"Accept": "application/vnd.cvat+json"}
_PAGE = 100
_PAUSES = (0.2, 15.0)
"""Seconds between questions whether an export is there: small ones are at once."""
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


class _Job(Told):
    """Somebody has gone through the images of one that is completed, or that is validated or accepted."""

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
    """The images of a task or a job; of a video there is one frame for all. Frames have the numbers of the task's."""

    size: _Count
    frames: list[_Frame] | None = None
    deleted_frames: tuple[int, ...] = ()
    included_frames: list[int] | None = None


class _Started(Told):
    rq_id: Annotated[str, Field(min_length=1, max_length=1000)]


class _Request(Told):
    status: Literal["queued", "started", "failed", "finished"]
    message: str = ""
    result_url: _Name | None = None


class _Server:
    """One that is asked for one thing."""

    def __init__(self, source: CvatSource, errand: Errand) -> None:
        self.client, self.base, self.store = errand.client, source.url, errand.store
        self.login = fetched.login(errand.secret, _credentials, errand)
        given = {"project": source.project, "task": source.task, "job": source.job}
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
        """Of all pages."""
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
        """Those of the project; none of anything else."""
        return [*self.all("/api/tasks", _Things, project_id=self.number)] if self.kind == "project" else []

    def jobs(self) -> list[_Job]:
        """Those in which people go through the images."""
        if self.kind == "job":
            return [self.get(f"/api/jobs/{self.number}", _Job)]
        return [*self.all("/api/jobs", _Jobs, **{f"{self.kind}_id": self.number})]

    def labels(self) -> list[tuple[int, str]]:
        return [
            (label.id, label.name) for label in self.all("/api/labels", _Labels, **{f"{self.kind}_id": self.number})
        ]


def look(source: CvatSource, errand: Errand) -> Origin:
    """By when it, its tasks and its labels were changed last, and which jobs are done."""
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


def fetch(source: CvatSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """The export, with all images. What changes meanwhile is seen by the next look."""
    server = _Server(source, errand)
    url = _exported(server)
    try:
        found = download(errand.client, Wanted(url, errand.scratch / "archive", server.login), errand.progress)
    except UnexpectedStatusError as error:
        if error.status not in {404, 410}:
            raise
        raise FetchError(f"the export of {server.words} of CVAT is gone before it was downloaded") from error
    tree = fetched.unpacked(f"the export of {server.words}", found.path, errand)
    tree = _compared(server, tree)
    return tree, fetched.counted(origin.model_copy(update={"bytes": found.size}), tree)


def _exported(server: _Server) -> str:
    """The address of an export of now."""
    path = f"/api/{server.kind}s/{server.number}/dataset/export"
    url = services.address(server.base, path)
    doing = f"waiting for the export of {server.words} of CVAT"

    def begun() -> _Started | None:
        asked: dict[str, Any] = {"login": server.login, "headers": _ACCEPT, "method": "POST", "body": b""}
        asked["params"] = {"format": EXPORTED, "save_images": "true"}
        answer = server.client.answer(url, expect=(202, 409), **asked)
        if answer.status == 409:  # one of the same kind is being made, of how it was some time ago
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


def _compared(server: _Server, tree: SourceFiles) -> SourceFiles:
    """With the images that the server has and did not export excluded by name; those that were deleted there do not count.

    And with what was suggested for images that we gave it.
    """
    things = server.tasks() if server.kind == "project" else [server.thing()]
    here = {name for path in tree.images for name in _names(path)}
    missing, count, ours = list[str](), 0, list[tuple[int, int, str]]()
    for thing in things:
        kind = "job" if server.kind == "job" else "task"
        meta = server.get(f"/api/{kind}s/{thing.id}/data/meta", _Meta, limit=services.LARGEST_LIST)
        gone = set(meta.deleted_frames)
        count += max(0, meta.size - len(gone))
        frames = meta.frames if meta.included_frames is None else None
        if frames is not None and len(frames) == meta.size:
            numbered = [*enumerate(frames, thing.start_frame)]
            missing += [each.name for number, each in numbered if number not in gone and _stem(each.name) not in here]
            ours += [(thing.id, number, each.name) for number, each in numbered if Marked.of(each.name) is not None]
    if ours:
        tree = _suggested(server, tree, ours)
    if missing:
        excluded = Exclusion.of(sorted({shown(name) for name in missing} - tree.known), ExclusionReason.NOT_FETCHED)
        return replace(tree, excluded=(*tree.excluded, *excluded))
    if len(tree.images) < count:
        warning = f"CVAT has {count} images in {server.words}, and exported {len(tree.images)}"
        return replace(tree, warnings=(*tree.warnings, warning))
    return tree


def _suggested(server: _Server, tree: SourceFiles, ours: Sequence[tuple[int, int, str]]) -> SourceFiles:
    """With what was suggested for images of ours, which are told by the task (or job), the number of the frame, and the name."""
    reviewed = set[tuple[int, int]]()
    for job in server.jobs():
        if job.is_done:
            of = job.id if server.kind == "job" else job.task_id
            reviewed |= {(of, number) for number in range(job.start_frame, min(job.stop_frame, volume.MAX_FILES) + 1)}
    marked = {name: Marked.of(name) for thing, number, name in ours if (thing, number) in reviewed}
    known = suggested.found(server.store, {name: found for name, found in marked.items() if found is not None})
    pushed = {name.rpartition("/")[2]: Pushed(known.get(name), name in marked) for _, _, name in ours}
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
    """Which frames an exported image may be: images of a subset lie in a folder of it, and suffixes may be others."""
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
