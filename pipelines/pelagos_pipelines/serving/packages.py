"""What a model package is made of, and how one is read from where others may have written. Standard library only.

Called by the export, which writes packages; by the entrypoint and by fetch, which bring them to a server; and by the predictor,
which loads them. A package is data: one description, one ONNX graph, one probe. Nothing in it is ever executed. The sha256 of its
description pins all of it, and whoever asks for a package names that digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pelagos_pipelines.serving import tasks

SCHEMA_VERSION, CALIBRATED_VERSION = 2, 3
"""Of packages, and of those with a temperature, or with thresholds of classes: servers from before there were any refuse them."""
TEMPERATURES, OFFSETS = (0.05, 20.0), (-20.0, 20.0)
"""The lowest and the highest."""
DESCRIPTION, GRAPH, IMAGE, ANSWER = "package.json", "model.onnx", "probe.png", "probe.json"
LARGEST = {DESCRIPTION: 4 << 20, GRAPH: (2 << 30) - 1, IMAGE: 64 << 20, ANSWER: 4 << 20}
"""All files of a package, and how many bytes of each are read at most. A protobuf cannot be larger than that graph."""
FILES = (GRAPH, IMAGE, ANSWER)
"""What a description lists: exactly these."""
COLORS = ("GrayWorld", "Clahe")
"""Corrections that an input may have: color.METHODS, which this cannot import."""
LARGEST_TILE, LARGEST_SIDE = 4096, 16384
"""Pixels of a side: of a tile, and of an image that is reduced."""
CODE = Path(__file__).with_name("code.json")
"""Which of our own files the server's Python backend loads; read by the control plane too, which cannot import this."""
_HEX = frozenset("0123456789abcdef")
_AGAIN = "train or export the model again"


class RefusedError(Exception):
    """The package or a setting must be corrected; trying again does not help."""


@dataclass(frozen=True)
class Description:
    """What is needed of ``package.json``: digests by file name, and how images become tensors and outputs of a kind objects."""

    files: Mapping[str, str]
    task: str
    labels: tuple[str, ...]
    image_size: int
    stride: int
    color: str | None = None
    tile: tuple[int, int] | None = None
    longest: int | None = None
    head: str | None = None
    stuff: tuple[str, ...] = ()
    scaling: tuple[float, float] | None = None
    """Temperature and offset of its scores."""
    confidences: Mapping[str, float] | None = None


def describe(content: bytes, place: object, manifest_sha256: str | None) -> Description:
    """The description in ``content``, which was found at ``place``. Raises RefusedError for another than the pinned one.

    Without a pin whatever is well formed is taken: for those who have just made it.
    """
    if manifest_sha256 is not None:
        _require_pinned(content, place, manifest_sha256)
    found = _object(content, place)
    version = found.get("schemaVersion")
    if type(version) is not int or version not in {SCHEMA_VERSION, CALIBRATED_VERSION}:
        said = (
            version if type(version) is int and 0 <= version < SCHEMA_VERSION else "another"
        )  # never what a file says
        served = f"{SCHEMA_VERSION} and {CALIBRATED_VERSION} are served"
        _refuse(place, f"schemaVersion is {said}, and {served}: older packages hold code; {_AGAIN}")
    files, given = found.get("files"), found.get("input")
    if not isinstance(files, dict) or set(files) != set(FILES):
        _refuse(place, f"'files' must list {', '.join(FILES)} and nothing else; {_AGAIN}")
    if not all(is_digest(digest) for digest in files.values()) or files[GRAPH] != found.get("onnxSha256"):
        _refuse(place, f"'files' must map names to their sha256, and onnxSha256 be that of {GRAPH}; {_AGAIN}")
    labels, stuff = found.get("labels"), found.get("stuff", [])
    if (
        found.get("task") not in tuple(tasks.MODULES)  # which may be anything
        or not isinstance(labels, list)
        or not all(type(item) is str for item in labels)
        or not _are_among(stuff, labels)
    ):
        named = ", ".join(tasks.MODULES)
        _refuse(
            place, f"'task' must be one of {named}, 'labels' a list of names, 'stuff' one of some of them; {_AGAIN}"
        )
    task, head = found["task"], _head(found, place)
    given = given if isinstance(given, dict) else {}
    size, stride, color = given.get("imageSize"), given.get("stride"), given.get("color")
    if (
        type(size) is not int
        or type(stride) is not int
        or not 1 <= min(size, stride) <= max(size, stride) <= LARGEST_SIDE
    ):
        _refuse(place, f"'input' must hold imageSize and stride in pixels, at most {LARGEST_SIDE}; {_AGAIN}")
    if color not in (None, *COLORS):  # which may be anything
        _refuse(place, f"'input.color' must be one of {', '.join(COLORS)}; {_AGAIN}")
    tile = given.get("tile")
    if tile is not None and not _is_tile(tile):
        _refuse(
            place, f"'input.tile' must hold size and overlap in pixels, the overlap at most half of the size; {_AGAIN}"
        )
    cut = None if tile is None else (tile["size"], tile["overlap"])
    resize = given.get("resize")
    longest = resize.get("longest") if isinstance(resize, dict) and len(resize) == 1 else None
    if resize is not None and not (type(longest) is int and 1 <= longest <= LARGEST_SIDE):
        _refuse(place, f"'input.resize' must hold longest in pixels, at most {LARGEST_SIDE}; {_AGAIN}")
    more = _scaling(found, place), _confidences(found, labels, place)
    return Description(files, task, tuple(labels), size, stride, color, cut, longest, head, tuple(stuff), *more)


