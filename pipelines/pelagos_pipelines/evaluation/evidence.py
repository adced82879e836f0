"""A model's results on each image of a split, compact enough to be stored, from which metrics of any multiset of images follow.

Intervals, slices and comparisons compute metrics thousands of times from it, without images or predictions. A task's strategy
defines the tables, builds them, and computes metrics from them (`tasks.strategy.Strategy`). The file is an npz, a zip of arrays,
with ``evidence.json`` in it. Equal evidence gives equal bytes. Files are untrusted when read: sizes are bounded before memory is
allocated, and every index and number is checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract import disk
from pelagos_contract.tasks import TASKS as DESCRIPTIONS
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation.counting import confident
from pelagos_pipelines.evaluation.counting.tables import Table
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.tasks import TASKS

NAME = "evidence.npz"
HEADER = "evidence.json"
FORM = 1
LARGEST = 256 * 1024**2
"""Most bytes of a file."""
LARGEST_UNPACKED = 1024**3
"""Most bytes of its arrays."""
LARGEST_HEADER = 64 * 1024**2
MOST_MEMBERS = 64
"""Most members of the archive, several times as many as any task has columns."""
MOST_IMAGES = 1_000_000
MOST_LABELS = 20_000
MOST_FIELDS = 64
LONGEST = 4096
"""Most characters of a name or value."""
HELD = 2_000_000
"""Weights of images, cells of tables and points of curves that are processed at once, which bounds memory."""
POINTS = 1_001
_DATE = (1980, 1, 1, 0, 0, 0)
_LISTED = b"PK\x01\x02"
"""First bytes of each entry in a zip's central directory."""


class EvidenceError(Exception):
    """The file is not evidence, or too large; the message says why."""


