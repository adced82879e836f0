"""Takes capture data from a file (CSV or iFDO), and finds images by their names. The file is read in a sandboxed child."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import orjson

from pelagos_contract.capture import CaptureFault, CaptureSource
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import many_shapes, naming, reading
from pelagos_pipelines.annotations.capture import FIELDS, TEXTS, Capture
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names, printable, too_large, with_nearest
from pelagos_pipelines.preparation.capturing.findings import Findings
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

_TASKS = "pelagos_pipelines.preparation.capturing.documents"
_ANSWER = 1024 * MEBIBYTE
"""The most bytes of a child's answer, unpacked."""
_NEAREST = 100
"""Number of findings up to which rows without an image are reported with the nearest names."""
_FAULTS = {fault.value: fault for fault in CaptureFault}


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    place: str
    values: dict[str, str | float]
    faults: dict[str, CaptureFault]
    assumed: bool
    is_video: bool


def require_file(tree: SourceFiles, wanted: CaptureSource) -> str:
    """The path of the capture file.

    Raises:
        RefusedError: CAPTURE_INVALID when the source has no file of that name, or it is an image.
    """
    path = str(PurePosixPath(wanted.file or ""))
    images = set(tree.images)
    if path in tree.known and path not in images:
        return path
    if path in images:
        raise _unfit(f"{printable(path)} is an image; name the file with a row or an item for each image")
    others = [one for one in tree.files if one not in images]
    nearest = naming.Names(others).nearest(path)
    there = (
        f"the nearest is {format_names(nearest)}"
        if nearest
        else f"files beside images are {format_names(others) or 'none'}"
    )
    raise _unfit(f"the source has no file {printable(path)}; {there}")


def is_annotated(tree: SourceFiles, path: str) -> bool:
    """Whether an iFDO has annotations in addition to capture data."""
    return reading.answered("is_annotated", tree, path, _TASKS)


def read(tree: SourceFiles, wanted: CaptureSource, told: dict[str, dict[str, str | float]], findings: Findings) -> None:
    """Add the file's values to ``told``, by the path of the image, and missing values to ``findings``.

    Raises:
        RefusedError: CAPTURE_INVALID, FORMAT_INVALID or SOURCE_NOT_READABLE.
    """
    path = require_file(tree, wanted)
    names = naming.Names(tree.images)
    images = frozenset(tree.images)
    named: set[str] = set()
    contradicted: set[tuple[str, str]] = set()
    for row in _rows(tree, path, wanted):
        place = f"{printable(path)}, {row.place}"
        image, meant = _image(row.name, str(PurePosixPath(path).parent), images, names)
        if image is None:
            # Searching for similar names is slow, so it is done only for the first findings, which people see.
            is_shown = row.name and not meant and len(findings.listed) < _NEAREST
            nearest = names.nearest(row.name) if is_shown else ()
            fault = CaptureFault.SEVERAL_IMAGES if meant else CaptureFault.IMAGE_NOT_FOUND
            findings.add(fault, with_nearest(place, meant, nearest))
            continue
        named.add(image)
        if row.is_video:
            findings.add(CaptureFault.VIDEO, image, place=place)
            continue
        for field, fault in row.faults.items():
            findings.add(fault, image, field, place)
        findings.assumed += row.assumed
        known = told.setdefault(image, {})
        for field, value in row.values.items():
            if known.setdefault(field, value) != value:
                contradicted.add((image, field))
    for image, field in sorted(contradicted):
        del told[image][field]
        findings.add(CaptureFault.CONTRADICTION, image, field)
    findings.named |= named


def _image(name: str, beside: str, images: frozenset[str], names: naming.Names) -> tuple[str | None, list[str]]:
    """The one image that a name matches; if there is not exactly one, None and the images that it may mean."""
    plain = name.replace("\\", "/").lstrip("/")
    for exact in (str(PurePosixPath(beside) / plain), plain):
        if plain and exact in images:
            return exact, []
    alike = list(names.alike(name)) if plain else []
    return (alike[0], []) if len(alike) == 1 else (None, alike)


def _rows(tree: SourceFiles, path: str, wanted: CaptureSource) -> Iterator[_Row]:
    ceilings = Ceilings.read()
    most = ceilings.annotation_mebibytes * MEBIBYTE
    task = "table" if wanted.from_ == "Csv" else "ifdo"
    called = {} if wanted.columns is None else wanted.columns.written()
    arguments = {
        "where": printable(path),
        "limit": ceilings.annotations,
        "columns": called,
        "utcOffset": wanted.utc_offset,
    }
    with reading.refusing(path), tree.open(path) as file:
        if file.size > most:
            raise too_large(path, file.size, most, raise_it("annotation_mebibytes"))
        answer = reading.pool(ceilings, _TASKS).run(task, arguments, file=file.descriptor)
        file.require_same()
    with reading.refusing(path):
        for line in many_shapes.lines(answer.raw, _ANSWER):
            if line:
                yield _row(orjson.loads(line))


def _row(found: Any) -> _Row:
    """A row from a child, which may have been taken over. Raises ValueError, TypeError or KeyError for an invalid row."""
    name, place, values, faults, assumed, is_video = found
    if not (isinstance(name, str) and isinstance(place, str) and isinstance(values, dict) and isinstance(faults, dict)):
        raise TypeError("row")
    Capture.restored(values)
    for field in TEXTS:
        if field in values:
            values[field] = sys.intern(values[field])  # a table may have a million rows with ten sites
    if not {*faults} <= {*FIELDS}:
        raise ValueError("faults")
    return _Row(
        name, place[:60], values, {field: _FAULTS[why] for field, why in faults.items()}, bool(assumed), bool(is_video)
    )


def _unfit(words: str) -> RefusedError:
    return RefusedError(Reason.CAPTURE_INVALID, f"capture.file: {words}", "capture.file")