def read(package: Path, manifest_sha256: str | None = None) -> tuple[Description, bytes]:
    """The description of the package in a folder, and its bytes. Raises RefusedError."""
    path = package / DESCRIPTION
    with opened(path) as file:
        content = file.read(LARGEST[DESCRIPTION] + 1)
    return describe(content, path, manifest_sha256), content


def verify(
    package: Path, manifest_sha256: str, target: Path | None = None, *, kept: Sequence[str] = FILES
) -> Description:
    """Compare every file with what is pinned, and copy those that are ``kept`` into the folder ``target`` when there is one.

    What is copied is what was compared. Raises RefusedError for a package that is missing, altered, or another one.
    """
    description, content = read(package, manifest_sha256)
    for name in FILES:
        copy(package, name, description.files[name], target / name if target and name in kept else None)
    if target is not None:
        # The description is what makes a package: it comes last.
        (target / DESCRIPTION).write_bytes(content)
    return description


def copy(package: Path, name: str, digest: str, target: Path | None) -> None:
    """Copy a file of a package while it is compared with its digest, or only compare it. Raises RefusedError."""
    # One byte more than may be there, so that a larger file is known from one of just that size. Nobody's word on sizes is taken.
    found, left = hashlib.sha256(), LARGEST[name] + 1
    written = target.open("wb") if target is not None else None
    try:
        with opened(package / name) as file:
            while block := file.read(min(left, 1 << 20)):
                left -= len(block)
                found.update(block)
                if written is not None:
                    written.write(block)
    finally:
        if written is not None:
            written.close()
    require_size(package / name, LARGEST[name] + 1 - left, name)
    _require_digest(package, name, found.hexdigest(), digest)


def require_digest(package: Path, name: str, content: bytes, digest: str) -> None:
    """Raises RefusedError when the content of a file is not the one with ``digest``."""
    _require_digest(package, name, hashlib.sha256(content).hexdigest(), digest)


def require_size(place: object, size: int, name: str) -> None:
    """Raises RefusedError for a file that is larger than its kind may be."""
    if size > LARGEST[name]:
        raise RefusedError(f"{place} is larger than the {LARGEST[name]} bytes that {name} of a package may have")


def opened(path: Path) -> BinaryIO:
    """A plain file, opened once: no link, no device, nothing that would make the reader wait. Raises RefusedError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if path.name == DESCRIPTION:
            message = f"{path} is missing: there is no model package. Was it deleted, or is the volume empty?"
            raise RefusedError(message) from None
        raise RefusedError(f"{path} is missing; {_AGAIN}") from None
    except OSError as error:
        raise RefusedError(f"{path} cannot be read as a file of a package: {error.strerror}; {_AGAIN}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RefusedError(f"{path} is not a plain file; {_AGAIN}")
    return os.fdopen(descriptor, "rb")


def is_digest(value: object) -> bool:
    """Whether it is a sha256 in lower-case hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= _HEX


def install_code(version: Path) -> None:
    """Put the code that serves every package into a version folder of the server's repository: ours, from this installation."""
    listed = json.loads(CODE.read_text(encoding="utf-8"))
    installation = Path(__file__).parents[2]
    for name, target in {listed["model"]: "model.py", **{name: name for name in listed["modules"]}}.items():
        (version / target).parent.mkdir(parents=True, exist_ok=True)
        (version / target).write_bytes((installation / name).read_bytes())


