"""A volume, or all volumes of a project, of a BIIGLE server: its CSV reports of annotations and image labels, and its images.

Source: biigle/core, ``routes/api.php`` and the controllers of reports, volumes and images. A user may send 10,800 requests an
hour, which the server enforces (429); an image takes one request.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pelagos_contract.annotation_tools import BiigleSource
from pelagos_contract.beneath import Folder
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import BIIGLE
from pelagos_contract.text import shown
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.fetching import (
    Credentials,
    FetchError,
    UnchangedError,
    UnexpectedStatusError,
    Wanted,
    download,
    shown_url,
)
from pelagos_pipelines.sources import archives, fetched, services, volume
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.sources.services import Told

ANNOTATIONS, LABELS = "ImageAnnotations\\Csv", "ImageLabels\\Csv"
"""Types of reports."""
_JSON = {"Accept": "application/json"}
_PAUSES = (0.2, 15.0)
_LONGEST_REPORT = 3600.0
"""Most seconds to wait for a report, since BIIGLE does not report failures."""
_LARGEST_IMAGE = 2**32
_Name = Annotated[str, Field(max_length=1000)]


class _Media(Told):
    name: _Name = "image"


class _Volume(Told):
    id: int
    name: _Name
    updated_at: _Name = ""
    media_type: _Media | None = None


class _Type(Told):
    id: int
    name: _Name


class _Report(Told):
    id: int


class _Server:
    """A client for one volume or project."""

    def __init__(self, source: BiigleSource, errand: Errand) -> None:
        self.source, self.errand, self.client = source, errand, errand.client
        self.login = fetched.login(errand.secret, _credentials, errand)

    @property
    def words(self) -> str:
        source = self.source
        return f"volume {source.volume}" if source.volume is not None else f"project {source.project}"

    def url(self, path: str) -> str:
        return services.address(self.source.url, f"/api/v1/{path}")

    def json(self, path: str, **asked: Any) -> Any:
        return self.client.json(self.url(path), login=self.login, headers=_JSON, limit=services.LARGEST_LIST, **asked)

    def get(self, path: str, model: type[services.Model], **asked: Any) -> services.Model:
        return services.understood(self.client, self.url(path), model, self.json(path, **asked))

    def listed(self, path: str, model: type[services.Model]) -> list[services.Model]:
        found = self.json(path)
        if not isinstance(found, list):
            raise self.client.invalid(
                self.url(path), "answers with no list; check that it is the address of the service"
            )
        return [services.understood(self.client, self.url(path), model, each) for each in found]

    def volumes(self) -> list[_Volume]:
        """The volumes that contain images."""
        if self.source.volume is not None:
            found = [self.get(f"volumes/{self.source.volume}", _Volume)]
        else:
            found = self.listed(f"projects/{self.source.project}/volumes", _Volume)
        images = [each for each in found if each.media_type is None or each.media_type.name == "image"]
        if not images:
            what = "holds videos, which are not read" if found else "has no volumes"
            raise RefusedError(
                Reason.SOURCE_EMPTY, f"{self.words} of BIIGLE {what}: name another one", self.client.field
            )
        return sorted(images, key=lambda each: each.id)

    def names(self, volume: _Volume) -> dict[int, str]:
        """The names of a volume's images by their ids."""
        path = f"volumes/{volume.id}/filenames"
        found = self.json(path)
        # PHP serializes an empty mapping as an empty list.
        pairs = found.items() if isinstance(found, dict) else ()
        named = {int(key): name for key, name in pairs if str(key).isdigit() and isinstance(name, str)}
        if len(named) != len(found):
            raise self.client.invalid(self.url(path), "answers with no names of images")
        return dict(sorted(named.items()))

    def drawn(self, volume: _Volume) -> list[str]:
        """Digests of the volume's reports, which change with any annotation or label."""
        return [
            download(
                self.client, Wanted(self.url(path), self.errand.scratch / "drawn", self.login, headers=_JSON)
            ).sha256
            for path in (f"volumes/{volume.id}/annotations", f"volumes/{volume.id}/files/labels")
        ]

    def report(self, volume: _Volume, kind: str, target: Path) -> Path:
        """Request a new report and download it, compressed, to ``target``."""
        number = next((each.id for each in self.listed("reports", _Type) if each.name == kind), None)
        if number is None:
            raise self.client.invalid(self.url("reports"), f"knows no reports of the type {kind}")
        asked = {"method": "POST", "body": {"type_id": number, "disable_notifications": True}, "expect": (200, 201)}
        path = f"reports/{self.get(f'volumes/{volume.id}/reports', _Report, **asked).id}"
        wanted, end = Wanted(self.url(path), target, self.login, headers=_JSON), time.monotonic() + _LONGEST_REPORT

        def ready() -> Path | None:
            try:
                return download(self.client, wanted, self.errand.progress).path
            except UnexpectedStatusError as error:
                if error.status != 404:
                    raise
            if time.monotonic() > end:
                raise FetchError(f"a report of volume {volume.id} of BIIGLE is not there after {_LONGEST_REPORT:.0f} s")
            return None

        found = self.client.poll(ready, f"waiting for a report of volume {volume.id} of BIIGLE", _PAUSES)
        self.client.answer(self.url(path), method="DELETE", login=self.login, headers=_JSON, expect=(200, 204, 404))
        return found


