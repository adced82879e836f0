"""Packs the files of a version's record: an archive of images and annotations, metadata documents, and a manifest.

The same version always gives the same bytes, so that files that are already in a repository are recognised by digest. Files are
streamed and never held in memory as a whole.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from pelagos_contract.documents import DOCUMENTS
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Metadata
from pelagos_contract.publication import FIELD, PublicationRequest
from pelagos_contract.splits import SPLITS
from pelagos_pipelines import storage
from pelagos_pipelines.metadata.registry import LackingError
from pelagos_pipelines.preparation import exporting, published
from pelagos_pipelines.preparation.exporting import Wanted

MANIFEST = "manifest.json"
_PIECE = 2**20
_TEXT = frozenset({".json", ".jsonld", ".csv", ".xml", ".txt", ".yaml", ".yml", ".md", ".tsv"})
"""Suffixes of files that are compressed; images would not become smaller."""
_LARGE = 2**31
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The fixed time of all members, the earliest that zip supports; real times would change the archive's bytes."""


@dataclass(frozen=True)
class Packed:
    """A file of the record with its ``size`` in bytes; repositories verify it by ``md5``."""

    name: str
    path: Path
    size: int
    sha256: str
    md5: str


def archive_name(dataset: str, version: str) -> str:
    """The archive's name from NAMESPACE/NAME and the version's digest, so that people can distinguish several."""
    return f"{dataset.rpartition('/')[2]}-{version.removeprefix('sha256:')[:12]}.zip"


def is_ours(name: str, dataset: str) -> bool:
    """Whether a file of a record was put there for this Dataset, in any version."""
    head, _, tail = name.rpartition("-")
    ours = head == dataset.rpartition("/")[2] and len(tail) == len("0123456789ab.zip") and tail.endswith(".zip")
    return ours or name == MANIFEST or any(name in each.files for each in DOCUMENTS)


def pack(asked: PublicationRequest, said: Metadata, doi: str | None, scratch: Path) -> list[Packed]:
    """Write the files below ``scratch``, largest first; ``said`` and ``doi`` are the content of the documents.

    Raises:
        RefusedError: DATASET_NOT_READABLE when the version is missing or does not match its digest; TASK_MISMATCH if a format
            does not support the task; METADATA_INCOMPLETE.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: for example a full disk.
    """
    here = (
        published.download(asked.uri, scratch / "version", SPLITS) if storage.is_remote(asked.uri) else Path(asked.uri)
    )
    if here.resolve().name != asked.version.removeprefix("sha256:"):
        raise RefusedError(
            Reason.DATASET_NOT_READABLE, f"{asked.uri} is not the version {asked.version}; nothing is published", FIELD
        )
    view = scratch / "view"
    shutil.rmtree(view, ignore_errors=True)
    wanted = Wanted(documents=asked.publish.documents, metadata=said, dataset=asked.dataset, made=asked.made, doi=doi)
    try:
        # Every blob is verified by its name, and the version by its digest, so that exactly the checked content is published.
        exporting.described_view(here, asked.publish.view, view, wanted)
    except LackingError as error:
        raise RefusedError(Reason.METADATA_INCOMPLETE, str(error), "publish.documents") from error
    archive = scratch / archive_name(asked.dataset, asked.version)
    _zip(view, archive)
    files = [_packed(archive), *(_packed(view / name) for name in _documents(asked.publish.documents, view))]
    shown = {each.name: {"bytes": each.size, "sha256": each.sha256} for each in files}
    manifest = scratch / MANIFEST
    manifest.write_bytes(_manifest(asked, doi, shown))
    return [*files, _packed(manifest)]


def _documents(names: Sequence[str], folder: Path) -> Iterator[str]:
    for name in names:
        yield from (file for file in DOCUMENTS.named(name).files if (folder / file).is_file())


def _manifest(asked: PublicationRequest, doi: str | None, files: Mapping[str, object]) -> bytes:
    told = {"dataset": asked.dataset.rpartition("/")[2], "version": asked.version, "doi": doi, "files": files}
    found: bytes = orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    return found


def _zip(folder: Path, target: Path) -> None:
    """Pack all files of a folder, sorted by name."""
    target.unlink(missing_ok=True)
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        for file in _files(folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED if file.suffix.lower() in _TEXT else zipfile.ZIP_STORED
            entry.external_attr = 0o100644 << 16
            is_large = file.stat().st_size >= _LARGE
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=is_large) as member:
                shutil.copyfileobj(source, member, _PIECE)


def _files(folder: Path) -> Iterable[Path]:
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.relative_to(folder).parts
    )


def _packed(path: Path) -> Packed:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
    return Packed(path.name, path, size, sha256.hexdigest(), md5.hexdigest())
