"""A project of Labelbox: exported as NDJSON by its GraphQL API, with the images and masks that the lines name.

Source: labelbox 7.17.0, ``schema/project.py``, ``schema/task.py`` and ``schema/export_task.py``. An export has several parts with
URLs that need no key, like those of images; masks are at URLs of the API that need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, BinaryIO, Literal

import orjson
from pydantic import Field

from pelagos_contract.annotation_tools import LabelboxSource
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import LABELBOX
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import Credentials, FetchError, Wanted, download, shown_url
from pelagos_pipelines.sources import fetched, services
from pelagos_pipelines.sources.pictures import LeftError, Pictures
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Told

_PAUSES = (0.2, 15.0)
_LONGEST_LINE = 16 * 2**20
"""Most bytes of a line, as in the reader of the format."""
_MOST_PARTS = 100_000
_IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REASONS = {
    "UNAUTHENTICATED": Reason.SOURCE_ACCESS_DENIED,
    "FORBIDDEN": Reason.SOURCE_ACCESS_DENIED,
    "RESOURCE_NOT_FOUND": Reason.SOURCE_NOT_FOUND,
}
"""Reasons and messages by error code."""
_PROJECT = "query($id: ID!){project(where: {id: $id}){id name updatedAt lastActivityTime dataRowCount}}"
_EXPORT = "mutation($input: ExportDataRowsInProjectInput!){exportDataRowsInProject(input: $input){taskId isStreamable}}"
_USER = "query{user{id}}"
_TASK = (
    "query($user: ID!, $task: ID!)"
    "{user(where: {id: $user}){createdTasks(where: {id: $task} skip: 0 first: 1){status errors}}}"
)
_OF_TASK = "query($where: WhereUniqueIdInput, $streamType: TaskStreamType!"
_HEADER = f"{_OF_TASK}){{task(where: $where){{exportMetadataHeader(streamType: $streamType){{totalSize totalLines}}}}}}"
_PART = (
    f"{_OF_TASK}, $offset: UInt64!){{task(where: $where){{exportFileFromOffset(streamType: $streamType, offset: $offset)"
    "{offsets {start end} lines {start end} file}}}"
)
_INCLUDED = {
    "mediaTypeOverride": None,
    "includeAttachments": False,
    "includeEmbeddings": False,
    "includeMetadata": False,
    "includeDataRowDetails": True,
    "includeProjectDetails": True,
    "includePerformanceDetails": False,
    "includeLabelDetails": True,
    "includeInterpolatedFrames": False,
}
_Count = Annotated[int, Field(ge=0)]
_Name = Annotated[str, Field(max_length=8192)]


class _Project(Told):
    id: _Name
    name: _Name = ""
    updated: Annotated[_Name | None, Field(alias="updatedAt")] = None
    active: Annotated[_Name | None, Field(alias="lastActivityTime")] = None
    rows: Annotated[_Count | None, Field(alias="dataRowCount")] = None


class _Started(Told):
    task: Annotated[_Name, Field(alias="taskId")]


class _User(Told):
    id: _Name


class _Task(Told):
    status: Literal["IN_PROGRESS", "COMPLETE", "FAILED", "CANCELED"]
    errors: Any = None


class _Tasks(Told):
    found: Annotated[list[_Task], Field(alias="createdTasks")]


class _Header(Told):
    size: Annotated[_Count, Field(alias="totalSize")]
    lines: Annotated[_Count, Field(alias="totalLines")]


class _Offsets(Told):
    start: _Count
    end: _Count


class _Part(Told):
    offsets: _Offsets
    file: _Name


class _Api:
    """A client for one project."""

    def __init__(self, source: LabelboxSource, errand: Errand) -> None:
        self.client, self.url = errand.client, services.address(source.url, "/graphql")
        self.login = fetched.login(errand.secret, lambda secret: Credentials.bearer(secret["token"]), errand)
        self.errand, self.source = errand, source

    def ask(self, query: str, path: str, model: type[services.Model], **variables: Any) -> services.Model | None:
        """The model at ``path`` of the answer; None where there is nothing. Raises RefusedError for errors."""
        body = {"query": query, "variables": variables}
        found = self.client.json(self.url, method="POST", body=body, login=self.login, limit=services.LARGEST_LIST)
        errors = found.get("errors") if isinstance(found, dict) else None
        if errors:
            self._refuse(errors)
        part = found.get("data") if isinstance(found, dict) else None
        for name in path.split("."):
            part = part.get(name) if isinstance(part, dict) else None
        return None if part is None else services.understood(self.client, self.url, model, part)

    def must(self, query: str, path: str, model: type[services.Model], **variables: Any) -> services.Model:
        """Like ``ask``, but refuses if nothing is found."""
        found = self.ask(query, path, model, **variables)
        if found is None:
            raise RefusedError(
                Reason.SOURCE_NOT_FOUND,
                f"Labelbox has no project {self.source.project} for this key, or nothing of it; correct project, or the Secret",
                self.client.field,
            )
        return found

    def _refuse(self, errors: Any) -> None:
        first = errors[0] if isinstance(errors, list) and isinstance(errors[0], dict) else {}
        extensions = first.get("extensions")
        code = str(extensions.get("code", "")) if isinstance(extensions, dict) else ""
        said = shown(str(first.get("message", "")))[:300]
        reason = _REASONS.get(code, Reason.SOURCE_INVALID)
        raise RefusedError(reason, f"Labelbox answers: {said or shown(code)[:100] or 'an error'}", self.client.field)

    def project(self) -> _Project:
        return self.must(_PROJECT, "project", _Project, id=self.source.project)

    def exported(self) -> str:
        """Start an export; returns its task once it is complete."""
        asked = {
            "taskName": "pelagos",
            "isStreamableReady": True,
            "filters": {"projectId": self.source.project, "searchQuery": {"scope": None, "query": []}},
            "params": _INCLUDED,
            "streamable": True,
        }
        task = self.must(_EXPORT, "exportDataRowsInProject", _Started, input=asked).task
        user = self.must(_USER, "user", _User).id

        def ended() -> _Task | None:
            found = self.must(_TASK, "user", _Tasks, user=user, task=task).found
            return next((each for each in found if each.status != "IN_PROGRESS"), None)

        found = self.client.poll(ended, f"waiting for the export of project {self.source.project} of Labelbox", _PAUSES)
        if found.status != "COMPLETE":
            why = shown(str(found.errors or "it does not say why"))[:300]
            raise self.client.invalid(self.url, f"could not export project {self.source.project}: {why}")
        return task

    def header(self, task: str, stream: str) -> _Header | None:
        return self.ask(_HEADER, "task.exportMetadataHeader", _Header, where={"id": task}, streamType=stream)

    def lines(self, task: str, header: _Header) -> Iterator[bytes]:
        """The lines of the export, part by part; each part consists of whole lines."""
        offset, count = 0, 0
        for _ in range(_MOST_PARTS):
            if offset >= header.size:
                break
            asked = {"where": {"id": task}, "streamType": "RESULT", "offset": str(offset)}
            part = self.must(_PART, "task.exportFileFromOffset", _Part, **asked)
            size = part.offsets.end - offset + 1
            if size <= 0:
                raise self.client.invalid(self.url, "gives parts of an export that do not follow each other")
            found = download(self.client, Wanted(part.file, self.errand.scratch / "part", size=size))
            with found.path.open("rb") as file:
                while line := file.readline(_LONGEST_LINE):
                    if len(line) == _LONGEST_LINE:
                        raise self.client.invalid(self.url, f"exports a line of more than {_LONGEST_LINE} bytes")
                    count += bool(line.strip())
                    yield line
            offset = part.offsets.end + 1
        if count != header.lines:
            raise FetchError(f"the export of Labelbox has {count} of {header.lines} lines")


@dataclass
class _Export:
    """Rewrites lines for local reading: with the images' local names, and masks beside them."""

    api: _Api
    pictures: Pictures

    def write(self, lines: Iterator[bytes], file: BinaryIO) -> None:
        for line in lines:
            try:
                row = orjson.loads(line) if line.strip() else None
            except ValueError:
                raise self.api.client.invalid(self.api.url, "exports a line that is no JSON") from None
            if isinstance(row, dict):
                self._row(row, file)

    def _row(self, row: dict[str, Any], file: BinaryIO) -> None:
        about, kind = _mapping(row.get("data_row")), _mapping(row.get("media_attributes")).get("mime_type")
        objects = list(_objects(row))
        if not isinstance(kind, str) or kind.startswith("image/"):
            place, mark = str(about.get("row_data", "")), str(about.get("id", "row"))[:64]
            wanted = next(
                (name for key in ("external_id", "global_key") if isinstance(name := about.get(key), str) and name),
                services.path_of(place),
            )
            try:
                name = self.pictures.bring(place, services.path_of(wanted), mark, logs_in=False, key=f"row {mark}")
                self._bring_masks(objects)
            except LeftError as error:
                self.pictures.leave(f"data row {mark}", len(objects), error)
                return
            row["data_row"] = dict(about) | {"external_id": name}
        file.write(orjson.dumps(row) + b"\n")

    def _bring_masks(self, objects: list[Mapping[str, Any]]) -> None:
        for each in objects:
            url, identity = _mapping(each.get("mask")).get("url"), each.get("feature_id")
            if isinstance(url, str) and isinstance(identity, str) and _IDENTITY.fullmatch(identity):
                self.pictures.download(url, self.pictures.folder / "masks" / f"{identity}.png")