def look(source: BiigleSource, errand: Errand) -> Origin:
    """The state by image names and all annotations, since a volume has no date of its last change."""
    server = _Server(source, errand)
    volumes = server.volumes()
    parts = [(each.id, each.name, [*server.names(each).items()], server.drawn(each)) for each in volumes]
    titled = f" ({volumes[0].name})" if source.volume is not None else ""
    return Origin(
        url=shown_url(source.url),
        version=shown(f"{server.words}{titled}")[:500],
        state=services.state_of(parts),
    )


def fetch(source: BiigleSource, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch for each volume a table of annotations, one of labels, and a folder with the images."""
    server, names = _Server(source, errand), services.Names()
    root = errand.scratch / "biigle"
    missing, done = list[tuple[str, int]](), 0
    for each in server.volumes():
        base = names.claim(f"{each.id}-{each.name.replace('/', '_')}", str(each.id))
        for kind, below in ((ANNOTATIONS, "annotations"), (LABELS, "labels")):
            _lay(server, server.report(each, kind, errand.scratch / "report"), root / below / f"{base}.csv")
        images = server.names(each)
        targets = fetched.safe({f"{base}/{name}": 0 for name in images.values()}, errand)
        for number, name in images.items():
            target = targets[f"{base}/{name}"]
            try:
                done += _image(server, number, target, f"images/{base}/{name}")
            except UnexpectedStatusError as error:
                if error.status in {401, 403}:
                    raise
                missing.append((f"{base}/{name}", error.status))
                continue
            (root / "images" / base / name).parent.mkdir(parents=True, exist_ok=True)
            target.rename(root / "images" / base / name)
            errand.progress(done, 0)
    tree = volume.collected(server.words, Folder(root), root, errand.client.field)
    excluded = Exclusion.of((shown(name) for name, _ in missing), ExclusionReason.NOT_FETCHED)
    told = [f"BIIGLE did not give {len(missing)} images; the first one: HTTP {missing[0][1]}"] if missing else []
    tree = replace(tree, excluded=(*tree.excluded, *excluded), warnings=(*tree.warnings, *told))
    return tree, fetched.counted(origin.model_copy(update={"bytes": done}), tree)


def _image(server: _Server, number: int, target: Path, path: str) -> int:
    """Bring the image ``path`` to ``target``, from the store or the server; returns the downloaded bytes. Raises as
    `download`."""
    url, kept = server.url(f"images/{number}/file"), server.errand.kept
    wanted, seen = Wanted(url, target, server.login, limit=_LARGEST_IMAGE), kept.find(url)
    try:
        found = download(server.client, replace(wanted, unless=None if seen is None else seen.validators))
    except UnchangedError:
        assert seen is not None
        if kept.bring(seen, target):
            kept.note(url, path, seen.validators)
            return 0
        found = download(server.client, wanted)
    kept.note(url, path, found.validators)
    return found.size


def _lay(server: _Server, packed: Path, target: Path) -> None:
    """Unpack the only table of a report to ``target``; there is none if the volume has no annotations."""
    field, into = server.client.field, packed.with_name("unpacked-report")
    with Folder(packed.parent).open(packed.name) as opened:
        packed.unlink()
        kind = archives.kind_in(opened.descriptor)
        if kind is None:
            raise RefusedError(Reason.FORMAT_INVALID, "a report of BIIGLE is no archive; ask it again", field)
        found = archives.unpack("a report of BIIGLE", opened, into, volume.MAX_FILES, field, kind)
    tables = sorted(found.folder.glob("*.csv"))
    for number, table in enumerate(tables):
        place = target if len(tables) == 1 else target.parent / str(number) / target.name
        place.parent.mkdir(parents=True, exist_ok=True)
        table.rename(place)
    shutil.rmtree(into)


def _credentials(secret: Mapping[str, str]) -> Credentials:
    return Credentials.basic(secret["email"].strip(), secret["token"].strip())


PLACE = RemotePlace(BIIGLE, look, fetch)
