"""Bundles: the record of a lineage and the files that its digests are for, in a folder or a zip file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pelagos.cli.lineage import crate, records
from pelagos.cli.lineage.records import ANNOTATIONS, CRATE, FILES, LARGEST, MANIFEST, PROV, RECORD, Link, Record
from pelagos_contract import disk
from pelagos_contract.text import shown

_BLOCK = 1 << 20
_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors of archives that are damaged, encrypted, or packed in an unknown way."""
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class BundleError(Exception):
    """A file is not a bundle, or cannot be read or written; the message says why, in one line."""


def write(record: Record, folder: Path, target: Path) -> None:
    """Pack the files in the folder, with the record and its standard descriptions (`crate`), into ``target``.

    The same lineage gives the same bytes, except for ``madeAt``. Raises BundleError.
    """
    try:
        _put(folder, RECORD, record.written())
        _put(folder, PROV, crate.prov(record))
    except (ValueError, RecursionError) as error:  # from a status that was written by hand
        raise BundleError(f"the resources say what cannot be written: {error}") from error
    there = {name: folder / name for name in FILES if name != CRATE and (folder / name).is_file()}
    described = {name: (path.stat().st_size, records.sha256(path.read_bytes())) for name, path in there.items()}
    _put(folder, CRATE, crate.crate(record, described))
    if not target.name:
        raise BundleError(f"--to {target}: names no file")
    partial = target.with_name(f".{target.name}.partial")
    try:
        with disk.written(partial), zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in FILES:
                if (folder / name).is_file():
                    # A fixed time, so that equal lineages give equal bundles.
                    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, (folder / name).read_bytes())
        partial.replace(target)
    except OSError as error:
        raise BundleError(f"--to {target}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def unpack(bundle: Path, folder: Path) -> None:
    """Extract the files of an untrusted bundle into the folder: only known ones, up to their size limits.

    Raises:
        BundleError: it is not a bundle.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            names = Counter(entry.filename for entry in archive.infolist())
            odd = min((name for name, count in names.items() if name not in FILES or count > 1), default=None)
            if odd is not None:
                raise BundleError(
                    f"{bundle} contains {shown(odd)[:200]}, which is not part of a bundle, or is in it twice; a bundle has "
                    f"{', '.join(FILES)}"
                )
            for entry in archive.infolist():
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                _unpack_one(archive, entry, target)
    except _UNREADABLE as error:
        raise BundleError(f"{bundle} cannot be read as a bundle: {error}") from error
    if not (folder / RECORD).is_file():
        raise BundleError(f"{bundle} has no {RECORD}: it is not a bundle of pelagos lineage export")


def _unpack_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    most = LARGEST[entry.filename]
    if entry.compress_type not in _PACKINGS:  # others allocate as much memory as the archive demands
        raise BundleError(
            f"{entry.filename} of {archive.filename} is compressed unlike a bundle: neither stored nor deflated"
        )
    # Count the bytes that are actually unpacked: the sizes in a zip file cannot be trusted.
    with archive.open(entry) as source, target.open("wb") as file:
        written = 0
        while block := source.read(_BLOCK):
            written += len(block)
            if written > most:
                raise BundleError(f"{entry.filename} of {archive.filename} is larger than {most} bytes")
            file.write(block)


def read(folder: Path) -> Record:
    """The record of an unpacked bundle. Raises BundleError."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{RECORD}: {shown(where)}: {shown(first['msg'])}") from error
    except (OSError, RecursionError) as error:
        raise BundleError(f"{RECORD} cannot be read: {error}") from error


def files_link(folder: Path) -> Link:
    """The link that says whether the files are those that the crate lists."""
    name = "files of the bundle"
    try:
        listed = _listed(json.loads((folder / CRATE).read_bytes()))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return Link(name, False, f"{CRATE} is missing, or lists no files")
    for file in FILES:
        path = folder / file
        if file == CRATE or not path.is_file():
            continue
        digest = records.sha256(path.read_bytes())
        if listed.get(file) != digest:
            return Link(name, False, f"{file} has the sha256 {digest} instead of {shown(str(listed.get(file))[:200])}")
    missing = [file for file in listed if not (file in FILES and (folder / file).is_file())]
    if missing:
        return Link(name, False, f"{shown(missing[0][:200])} is listed, but missing")
    return Link(name, True, f"{len(listed)} files are as {CRATE} lists them")


def has_version(folder: Path) -> bool:
    """Whether the bundle contains the description of a dataset version."""
    return (folder / MANIFEST).is_file() and (folder / ANNOTATIONS).is_file()


def _listed(document: Mapping[str, Any]) -> dict[str, str]:
    return {str(each["@id"]): str(each.get("sha256")) for each in document["@graph"] if each.get("@type") == "File"}


def _put(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
