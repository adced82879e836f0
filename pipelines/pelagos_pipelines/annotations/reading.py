"""How readers get at the content of annotation files: parsed in children of the sandbox (parsers.py), never in this process.

The formats coco and yolo call this with a file of a tree. Every way in which a child can fail is a refusal that names the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from pelagos_pipelines.annotations import hostile
from pelagos_pipelines.annotations.model import Tree
from pelagos_pipelines.beneath import TooLargeError
from pelagos_pipelines.contract import Reason, RefusedError
from pelagos_pipelines.sandbox import MEBIBYTE, Answer, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

MAX_SETTINGS = MEBIBYTE
"""Bytes of data.yaml and classes.txt."""
MAX_LABELS = 16 * MEBIBYTE
"""Bytes of the labels of one image, and of a list of images."""
_MEMORY = 256 * MEBIBYTE
"""Of a child. A file is read in pieces, so that its size hardly matters."""
_BATCH_BYTES = 4 * MEBIBYTE
_BATCH_FILES = 1000
_SLOWNESS = 6
"""Real seconds for a second of processor time, when the machine is busy."""


@dataclass(frozen=True)
class Coco:
    """A COCO file. ``images`` has name, width, height, group and split; a box has an index of both lists, and four sides.

    ``orphans`` and ``unknown`` are how many annotations name an image or category that is not there, and the first of them.
    """

    names: Sequence[str]
    images: Sequence[tuple[str, int | None, int | None, str | None, str | None]]
    whose: Any
    classes: Any
    sides: Any
    crowds: int
    boxless: int
    orphans: tuple[int, Sequence[str]]
    unknown: tuple[int, Sequence[str]]


@dataclass(frozen=True)
class Settings:
    """What data.yaml says."""

    names: tuple[str, ...]
    splits: Mapping[str, Sequence[str]]
    path: str | None


@dataclass(frozen=True)
class Labels:
    """The rows of one label file: classes (int32), and left, top, width and height as fractions (float64, [rows, 4])."""

    classes: Any
    sides: Any


def coco(tree: Tree, path: str) -> Coco:
    """Parse a COCO file.

    Raises:
        RefusedError: it is none, or larger than the ceilings allow.
        ChangedError: it changed while it was read.
    """
    import numpy as np

    ceilings = Ceilings.read()
    limit = ceilings.annotation_mebibytes * MEBIBYTE
    limits = {"annotations": ceilings.annotations, "images": ceilings.annotations}
    with _refusing(path), tree.open(path) as file:
        if file.size > limit:
            raise hostile.too_large(path, file.size, limit, raise_it("annotation_mebibytes"))
        answer = _pool(ceilings).run("coco", {"where": hostile.printable(path), **limits}, file=file.descriptor)
        file.require_same()
    found, raw = answer.document, memoryview(answer.raw)
    with _refusing(path):
        parts = _cut(raw, found["names"], found["images"], 4 * found["boxes"], 4 * found["boxes"], 32 * found["boxes"])
        names, images = orjson.loads(parts[0]), orjson.loads(parts[1])
        whose, classes = (np.frombuffer(part, np.int32) for part in parts[2:4])
        _require_below(whose, len(images))
        _require_below(classes, len(names))
        sides = np.frombuffer(parts[4], np.float64).reshape(-1, 4)
        counts = found["crowds"], found["boxless"]
        return Coco(names, images, whose, classes, sides, *counts, tuple(found["orphans"]), tuple(found["unknown"]))


def settings(tree: Tree, path: str) -> Settings:
    """Parse data.yaml. Raises as ``coco`` does."""
    found = _parsed("settings", tree, path, MAX_SETTINGS)
    with _refusing(path):
        return Settings(tuple(found["names"]), found["splits"], found["path"])


def lines(tree: Tree, path: str, limit: int) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers. Raises as ``coco`` does."""
    found: list[tuple[int, str]] = _parsed("lines", tree, path, limit)
    return found


