"""Reads annotation files by parsing them in children of the sandbox (parsers.py), never in this process.

The formats call this with files of a tree. Every failure of a child becomes a refusal that names the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from pelagos_contract.beneath import TooLargeError
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import keypoints, many_shapes, repeated_boxes
from pelagos_pipelines.annotations.drawings import Drawings
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import SourceFiles, split_of
from pelagos_pipelines.annotations.shapes import Shape, rectangle
from pelagos_pipelines.annotations.untrusted_input import invalid, printable, too_large
from pelagos_pipelines.sandbox import MEBIBYTE, Answer, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PARSERS = "pelagos_pipelines.annotations.parsers"
"""The module with the tasks of the common formats."""
MAX_SETTINGS = MEBIBYTE
"""Most bytes of data.yaml and classes.txt."""
MAX_LABELS = 16 * MEBIBYTE
"""Most bytes of the labels of one image, and of a list of images."""
MAX_PICTURE = 64 * MEBIBYTE
"""Most bytes of a picture whose pixels are annotations."""
_MEMORY = 256 * MEBIBYTE
"""Memory limit of a child in bytes. Files are read in pieces, so their size hardly matters."""
_LARGEST_ANSWER = 1024 * MEBIBYTE
"""Most bytes of an uncompressed answer with shapes: twice the size for the largest file."""
_BATCH_BYTES = 4 * MEBIBYTE
_BATCH_FILES = 1000
"""Number of label files that a child reads per call: enough to make the cost of calls small, and far below its memory limit."""
_ROUNDED_PIXELS, _ROUNDED_FRACTION = 0.5, 0.0001
"""Tolerance for each side within which two boxes of one class are the same, written with different precision."""
_COUNTED = ("crowds", "boxless", "outlined", "shaped", "rotated", "misfits", "respelt", "slight")
_SLOWNESS = 6
"""Allowed wall-clock seconds per second of processor time, for busy machines."""


@dataclass(frozen=True)
class Coco:
    """A COCO file. ``images`` has name, width, height, group and split; a box has an index of both lists, and four sides.

    The name of an image is None when its entry is a fault. ``passed`` are the images of crowds and of annotations without a box.
    ``counts`` are numbers of these, of boxes that are ``outlined`` (those of a polygon or mask), ``shaped`` (with one beside
    them, or key points), ``rotated``, ``misfits`` (those that their outline contradicts) or ``slight`` (of less than a pixel), of
    annotations that are ``repeated`` and left out, or whose image was found by an id that is ``respelt``, and of boxes that are
    also one of another class (``doubted``). ``unknown`` are how many annotations name a category that is not there, and the first
    of them. ``crowds`` are boxes around objects that nobody drew one by one, by the image.
    """

    ids: Sequence[int]
    names: Sequence[str]
    recomposed: Sequence[str]
    images: Sequence[tuple[str | None, int | None, int | None, str | None, str | None]]
    whose: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int32]
    sides: npt.NDArray[np.float64]
    passed: frozenset[int]
    counts: Mapping[str, int]
    unknown: tuple[int, Sequence[str]]
    crowds: Mapping[int, Sequence[Shape]]


@dataclass(frozen=True)
class Settings:
    """What data.yaml says. ``points`` is kpt_shape: the number of key points of an object, and of the numbers of each.

    ``splits`` has places by the key, a word for a split; ``others`` are texts under keys that are none.
    """

    names: tuple[str, ...]
    recomposed: tuple[str, ...]
    splits: Mapping[str, Sequence[str]]
    points: tuple[int, int] | None
    path: str | None
    others: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The rows of one label file: classes (int32), and left, top, width and height as fractions (float64, [rows, 4]).

    ``doubted`` is how many boxes are also one of another class.

    ``polygons`` and ``boxes`` are how many there were of each, ``repeated`` how many rows repeat an earlier one and are left out.
    ``alike`` are polygons that may be key points, ``columns`` those that all polygons have, if any.
    """

    classes: npt.NDArray[np.int32]
    sides: npt.NDArray[np.float64]
    polygons: int
    boxes: int
    repeated: int
    alike: keypoints.Likeness
    columns: int
    doubted: int = 0
    outlines: Sequence[Sequence[float]] = ()
    """On request, the class and the numbers of each row, without key points. Repeated rows are included."""


