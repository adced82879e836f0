"""The format of model packages, and how to read one from a place where others may write. Standard library only.

Called by the export, which writes packages; by the entrypoint and fetch, which bring them to a server; and by the predictor,
which loads them. A package is data: one description, one ONNX graph, one probe. Nothing in it is ever executed. The sha256 of its
description pins all of it, and a caller that needs a package names that digest.
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
"""The version of packages, and of those with a temperature or thresholds of classes, which earlier servers must refuse."""
TEMPERATURES, OFFSETS = (0.05, 20.0), (-20.0, 20.0)
"""The lowest and the highest values."""
DESCRIPTION, GRAPH, IMAGE, ANSWER = "package.json", "model.onnx", "probe.png", "probe.json"
LARGEST = {DESCRIPTION: 4 << 20, GRAPH: (2 << 30) - 1, IMAGE: 64 << 20, ANSWER: 4 << 20}
"""All files of a package, each with the most bytes that are read. The graph's limit is that of a protobuf."""
FILES = (GRAPH, IMAGE, ANSWER)
"""The files that a description must list, no more and no fewer."""
COLORS = ("GrayWorld", "Clahe")
"""The colour corrections that an input may have: the keys of color.METHODS, which this module cannot import."""
LARGEST_TILE, LARGEST_SIDE = 4096, 16384
"""The most pixels of a side of a tile, and of an image that is reduced."""
CODE = Path(__file__).with_name("code.json")
"""The list of our files that the server's Python backend loads. The control plane, which cannot import this, reads it as well."""
_HEX = frozenset("0123456789abcdef")
_AGAIN = "train or export the model again"


class RefusedError(Exception):
    """The package or a setting must be corrected; trying again does not help."""


@dataclass(frozen=True)
class Description:
    """The needed content of ``package.json``: digests by file name, and how to preprocess images and decode outputs."""

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
    """Temperature and offset for calibrating scores."""
    confidences: Mapping[str, float] | None = None


def describe(content: bytes, place: object, manifest_sha256: str | None) -> Description:
    """Parse the description in ``content``, found at ``place``. Raises RefusedError if it is invalid, or not the pinned one.

    Without a pin, any valid description is accepted: for callers that have just written it.
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
        _refuse(place, f"schemaVersion is {said}, but {served}: older packages contain code; {_AGAIN}")
    files, given = found.get("files"), found.get("input")
    if not isinstance(files, dict) or set(files) != set(FILES):
        _refuse(place, f"'files' must list {', '.join(FILES)} and nothing else; {_AGAIN}")
    if not all(is_digest(digest) for digest in files.values()) or files[GRAPH] != found.get("onnxSha256"):
        _refuse(place, f"'files' must map names to their sha256, and onnxSha256 be that of {GRAPH}; {_AGAIN}")
    labels, stuff = found.get("labels"), found.get("stuff", [])
    if (
        found.get("task") not in tuple(tasks.MODULES)  # a tuple, because the value may be unhashable
        or not isinstance(labels, list)
        or not all(type(item) is str for item in labels)
        or not _are_among(stuff, labels)
    ):
        named = ", ".join(tasks.MODULES)
        _refuse(
            place, f"'task' must be one of {named}, 'labels' a list of names, 'stuff' a list of some of them; {_AGAIN}"
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
    if color not in (None, *COLORS):  # the value may be anything
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
    """Compare every file with the pinned digests, and copy those that are ``kept`` into the folder ``target``, if given.

    The copied bytes are those that were compared. Raises RefusedError for a package that is missing, altered, or another one.
    """
    description, content = read(package, manifest_sha256)
    for name in FILES:
        copy(package, name, description.files[name], target / name if target and name in kept else None)
    if target is not None:
        # The description comes last, because a package exists once its description does.
        (target / DESCRIPTION).write_bytes(content)
    return description


def copy(package: Path, name: str, digest: str, target: Path | None) -> None:
    """Copy a file of a package while comparing it with its digest, or only compare it. Raises RefusedError."""
    # One byte more than allowed is read, to distinguish a larger file from one of just that size. Stated sizes are not trusted.
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
    """Raise RefusedError if the content of a file does not have ``digest``."""
    _require_digest(package, name, hashlib.sha256(content).hexdigest(), digest)


def require_size(place: object, size: int, name: str) -> None:
    """Raise RefusedError for a file above the size limit of its kind."""
    if size > LARGEST[name]:
        raise RefusedError(f"{place} is larger than the {LARGEST[name]} bytes that {name} of a package may have")


def opened(path: Path) -> BinaryIO:
    """Open a regular file: no link, no device, no pipe that would block. Raises RefusedError for anything else."""
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
    """Whether the value is a sha256 in lower-case hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= _HEX


def install_code(version: Path) -> None:
    """Copy the code that serves packages, from this installation, into a version folder of the server's repository."""
    listed = json.loads(CODE.read_text(encoding="utf-8"))
    installation = Path(__file__).parents[2]
    for name, target in {listed["model"]: "model.py", **{name: name for name in listed["modules"]}}.items():
        (version / target).parent.mkdir(parents=True, exist_ok=True)
        (version / target).write_bytes((installation / name).read_bytes())


def _head(found: Mapping[str, Any], place: object) -> str | None:
    """The head that a package for a known task names, or None if it names none. Raises RefusedError for an unknown head."""
    known, head = tasks.heads(found["task"]), found.get("head")
    if head not in known:  # the value may be anything
        told = ", ".join(map(str, known))
        _refuse(place, f"'head' of a package for {found['task']} must be {told}; serve it with a release that knows it")
    return None if head is None else str(head)


def _scaling(found: Mapping[str, Any], place: object) -> tuple[float, float] | None:
    """Temperature and offset, or None if the package does not calibrate scores. Raises RefusedError for invalid ones."""
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
    """Thresholds of classes by label, or None if the package has none. Raises RefusedError for invalid ones."""
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
    """Raise RefusedError for a package whose version or task does not allow the calibration field ``field``."""
    if found["schemaVersion"] != CALIBRATED_VERSION:
        _refuse(place, f"'{field}' is only for packages with schemaVersion {CALIBRATED_VERSION}; {_AGAIN}")
    if found["task"] not in tasks.CALIBRATED:
        _refuse(place, f"'{field}' is only for packages for {', '.join(tasks.CALIBRATED)}; {_AGAIN}")


def _is_number(given: object, low: float, high: float) -> bool:
    """Whether a value of any type is a number from ``low`` to ``high``."""
    return isinstance(given, int | float) and type(given) is not bool and low <= given <= high


def _are_among(some: object, labels: Sequence[str]) -> bool:
    """Whether a value of any type is a list of some of the labels."""
    return isinstance(some, list) and all(type(item) is str and item in labels for item in some)


def _is_tile(given: object) -> bool:
    """Whether a value of any type is a valid ``input.tile``."""
    if not isinstance(given, dict) or set(given) != {"size", "overlap"}:
        return False
    size, overlap = given["size"], given["overlap"]
    return type(size) is int and type(overlap) is int and 1 <= size <= LARGEST_TILE and 0 <= 2 * overlap <= size


def _require_pinned(content: bytes, place: object, manifest_sha256: str) -> None:
    require_size(place, len(content), DESCRIPTION)
    actual = hashlib.sha256(content).hexdigest()
    if not is_digest(manifest_sha256) or actual != manifest_sha256:
        raise RefusedError(
            f"{place} has been altered, or belongs to another package: sha256 {actual} instead of {manifest_sha256 or '(none)'}; "
            f"{_AGAIN}"
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
