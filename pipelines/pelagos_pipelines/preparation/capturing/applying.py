"""Adds capture data to the images of a source, by ``spec.capture``. Called by the step prepare, once annotations are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pelagos_contract.capture import CaptureCount, Captured, CaptureFault, CaptureSource
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.formats import AUTO, IFDO
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import capture, registry
from pelagos_pipelines.annotations.capture import FIELDS, Capture, ValueFaultError
from pelagos_pipelines.annotations.model import Collection, Format, ImageRecord, SourceFiles
from pelagos_pipelines.annotations.untrusted_input import printable
from pelagos_pipelines.preparation.capturing import listed
from pelagos_pipelines.preparation.capturing.findings import Findings
from pelagos_pipelines.preparation.capturing.patterns import Pattern
from pelagos_pipelines.sandbox import MEBIBYTE, Limits, Pool, SandboxError, children_for

_EXIF = "pelagos_pipelines.preparation.capturing.exif"
_LIMITS = Limits(memory=256 * MEBIBYTE, cpu=10, deadline=60, result=MEBIBYTE)
"""Limits of a child that reads headers; a file that needs more is damaged or hostile."""
_MOST_CHILDREN = 4
_SUBJECTS = {"Exif": "EXIF", "Csv": "capture.file", "Ifdo": "capture.file", "Folder": "capture.pattern"}
_Told = dict[str, dict[str, str | float]]


@dataclass(frozen=True)
class Taken:
    """The collection with capture data, and findings about missing values; ``wanted`` is None if none was requested."""

    collection: Collection
    findings: Findings = field(default_factory=Findings)
    wanted: CaptureSource | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about missing values."""
        return tuple(self.findings.warnings)

    def of(self, images: Iterable[ImageRecord]) -> Captured | None:
        """The entry for the result: how many of a version's images have each field, and the findings about the source."""
        if self.wanted is None:
            return None
        captures = [image.capture or Capture() for image in images]
        known = {name: sum(getattr(one, name) is not None for one in captures) for name in FIELDS}
        counts = [
            CaptureCount(field=name, known=count, unknown=len(captures) - count)
            for name, count in known.items()
            if count
        ]
        return Captured(fields=counts, findings=self.findings.counted)


def for_readers(tree: SourceFiles, wanted: CaptureSource | None, format_name: str) -> SourceFiles:
    """The source without the capture file, so that no reader takes it for annotations, unless it has some.

    Raises:
        RefusedError: CAPTURE_INVALID when the source has no such file.
    """
    if wanted is None or not wanted.is_listed:
        return tree
    path = listed.require_file(tree, wanted)
    without = replace(tree, files=tuple(one for one in tree.files if one != path))
    if wanted.from_ == "Ifdo" and format_name in {AUTO, IFDO.name}:
        return tree if listed.is_annotated(tree, path) else without
    if format_name == AUTO:
        return without
    # If the format is named explicitly, the capture file may be one of its annotation files.
    alone = replace(tree, files=tuple(sorted((*tree.images, path))))
    return tree if registry.FORMATS.named(format_name).recognises(alone) else without


def choose(format_name: str, tree: SourceFiles, task: Task, wanted: CaptureSource | None) -> tuple[Format, SourceFiles]:
    """The format of the source, and the source's files that the reader may see.

    Raises:
        RefusedError: as ``for_readers`` and ``registry.choose`` do.
    """
    seen = for_readers(tree, wanted, format_name)
    try:
        return registry.choose(format_name, seen, task), seen
    except RefusedError as error:
        failure = error.failure
        if wanted is None or seen is tree or failure.reason is not Reason.FORMAT_NOT_RECOGNISED:
            raise
        file = printable(wanted.file or "")
        words = (
            f"{failure.message}. {file} was not looked at, as capture.file; if it has the annotations, too, set format"
        )
        raise RefusedError(failure.reason, words, failure.field) from error