@dataclass(frozen=True)
class Voc:
    """A file of Pascal VOC: the image by the file's own words, ``names`` of classes, and boxes as Labels has them, in pixels.

    ``counted`` are objects by what is not read of them, see voc_document.
    """

    file_name: str
    width: int | None
    height: int | None
    is_of_the_challenge: bool
    names: tuple[str, ...]
    classes: npt.NDArray[np.int32]
    sides: npt.NDArray[np.float64]
    counted: Mapping[str, int]
    repeated: int
    doubted: int


@dataclass(frozen=True)
class Declared:
    """Parameters of reading label files: the number of classes, the numbers of unnamed classes, and kpt_shape."""

    classes: int
    unnamed: Sequence[int] = ()
    points: tuple[int, int] | None = None
    outlines: bool = False
    """Whether the numbers of rows are requested in addition to their boxes."""


def coco(tree: SourceFiles, path: str, faults: Faults, *, above: bool = False) -> Coco:
    """Parse a COCO file; faults of its entries are added to ``faults``. ``above``: classes are the supercategories.

    Raises:
        RefusedError: it is not COCO, or larger than the ceilings allow.
        ChangedError: it changed while it was read.
    """
    ceilings = Ceilings.read()
    limit = ceilings.annotation_mebibytes * MEBIBYTE
    limits = {"annotations": ceilings.annotations, "images": ceilings.annotations}
    with refusing(path), tree.open(path) as file:
        if file.size > limit:
            raise too_large(path, file.size, limit, raise_it("annotation_mebibytes"))
        # The child gets the open file, not its bytes, so that neither process ever holds more than a piece of it.
        answer = pool(ceilings).run("coco", {"where": printable(path), "above": above, **limits}, file=file.descriptor)
        file.require_same()
    with refusing(path):
        faults.include(answer.document["faults"])
        return _coco(answer.document, memoryview(answer.raw))


def _coco(found: Mapping[str, Any], raw: memoryview) -> Coco:
    """Parse the child's answer. Raises ValueError if it is invalid: lengths and indices are checked before they are used."""
    import numpy as np

    boxes, passed, crowded = found["boxes"], found["passed"], found["crowded"]
    lengths = (4 * boxes, 4 * boxes, 4 * passed, 32 * boxes, 8 * crowded, 32 * crowded)
    parts = _cut(raw, found["names"], found["images"], *lengths)
    ids, names, recomposed = orjson.loads(parts[0])
    images = orjson.loads(parts[1])
    whose, classes, left = (np.frombuffer(part, np.int32) for part in parts[2:5])
    _require_below(whose, len(images))
    _require_below(left, len(images))
    _require_below(classes, min(len(names), len(ids)))
    sides = np.frombuffer(parts[5], np.float64).reshape(-1, 4)
    kept = repeated_boxes.first_of_equal(whose, classes, sides, _ROUNDED_PIXELS)
    crowds: dict[int, list[Shape]] = {}
    around = np.frombuffer(parts[7], np.float64).reshape(-1, 4).tolist()
    for (image, column), box in zip(np.frombuffer(parts[6], np.int32).reshape(-1, 2).tolist(), around, strict=True):
        if not (0 <= image < len(images) and 0 <= column < len(names)):
            raise ValueError("indices")
        crowds.setdefault(image, []).append(rectangle(names[column], *box))
    return Coco(
        ids=ids,
        names=names,
        recomposed=recomposed,
        images=images,
        whose=whose[kept],
        classes=classes[kept],
        sides=sides[kept],
        passed=frozenset(left.tolist()),
        counts={what: int(found[what]) for what in _COUNTED}
        | {"repeated": boxes - len(kept), "doubted": int(repeated_boxes.are_doubted(whose[kept], sides[kept]).sum())},
        unknown=tuple(found["unknown"]),
        crowds=crowds,
    )


def settings(tree: SourceFiles, path: str, faults: Faults) -> Settings:
    """Parse data.yaml; its faults are added to ``faults``. Raises as ``coco`` does."""
    found = parsed("settings", tree, path, MAX_SETTINGS)
    with refusing(path):
        faults.include(found["faults"])
        names, recomposed, points = found["names"], found["recomposed"], found["points"]
        splits, others = found["splits"], tuple(found["others"])
        if not all(map(split_of, splits)):
            raise ValueError("splits")
        return Settings(tuple(names), tuple(recomposed), splits, points and tuple(points), found["path"], others)