def _head(found: Mapping[str, Any], place: object) -> str | None:
    """The kind of outputs that a package for a known task names, or None where it names none. Raises RefusedError."""
    known, head = tasks.heads(found["task"]), found.get("head")
    if head not in known:  # which may be anything
        told = ", ".join(map(str, known))
        _refuse(place, f"'head' of a package for {found['task']} must be {told}; serve it by a release that knows it")
    return None if head is None else str(head)


def _scaling(found: Mapping[str, Any], place: object) -> tuple[float, float] | None:
    """Of scores, or None where a package for a known task says nothing of it. Raises RefusedError."""
    given = found.get("calibration")
    if given is None:
        return None
    _require_calibrated(found, "calibration", place)
    given = given if isinstance(given, dict) and given.keys() <= {"temperature", "offset"} else {}
    temperature: Any = given.get("temperature")
    offset: Any = given.get("offset", 0.0)
    if not _is_number(temperature, *TEMPERATURES) or not _is_number(offset, *OFFSETS):
        bounds = (
            f"a temperature from {TEMPERATURES[0]} to {TEMPERATURES[1]}, an offset from {OFFSETS[0]} to {OFFSETS[1]}"
        )
        _refuse(place, f"'calibration' must hold {bounds} and nothing else; {_AGAIN}")
    return float(temperature), float(offset)


def _confidences(found: Mapping[str, Any], labels: Sequence[str], place: object) -> Mapping[str, float] | None:
    """What the scores of classes must reach, by label; None as above. Raises RefusedError."""
    thresholds = found.get("thresholds")
    given = thresholds.get("classes") if isinstance(thresholds, dict) else None
    if given is None:
        return None
    _require_calibrated(found, "thresholds.classes", place)
    if not isinstance(given, dict) or not given.keys() <= set(labels):
        _refuse(place, f"'thresholds.classes' must map some of 'labels' to numbers; {_AGAIN}")
    if not all(_is_number(each, 0, 1) for each in given.values()):
        _refuse(place, f"'thresholds.classes' must hold numbers from 0 to 1; {_AGAIN}")
    return {label: float(each) for label, each in given.items()}


def _require_calibrated(found: Mapping[str, Any], field: str, place: object) -> None:
    """Raises RefusedError for a package that may not have a field of those that say how sure scores are."""
    if found["schemaVersion"] != CALIBRATED_VERSION:
        _refuse(place, f"'{field}' is of packages with schemaVersion {CALIBRATED_VERSION} alone; {_AGAIN}")
    if found["task"] not in tasks.CALIBRATED:
        _refuse(place, f"'{field}' is of packages for {', '.join(tasks.CALIBRATED)} alone; {_AGAIN}")


def _is_number(given: object, low: float, high: float) -> bool:
    """Whether it is one between two, which may be anything."""
    return isinstance(given, int | float) and type(given) is not bool and low <= given <= high


def _are_among(some: object, labels: Sequence[str]) -> bool:
    """Whether it is a list of labels, which may be anything."""
    return isinstance(some, list) and all(type(item) is str and item in labels for item in some)


def _is_tile(given: object) -> bool:
    """Whether it is what `Description.tile` is made of, which may be anything."""
    if not isinstance(given, dict) or set(given) != {"size", "overlap"}:
        return False
    size, overlap = given["size"], given["overlap"]
    return type(size) is int and type(overlap) is int and 1 <= size <= LARGEST_TILE and 0 <= 2 * overlap <= size


def _require_pinned(content: bytes, place: object, manifest_sha256: str) -> None:
    require_size(place, len(content), DESCRIPTION)
    actual = hashlib.sha256(content).hexdigest()
    if not is_digest(manifest_sha256) or actual != manifest_sha256:
        raise RefusedError(
            f"{place} has been altered, or is of another package: sha256 {actual} instead of "
            f"{manifest_sha256 or '(none)'}; {_AGAIN}"
        )


def _object(content: bytes, place: object) -> dict[str, Any]:
    require_size(place, len(content), DESCRIPTION)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{place} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{place} does not hold a JSON object")
    return found


def _require_digest(package: Path, name: str, actual: str, digest: str) -> None:
    if actual != digest:
        raise RefusedError(f"{package}: {name} has been altered: sha256 {actual} instead of {digest}; {_AGAIN}")


def _refuse(place: object, problem: str) -> NoReturn:
    raise RefusedError(f"{place}: {problem}")