def look(source: LabelboxSource, errand: Errand) -> Origin:
    """The state by the last work on the project."""
    project = _Api(source, errand).project()
    return Origin(
        url=shown_url(source.url),
        version=shown(f"project {project.id} ({project.name})")[:500],
        modified=shown(project.active or project.updated or "")[:500] or None,
        state=services.state_of(project.updated, project.active, project.rows) if project.active else None,
    )


def fetch(source: LabelboxSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the lines as NDJSON, images in ``images/``, masks in ``masks/``; rows missing in the export are reported."""
    api, folder = _Api(source, errand), errand.scratch / "project"
    folder.mkdir(parents=True)
    task = api.exported()
    header = api.header(task, "RESULT") or _Header.model_validate({"totalSize": 0, "totalLines": 0})
    pictures = Pictures(source.url, lambda ask: ask(api.login), errand, folder)
    with (folder / "export.ndjson").open("xb") as file:
        _Export(api, pictures).write(api.lines(task, header), file)
    tree, origin = pictures.collected(f"project {source.project}", origin)
    expected, failed = api.project().rows, api.header(task, "ERRORS")
    told = [f"Labelbox could not export {failed.lines} data rows"] if failed is not None and failed.lines else []
    if expected is not None and header.lines < expected:
        told.append(f"Labelbox has {expected} data rows in the project, and exported {header.lines}")
    return replace(tree, warnings=(*tree.warnings, *told)), origin


def _objects(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All drawn objects of a row."""
    for project in _mapping(row.get("projects")).values():
        for label in _listed(_mapping(project).get("labels")):
            yield from map(_mapping, _listed(_mapping(_mapping(label).get("annotations")).get("objects")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


PLACE = RemotePlace(LABELBOX, look, fetch)