def lines(tree: SourceFiles, path: str, limit: int) -> list[tuple[int, str]]:
    """The non-empty lines of a text file, with their numbers. Raises as ``coco`` does."""
    found: list[tuple[int, str]] = parsed("lines", tree, path, limit)
    return found


def labels(tree: SourceFiles, paths: Iterable[str], declared: Declared, faults: Faults) -> Iterator[Labels]:
    """The rows of label files in order, parsed in batches. Their faults are added to ``faults``. Raises as ``coco`` does."""
    by = {"classes": declared.classes, "unnamed": declared.unnamed, "points": declared.points}
    by |= {"outlines": declared.outlines}
    for batch, answer in _together(_Task("labels", "rows"), tree, paths, faults, by):
        with refusing(_either(batch)):
            yield from _rows(answer, len(batch), declared.classes)


def is_voc(tree: SourceFiles, path: str) -> bool:
    """Whether a file is of Pascal VOC. Raises as ``coco`` does."""
    return parsed("is_voc", tree, path, MAX_LABELS) is True


def voc(tree: SourceFiles, paths: Iterable[str], faults: Faults) -> Iterator[Voc | None]:
    """Files of Pascal VOC in order; None for a faulty file and for XML of another kind. Faults are added to ``faults``.

    Raises as ``coco`` does.
    """
    for batch, answer in _together(_Task("voc", "objects"), tree, paths, faults, {}):
        with refusing(_either(batch)):
            yield from _voc(orjson.loads(answer.raw), len(batch))


def _voc(found: Sequence[Mapping[str, Any] | None], files: int) -> list[Voc | None]:
    """Parse the child's answer about files of Pascal VOC. Raises ValueError if it is invalid."""
    import numpy as np

    if not isinstance(found, list) or len(found) != files:
        raise ValueError("files")
    boxes = [() if each is None else each["boxes"] for each in found]
    rows: Any = np.array([box for one in boxes for box in one], np.float64).reshape(-1, 5)
    if not np.isfinite(rows).all():
        raise ValueError("boxes")
    whose: Any = np.repeat(np.arange(files, dtype=np.int32), [len(one) for one in boxes])
    classes, sides = rows[:, 0].astype(np.int32), np.ascontiguousarray(rows[:, 1:])
    kept = repeated_boxes.first_of_equal(whose, classes, sides, _ROUNDED_PIXELS)
    left = np.bincount(whose[kept], minlength=files)
    doubted: Any = np.bincount(
        whose[kept], weights=repeated_boxes.are_doubted(whose[kept], sides[kept]), minlength=files
    )
    ends = np.cumsum(left).tolist()
    files_read: list[Voc | None] = []
    for index, each in enumerate(found):
        if each is None:
            files_read.append(None)
            continue
        one = kept[ends[index] - int(left[index]) : ends[index]]
        names = tuple(map(str, each["names"]))
        _require_below(classes[one], len(names))
        files_read.append(
            Voc(
                file_name=str(each["file_name"]),
                width=each["width"] and int(each["width"]),
                height=each["height"] and int(each["height"]),
                is_of_the_challenge=bool(each["is_of_the_challenge"]),
                names=names,
                classes=classes[one],
                sides=sides[one],
                counted={str(what): int(count) for what, count in each["counted"].items()},
                repeated=len(boxes[index]) - len(one),
                doubted=int(doubted[index]),
            )
        )
    return files_read


def drawings(
    module: str, tree: SourceFiles, paths: Iterable[str], faults: Faults, task: str = "parse"
) -> Iterator[tuple[str, Drawings | None]]:
    """The contents of a tool's annotation files; None for one of another kind. Faults are added to ``faults``.

    A file that is faulty as a whole is skipped. ``module`` has the task, made by drawings.task. Small files are passed to the
    child together, a large one alone. Raises as ``coco`` does.
    """
    ceilings = Ceilings.read()
    limit = ceilings.annotation_mebibytes * MEBIBYTE
    left = ceilings.annotations
    small: list[str] = []
    large: list[str] = []
    for path in paths:
        with refusing(path), tree.open(path) as file:
            if file.size > limit:
                raise too_large(path, file.size, limit, raise_it("annotation_mebibytes"))
            (large if file.size > _BATCH_BYTES else small).append(path)
    for batch, answer in _together(_Task(task, "entries", module), tree, small, faults, {}):
        with refusing(_either(batch)):
            left -= int(answer.document["entries"])
            yield from _drawings(answer, batch)
    for path in large:
        with refusing(path), tree.open(path) as file:
            told = {"where": path, "annotations": left}
            answer = pool(ceilings, module).run(task, told, file=file.descriptor)
            file.require_same()
        with refusing(path):
            faults.include(answer.document["faults"])
            left -= int(answer.document["entries"])
            yield from _drawings(answer, [path])