def applied(
    found: Collection, tree: SourceFiles, wanted: CaptureSource | None, is_usable: Callable[[str], bool]
) -> Taken:
    """The collection with capture data. ``is_usable`` returns whether an image can be decoded.

    Raises:
        RefusedError: CAPTURE_INVALID for a missing file or column, and when nothing is known of any image; FORMAT_INVALID for a
            file that cannot be parsed.
    """
    if wanted is None:
        return Taken(found)
    told, findings = _Told(), Findings()
    files = found.annotation_files
    paths = [image.path for image in found.images]
    if wanted.is_listed:
        listed.read(tree, wanted, told, findings)
        files = (*files, listed.require_file(tree, wanted))
    elif wanted.from_ == "Exif":
        _read_exif(tree, [path for path in paths if is_usable(path)], wanted, told, findings)
    if wanted.pattern is not None:
        _read_folders(paths, wanted, told, findings)
    images = tuple(
        replace(image, capture=Capture.restored(known)) if (known := told.get(image.path)) else image
        for image in found.images
    )
    silent = [path for path in paths if path not in findings.named and is_usable(path)]
    for path in silent:
        findings.add(CaptureFault.NOTHING_SAID, path)
    if all(image.capture is None for image in images):
        raise _nothing(wanted, len(images), findings)
    return Taken(replace(found, images=images, annotation_files=files), findings, wanted)


def _nothing(wanted: CaptureSource, images: int, findings: Findings) -> RefusedError:
    subject = _SUBJECTS[wanted.from_]
    why = "; ".join(findings.warnings)
    return RefusedError(
        Reason.CAPTURE_INVALID,
        f"capture: {subject} says nothing of when or where any of {images} images was taken ({why}); correct"
        f" {'the images' if wanted.from_ == 'Exif' else subject}, name another capture.from, or leave capture out",
        "capture",
    )


# --- folders


def _read_folders(paths: Iterable[str], wanted: CaptureSource, told: _Told, findings: Findings) -> None:
    """Take values from the names of folders and files, for fields that nothing else provides."""
    pattern = Pattern.of(wanted.pattern or "")
    for path in paths:
        fields = pattern.fields(path)
        if fields is None:
            continue
        findings.named.add(path)
        known = told.setdefault(path, {})
        for name, text in fields.items():
            if name in known:
                continue
            try:
                value, assumed = _value(name, text, wanted.utc_offset)
            except ValueFaultError as error:
                findings.add(error.fault, path, name)
                continue
            if value is not None:
                known[name] = value
                findings.assumed += assumed


def _value(name: str, text: str, utc_offset: str | None) -> tuple[str | float | None, bool]:
    if name == "time":
        return capture.time_of(text, utc_offset)
    return (capture.text_of(text) if name in capture.TEXTS else capture.number_of(name, text)), False


# --- EXIF


def _read_exif(tree: SourceFiles, paths: list[str], wanted: CaptureSource, told: _Told, findings: Findings) -> None:
    pool = _pool()
    with ThreadPoolExecutor(pool.children) as threads:
        answers = threads.map(lambda path: _exif_of(pool.pool, tree, path, wanted.utc_offset), paths)
        for path, answer in zip(paths, answers, strict=True):
            try:
                _take(path, answer, told, findings)
            except (ValueError, TypeError, LookupError):  # the child was taken over
                findings.named.add(path)
                findings.add(CaptureFault.DAMAGED, path)


def _exif_of(pool: Pool, tree: SourceFiles, path: str, utc_offset: str | None) -> Mapping[str, Any]:
    with tree.open(path) as file:
        try:
            return pool.run("read", {"utcOffset": utc_offset}, file=file.descriptor).document
        except SandboxError:
            return {"damaged": True}


def _take(path: str, answer: Mapping[str, Any], told: _Told, findings: Findings) -> None:
    if answer.get("damaged"):
        findings.named.add(path)
        findings.add(CaptureFault.DAMAGED, path)
        return
    values, faults = answer["values"], answer.get("faults") or {}
    Capture.restored(values)
    reasons = {name: CaptureFault(why) for name, why in faults.items() if name in FIELDS}
    for name, fault in reasons.items():
        findings.add(fault, path, name)
    if values or reasons:
        findings.named.add(path)
        told[path] = dict(values)
        findings.assumed += bool(answer.get("assumed"))


@dataclass(frozen=True)
class _Children:
    pool: Pool
    children: int


@cache
def _pool() -> _Children:
    """The children of this process that read EXIF."""
    children = children_for(_LIMITS, _MOST_CHILDREN)
    return _Children(Pool(_EXIF, _LIMITS, children), children)