def labels(tree: Tree, paths: Iterable[str], classes: int) -> Iterator[Labels]:
    """The rows of label files, in their order; of several files at a time. Raises as ``coco`` does."""
    ceilings = Ceilings.read()
    left = ceilings.annotations
    for batch in _batches(tree, paths):
        header = orjson.dumps([(path, len(content)) for path, content in batch])
        arguments = {"header": len(header), "classes": classes, "annotations": left}
        content = b"".join((header, *(content for _, content in batch)))
        with _refusing(batch[0][0] if len(batch) == 1 else f"one of {batch[0][0]} to {batch[-1][0]}"):
            answer = _pool(ceilings).run("labels", arguments, content)
            yield from _rows(answer, len(batch), classes)
        left -= answer.document["rows"]


def _rows(answer: Answer, files: int, classes: int) -> list[Labels]:
    import numpy as np

    rows = answer.document["rows"]
    parts = _cut(memoryview(answer.raw), 4 * files, 4 * rows, 32 * rows)
    counts, ids = np.frombuffer(parts[0], np.int32), np.frombuffer(parts[1], np.int32)
    _require_below(ids, classes)
    sides = np.frombuffer(parts[2], np.float64).reshape(-1, 4)
    ends = np.cumsum(counts)
    if (counts < 0).any() or (ends[-1] if files else 0) != rows:
        raise ValueError("counts")
    return [Labels(ids[end - count : end], sides[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def _batches(tree: Tree, paths: Iterable[str]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for path in paths:
        content = _content(tree, path, MAX_LABELS)
        if batch and (size + len(content) > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append((path, content))
        size += len(content)
    if batch:
        yield batch


def _parsed(task: str, tree: Tree, path: str, limit: int) -> Any:
    content = _content(tree, path, limit)
    with _refusing(path):
        answer = _pool(Ceilings.read()).run(task, {"where": hostile.printable(path)}, content)
        return orjson.loads(answer.raw)


def _content(tree: Tree, path: str, limit: int) -> bytes:
    try:
        return tree.read(path, limit)
    except TooLargeError as error:
        raise hostile.too_large(path, error.size, limit) from error


def _cut(raw: memoryview, *lengths: int) -> list[memoryview]:
    """The parts of an answer, which must be there to the byte."""
    if any(not isinstance(length, int) or length < 0 for length in lengths) or sum(lengths) != len(raw):
        raise ValueError("lengths")
    parts, start = [], 0
    for length in lengths:
        parts.append(raw[start : start + length])
        start += length
    return parts


def _require_below(indices: Any, count: int) -> None:
    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < count):
        raise ValueError("indices")


@cache
def _pool(ceilings: Ceilings) -> Pool:
    """One for the process: files come one after the other."""
    limits = Limits(
        memory=_MEMORY,
        cpu=ceilings.annotation_seconds,
        deadline=_SLOWNESS * ceilings.annotation_seconds,
        result=_MEMORY // 2,
    )
    return Pool("pelagos_pipelines.annotations.parsers", limits)


class _refusing:  # noqa: N801 - used like a function
    """Say of the file ``path`` in which way its child failed. What a child says may be anything, once it was taken over."""

    def __init__(self, path: str) -> None:
        self._where = hostile.printable(path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TaskRefusedError):
            raise _refusal(error) from error
        if isinstance(error, LimitError):
            raise hostile.invalid(f"{self._where} is not read: {error}{_remedy(error)}") from error
        if isinstance(error, SandboxError | ValueError | TypeError | KeyError | IndexError):
            raise hostile.invalid(f"{self._where} cannot be parsed; export it again") from error


def _remedy(error: LimitError) -> str:
    if error.kind in {"cpu", "deadline"}:
        return f" ({raise_it('annotation_seconds')}); divide it, or have the ceiling raised"
    return "; divide it, or leave out what is no box"


def _refusal(error: TaskRefusedError) -> RefusedError:
    reason, field = error.detail.get("reason"), error.detail.get("field")
    known = reason if reason in set(Reason) else Reason.FORMAT_INVALID.value
    return RefusedError(Reason(known), str(error), field if isinstance(field, str) else None)