def pixels(
    module: str, tree: SourceFiles, path: str, numbers: Sequence[int], *, coloured: bool = False
) -> tuple[Mapping[str, int], list[Sequence[int] | None]]:
    """The mask coordinates for each of the ``numbers`` in a picture, None for one without pixels.

    ``coloured``: the numbers are colours, and a picture without red, green and blue is refused. The mapping has ``width``,
    ``height``, and the count of pixels with ``others``. Raises as ``coco`` does.
    """
    ceilings = Ceilings.read()
    with refusing(path), tree.open(path) as file:
        told = {"where": printable(path), "numbers": list(numbers), "coloured": coloured}
        answer = pool(ceilings, module).run("pixels", told, file=file.descriptor)
        file.require_same()
    with refusing(path):
        found = orjson.loads(answer.raw)
        if not isinstance(found, list) or len(found) != len(numbers):
            raise ValueError("masks")
        return {name: int(answer.document[name]) for name in ("width", "height", "others")}, found


def _drawings(answer: Answer, paths: Sequence[str]) -> Iterator[tuple[str, Drawings | None]]:
    """Parse the child's answer about files. Raises ValueError if it is invalid."""
    lines = many_shapes.lines(answer.raw, _LARGEST_ANSWER)
    for path in paths:
        found = orjson.loads(next(lines, b""))
        if found is not None:
            yield path, None if found is False else Drawings.restored(found, lines, printable(path))


def objects(
    module: str, tree: SourceFiles, paths: Sequence[str], arguments: Mapping[str, Any]
) -> tuple[Mapping[str, int], list[tuple[int, Sequence[float]]]]:
    """The content of a picture of classes, optionally with one of objects: see label_pictures_document.

    Raises as ``coco`` does.
    """
    parts = [_content(tree, path, MAX_PICTURE) for path in paths]
    with refusing(paths[0]):
        told = {"where": printable(paths[0]), "lengths": [len(part) for part in parts], **arguments}
        answer = pool(Ceilings.read(), module).run("objects", told, b"".join(parts))
        found: list[tuple[int, Sequence[float]]] = [
            (int(number), list(map(float, coordinates))) for number, coordinates in orjson.loads(answer.raw)
        ]
        return {name: int(answer.document[name]) for name in ("width", "height", "others", "mixed")}, found


@dataclass(frozen=True)
class _Task:
    """A task of ``module`` that reads several files. ``counted`` is the key of the number of annotations in its answer."""

    name: str
    counted: str
    module: str = PARSERS


def _together(
    task: _Task, tree: SourceFiles, paths: Iterable[str], faults: Faults, arguments: Mapping[str, Any]
) -> Iterator[tuple[list[str], Answer]]:
    """Batches of small files with the task's answers."""
    ceilings = Ceilings.read()
    left = ceilings.annotations
    for batch in _batches(tree, paths):
        header = orjson.dumps([(path, len(content)) for path, content in batch])
        content = b"".join((header, *(content for _, content in batch)))
        named = [path for path, _ in batch]
        with refusing(_either(named)):
            answer = pool(ceilings, task.module).run(
                task.name, {"header": len(header), "annotations": left, **arguments}, content
            )
            faults.include(answer.document["faults"])
            left -= int(answer.document[task.counted])
        yield named, answer