@dataclass(frozen=True)
class Evidence:
    """Tables by name. ``objects`` are the numbers of annotations by image; ``fields`` are values by which images are grouped,
    None where one is not known.

    ``version`` is that of the dataset. ``test`` is the digest of images and ground truth, which is the same in every version that
    has them.
    """

    task: Task
    labels: tuple[str, ...]
    version: str
    test: str
    images: tuple[str, ...]
    objects: tuple[int, ...]
    fields: Mapping[str, tuple[str | None, ...]]
    tables: Mapping[str, Table]
    confidences: tuple[float, ...] | None = None
    """Confidence thresholds by class for precision, recall and F1; None: the task's usual rule."""
    package: str | None = None
    """The SHA-256 of the model's package.json if the packaged model was evaluated; None: before it was packaged."""

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(len(column) for table in self.tables.values() for column in [*table.values()][:1])

    @property
    def at_once(self) -> int:
        """The number of multisets to count at once."""
        return max(1, HELD // max(len(self.images), self.rows, 10 * len(self.labels), POINTS))

    def counter(self) -> Callable[[Any], dict[str, Any]]:
        """The function behind `counted`, for at most ``at_once`` multisets per call."""
        sizes = len(self.images), len(self.labels)
        count = TASKS.named(self.task).counter(self.tables, *sizes)
        if self.confidences is None:
            return count
        at_confidences = confident.counter(self.tables, *sizes, self.confidences)
        return lambda weights: count(weights) | at_confidences(weights)

    def part(self, chosen: Sequence[int]) -> Evidence:
        """The evidence of some images, by their ascending indices."""
        places: Any = np.full(len(self.images), -1, np.int32)
        places[list(chosen)] = np.arange(len(chosen))
        tables: dict[str, Table] = {}
        for name, table in self.tables.items():
            kept = places[table["image"]] >= 0 if "image" in table else slice(None)
            tables[name] = {column: values[kept] for column, values in table.items()}
            if "image" in table:
                tables[name] = {**tables[name], "image": places[tables[name]["image"]]}
        return replace(
            self,
            images=tuple(self.images[place] for place in chosen),
            objects=tuple(self.objects[place] for place in chosen),
            fields={name: tuple(values[place] for place in chosen) for name, values in self.fields.items()},
            tables=tables,
        )


def collect(  # noqa: PLR0913, PLR0917 - all results of a model
    task: Task,
    samples: Sequence[Sample],
    found: Sequence[Any],
    labels: Sequence[str],
    version: str,
    fields: Mapping[str, Sequence[str | None]],
    confidences: tuple[float, ...] | None = None,
) -> Evidence:
    """The evidence of predictions ``found`` for ``samples``, in the same order."""
    tables = TASKS.named(task).evidence(samples, found, labels)
    values = {name: tuple(column) for name, column in fields.items()}
    images = tuple(sample.name for sample in samples)
    objects = tuple(len(sample.class_ids) for sample in samples)
    test = digest_of(samples, labels)
    return Evidence(task, tuple(labels), version, test, images, objects, values, tables, confidences)


def digest_of(samples: Sequence[Sample], labels: Sequence[str]) -> str:
    """The digest of images and ground truth, which is equal when two models had the same test."""
    found = hashlib.sha256(json.dumps(list(labels)).encode())
    for sample in samples:
        shapes = [repr(shape) for shape in sample.shapes]
        truth = [sample.name, sample.sha256, np.asarray(sample.class_ids).tolist(), np.asarray(sample.boxes).tolist()]
        crowds = [repr(crowd) for crowd in sample.crowds]
        found.update(json.dumps([*truth, shapes, *([crowds] if crowds else [])]).encode() + b"\n")
    return f"sha256:{found.hexdigest()}"


def counted(evidence: Evidence, weights: npt.NDArray[Any]) -> dict[str, Any]:
    """The metrics of multisets of images, without those of single classes, by their names without a split.

    Args:
        weights: the multiplicity of each image in each multiset: integers ``[multisets, images]``.

    Returns:
        ``[multisets]`` for each metric; NaN where it is undefined.
    """
    count, size = evidence.counter(), evidence.at_once
    weights = np.asarray(weights, np.int32)
    parts = [count(weights[start : start + size]) for start in range(0, len(weights), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def write(evidence: Evidence, path: Path) -> str:
    """Write the file atomically; returns its SHA-256.

    Raises:
        EvidenceError: it would exceed the limits of readers, or has values that they refuse, such as NaN scores.
        OSError: for example a full disk.
    """
    header: dict[str, Any] = {
        "form": FORM,
        "task": evidence.task.value,
        "labels": evidence.labels,
        "version": evidence.version,
        "test": evidence.test,
        "images": evidence.images,
        "objects": evidence.objects,
        "fields": evidence.fields,
    }
    if evidence.confidences is not None:
        header["confidences"] = evidence.confidences
    if evidence.package is not None:
        header["package"] = evidence.package
    size = sum(column.nbytes for table in evidence.tables.values() for column in table.values())
    told = json.dumps(header, sort_keys=True).encode()
    if max(size / LARGEST_UNPACKED, len(told) / LARGEST_HEADER, len(evidence.images) / MOST_IMAGES) > 1:
        raise EvidenceError(f"it has {len(evidence.images)} images and {size + len(told)} bytes, more than is kept")
    # The same checks as in `read`, since a file that readers refuse would look as if it was altered.
    _texts([*evidence.labels], MOST_LABELS)
    _texts([*evidence.images], MOST_IMAGES)
    for of_field in evidence.fields.values():
        _values([*of_field], len(evidence.images))
    for name, table in evidence.tables.items():
        _require_sound(name, table, len(evidence.images), len(evidence.labels))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        _add(archive, HEADER, told)
        for name, table in sorted(evidence.tables.items()):
            for column, values in sorted(table.items()):
                array = io.BytesIO()
                np.lib.format.write_array(array, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
                _add(archive, _member(name, column), array.getvalue())
    found = content.getvalue()
    if len(found) > LARGEST:
        raise EvidenceError(f"it has {len(found)} bytes, more than is kept")
    disk.write_atomically(path, found, parents=True)
    return f"sha256:{hashlib.sha256(found).hexdigest()}"


def read(path: Path, sha256: str | None = None) -> Evidence:
    """Read an untrusted evidence file; ``sha256``, which begins with ``sha256:``, must match if it is given.

    Raises:
        EvidenceError: it is not valid evidence, or not the expected file.
        OSError: it does not exist or cannot be read.
    """
    # Others who can write there could create a pipe, from which reading would block forever.
    if path.exists() and not path.is_file():
        raise EvidenceError("it is no file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise EvidenceError(f"it has more than {LARGEST} bytes")
    if sha256 is not None and f"sha256:{hashlib.sha256(content).hexdigest()}" != sha256:
        raise EvidenceError(f"its SHA-256 is not {sha256}")
    # Count before the directory is parsed, since every entry becomes an object and its stated length may be false.
    if content.count(_LISTED) > MOST_MEMBERS:
        raise EvidenceError(f"it is an archive of more than {MOST_MEMBERS} files")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read(archive)
    except EvidenceError:
        raise
    except (
        zipfile.BadZipFile,
        ValueError,
        TypeError,
        KeyError,
        RecursionError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise EvidenceError(f"it is no evidence ({type(error).__name__})") from error
    except Exception as error:  # zlib and others raise various exceptions on untrusted bytes
        raise EvidenceError(f"it cannot be unpacked ({type(error).__name__})") from error


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _member(table: str, column: str) -> str:
    return f"{table}.{column}.npy"


def _read(archive: zipfile.ZipFile) -> Evidence:
    header = json.loads(_unpacked(archive, HEADER, LARGEST_HEADER))
    if header["form"] != FORM:
        raise EvidenceError(f"it has the form {header['form']!r}, and this release knows {FORM}")
    task = Task(header["task"])
    labels, images = (_texts(header[name], most) for name, most in (("labels", MOST_LABELS), ("images", MOST_IMAGES)))
    version, test = _texts([header["version"], header["test"]], 2)
    objects = header["objects"]
    if (
        not isinstance(objects, list)
        or len(objects) != len(images)
        or not all(type(n) is int and n >= 0 for n in objects)
    ):
        raise EvidenceError("its objects are no numbers, one for each image")
    given = header["fields"]
    if not isinstance(given, dict) or len(given) > MOST_FIELDS:
        raise EvidenceError("its fields are no mapping, or too many")
    fields = {name: _values(column, len(images)) for name, column in given.items()}
    left = LARGEST_UNPACKED
    tables: dict[str, dict[str, Any]] = {}
    for name, columns in TASKS.named(task).tables.items():
        tables[name] = {}
        for column, kind in columns.items():
            array = _column(_unpacked(archive, _member(name, column), left), kind)
            left -= array.nbytes
            tables[name][column] = array
        _require_sound(name, tables[name], len(images), len(labels))
    confidences = _confidences(header.get("confidences"), task, len(labels))
    package = header.get("package")
    if package is not None:
        (package,) = _texts([package], 1)
    return Evidence(task, labels, version, test, images, tuple(objects), fields, tables, confidences, package)


def _confidences(given: object, task: Task, labels: int) -> tuple[float, ...] | None:
    if given is None:
        return None
    if (
        not DESCRIPTIONS[task].calibrated
        or not isinstance(given, list)
        or len(given) != labels
        or not all(type(each) in {int, float} and 0 <= each <= 1 for each in given)
    ):
        raise EvidenceError(
            "its confidences are not one for each class, from 0 to 1, of models that are sure of something"
        )
    return tuple(map(float, given))


def _unpacked(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    # Bounded by reading, since the sizes stated in an archive may be false.
    with archive.open(name) as member:
        content = member.read(most + 1)
    if len(content) > most:
        raise EvidenceError(f"{name} unpacks to more than {most} bytes")
    return content


def _column(content: bytes, kind: str) -> npt.NDArray[Any]:
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise EvidenceError("an array is of another version than 1.0")
    shape, _, found = np.lib.format.read_array_header_1_0(stream, max_header_size=1024)
    body = content[stream.tell() :]
    if found != np.dtype(kind) or len(shape) != 1 or shape[0] * found.itemsize != len(body):
        raise EvidenceError("an array has another type or size than it should")
    return np.frombuffer(body, found)


def _require_sound(name: str, table: Table, images: int, labels: int) -> None:
    if len({len(column) for column in table.values()}) > 1:
        raise EvidenceError(f"columns of the table {name} are not equally long")
    for column, values in table.items():
        bound = {"image": images, "class": labels, "guess": labels}.get(column)
        # Valid columns have neither negative nor non-finite values.
        if len(values) and not (np.isfinite(values).all() and values.min() >= 0):
            raise EvidenceError(f"{name}.{column} has a value that cannot be")
        if bound is not None and len(values) and values.max() >= bound:
            raise EvidenceError(f"{name}.{column} points at what is not there")


def _texts(found: object, most: int) -> tuple[str, ...]:
    if not isinstance(found, list) or len(found) > most or not all(_is_text(each) for each in found):
        raise EvidenceError("its header has other names than texts, or too many")
    return tuple(found)


def _values(found: object, count: int) -> tuple[str | None, ...]:
    if not isinstance(found, list) or len(found) != count or not all(each is None or _is_text(each) for each in found):
        raise EvidenceError("a field has other values than a text or null for each image")
    return tuple(found)


def _is_text(found: object) -> bool:
    return isinstance(found, str) and len(found) <= LONGEST