def _either(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"one of {paths[0]} to {paths[-1]}"


def _rows(answer: Answer, files: int, classes: int) -> list[Labels]:
    """Parse the child's answer about label files. Raises ValueError if it is invalid."""
    import numpy as np

    rows = answer.document["rows"]
    parts = _cut(memoryview(answer.raw), *(4 * files,) * 6, 4 * rows, 32 * rows, answer.document["outlines"])
    counts, *others, ids = (np.frombuffer(part, np.int32) for part in parts[:7])
    _require_below(ids, classes)
    sides = np.frombuffer(parts[7], np.float64).reshape(-1, 4)
    if (counts < 0).any() or int(counts.sum()) != rows:
        raise ValueError("counts")
    outlines = orjson.loads(parts[8]) if len(parts[8]) else [()] * files
    if len(outlines) != files:
        raise ValueError("outlines")
    whose: Any = np.repeat(np.arange(files, dtype=np.int32), counts)
    kept = repeated_boxes.first_of_equal(whose, ids, sides, _ROUNDED_FRACTION)
    left = np.bincount(whose[kept], minlength=files)
    ends = np.cumsum(left)
    doubted: Any = np.bincount(
        whose[kept], weights=repeated_boxes.are_doubted(whose[kept], sides[kept]), minlength=files
    )
    ids, sides = ids[kept], sides[kept]
    found = []
    for index, (end, size, count) in enumerate(zip(ends.tolist(), left.tolist(), counts.tolist(), strict=True)):
        polygons, *alike, columns = (int(part[index]) for part in others)
        boxes, repeated = count - polygons, count - size
        rows_of = slice(end - size, end)
        told = (polygons, boxes, repeated, keypoints.Likeness(*alike), columns, int(doubted[index]), outlines[index])
        found.append(Labels(ids[rows_of], sides[rows_of], *told))
    return found


def _batches(tree: SourceFiles, paths: Iterable[str]) -> Iterator[list[tuple[str, bytes]]]:
    """Batches of files with their contents. A source has as many label files as images, and a call for each would take hours."""
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


def parsed(task: str, tree: SourceFiles, path: str, limit: int, module: str = PARSERS) -> Any:
    """The JSON result of a task of ``module`` for a file: how formats with their own parser run it in a child.

    Raises as ``coco`` does.
    """
    content = _content(tree, path, limit)
    with refusing(path):
        answer = pool(Ceilings.read(), module).run(task, {"where": printable(path)}, content)
        return orjson.loads(answer.raw)


def answered(question: str, tree: SourceFiles, path: str, module: str) -> bool:
    """The answer of a task of ``module``, made by drawings.question, about a file of any size, of which it reads little.

    Raises as ``coco`` does.
    """
    with refusing(path), tree.open(path) as file:
        answer = pool(Ceilings.read(), module).run(question, {"where": printable(path)}, file=file.descriptor)
        return orjson.loads(answer.raw) is True


def _content(tree: SourceFiles, path: str, limit: int) -> bytes:
    try:
        return tree.read(path, limit)
    except TooLargeError as error:
        raise too_large(path, error.size, limit) from error


def _cut(raw: memoryview, *lengths: int) -> list[memoryview]:
    """Cut an answer into parts, whose lengths must add up exactly. Raises ValueError otherwise."""
    if any(not isinstance(length, int) or length < 0 for length in lengths) or sum(lengths) != len(raw):
        raise ValueError("lengths")
    parts, start = [], 0
    for length in lengths:
        parts.append(raw[start : start + length])
        start += length
    return parts


def _require_below(indices: npt.NDArray[np.int32], count: int) -> None:
    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < count):
        raise ValueError("indices")


@cache
def pool(ceilings: Ceilings, module: str = PARSERS) -> Pool:
    """The pool of children for a module of tasks, one per process, since files are read one after the other."""
    limits = Limits(
        memory=_MEMORY,
        cpu=ceilings.annotation_seconds,
        deadline=_SLOWNESS * ceilings.annotation_seconds,
        result=_MEMORY // 2,
    )
    return Pool(module, limits)


class refusing:  # noqa: N801 - used like a function
    """A context that turns failures of a child into refusals of the file ``path``. Answers of a compromised child may be
    anything."""

    def __init__(self, path: str) -> None:
        self._where = printable(path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TaskRefusedError):
            reason, field = error.detail.get("reason"), error.detail.get("field")
            known = reason if reason in set(Reason) else Reason.FORMAT_INVALID.value
            raise RefusedError(Reason(known), str(error), field if isinstance(field, str) else None) from error
        if isinstance(error, LimitError):
            told = f"{self._where} is not read: {error}"
            if error.kind in {"cpu", "deadline"}:
                raise invalid(
                    f"{told} ({raise_it('annotation_seconds')}); divide it, or have the ceiling raised"
                ) from error
            raise invalid(f"{told}; divide it, or leave out what is not a box") from error
        if isinstance(error, SandboxError | ValueError | TypeError | KeyError | IndexError):
            raise invalid(f"{self._where} cannot be parsed; export it again") from error
