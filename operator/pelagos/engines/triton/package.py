"""Parses and verifies a model package's description, which counts only if it is the requested one. Pure.

Called by the serving engines with the bytes of ``package.json``, wherever they are stored. A package is data; the code that
serves it is from our own installation. The sha256 of the description pins the whole package. A service names that digest in
Kubernetes; it is never taken from the place where the package is stored (docs/design/0001-data-plane-contract.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from pelagos.engines.triton.fields import Label, Number, Share, Strict
from pelagos.engines.triton.tasks import TASKS
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import DesiredService
from pelagos_contract import tasks
from pelagos_contract.base import OneOf
from pelagos_contract.preprocessing import Color

SCHEMA_VERSION, CALIBRATED_VERSION = 2, 3
"""Schema versions: of plain packages, and of those with a temperature or thresholds per class."""
TEMPERATURES, OFFSETS = (0.05, 20.0), (-20.0, 20.0)
"""Lowest and highest allowed value."""
DESCRIPTION, GRAPH, IMAGE, ANSWER = "package.json", "model.onnx", "probe.png", "probe.json"
FILES = (GRAPH, IMAGE, ANSWER)
"""The files that a description lists, exactly these. Anything else in the folder is ignored."""
LARGEST = {DESCRIPTION: 4 << 20, GRAPH: (2 << 30) - 1, IMAGE: 64 << 20, ANSWER: 4 << 20}
"""Largest size of each file in bytes; the data plane writes no larger ones (serving.packages)."""
AGAIN = "train or export the model again"
_DIGEST = re.compile(r"[0-9a-f]{64}")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Packed = Annotated[str, Field(min_length=1, max_length=LARGEST[DESCRIPTION], pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
Found = TypeVar("Found")


class Cut(Strict):
    """The tiles that the client must cut larger images into, in pixels."""

    size: Annotated[int, Field(ge=1, le=4096)]
    overlap: Annotated[int, Field(ge=0, le=2048)]


class Reduced(Strict):
    """The longer side that larger images are reduced to, in pixels."""

    longest: Annotated[int, Field(ge=1, le=16384)]


class Geometry(Strict):
    """How images become tensors; sizes in pixels."""

    image_size: Annotated[int, Field(ge=32, le=16384)]
    stride: Annotated[int, Field(ge=1, le=16384)]
    encodings: list[Literal["jpeg", "png"]]
    color: Color | None = None
    tile: Cut | None = None
    resize: Reduced | None = None


class Thresholds(Strict):
    """The thresholds that the known answer was made with."""

    confidence: Share
    iou: Share
    max_detections: Annotated[int, Field(ge=1, le=100_000)]
    classes: Annotated[dict[Label, Share], Field(min_length=1, max_length=100_000)] | None = None
    """Thresholds per class, by label, which replace ``confidence``."""


class Calibration(Strict):
    """How servers adjust scores before they report them (serving.calibration)."""

    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])]
    offset: Annotated[float, Field(ge=OFFSETS[0], le=OFFSETS[1])] = 0.0


class Parity(Strict):
    """How much the exported model deviates from the training framework."""

    images: Annotated[int, Field(ge=0)]
    boxes: Number
    scores: Number


class Dataset(Strict):
    """The dataset and version that the model was trained on."""

    name: Annotated[str, Field(max_length=1024)]
    version: Annotated[str, Field(max_length=256)]


class Outputs(Strict):
    """The graph's outputs for the probe image before any threshold, and how far a server's may deviate.

    Rows of little-endian float32 in base64: ``scores`` and ``best`` have one row per label, ``boxes`` has four rows, ``masks``
    and ``angles`` have one.
    """

    labels: Annotated[list[Label], Field(min_length=1, max_length=100_000)]
    scores: Packed
    best: Packed | None = None
    boxes: Packed | None = None
    masks: Packed | None = None
    angles: Packed | None = None
    allowed: dict[
        Literal["scores", "best", "boxes", "masks", "angles"], Annotated[float, Field(gt=0, allow_inf_nan=False)]
    ]


class Files(Strict):
    """The sha256 digests of all other files."""

    graph: Annotated[Digest, Field(alias=GRAPH)]
    image: Annotated[Digest, Field(alias=IMAGE)]
    answer: Annotated[Digest, Field(alias=ANSWER)]


class Manifest(Strict):
    """The content of ``package.json``."""

    schema_version: Literal[2, 3]
    task: Annotated[str, OneOf(lambda: TASKS.names)]
    head: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The kind of its outputs: one of its task's heads, see `read`."""
    family: Annotated[str, Field(min_length=1, max_length=256)]
    architecture: Annotated[str, Field(min_length=1, max_length=256)]
    labels: Annotated[list[Label], Field(min_length=1, max_length=100_000)]
    stuff: Annotated[list[Label], Field(max_length=100_000)] | None = None
    onnx_sha256: Annotated[Digest, Field(alias="onnxSha256")]
    input: Geometry
    thresholds: Thresholds
    calibration: Calibration | None = None
    dataset: Dataset
    parity: Parity
    files: Files
    probe: Outputs | None = None

    def digest(self, name: str) -> str:
        """The sha256 of one of FILES."""
        found = {GRAPH: self.files.graph, IMAGE: self.files.image, ANSWER: self.files.answer}
        return found[name]


@dataclass(frozen=True)
class Known:
    """The known answer of a model package: an encoded image, the training framework's prediction for it, and its thresholds.

    ``outputs`` are the graph's outputs before thresholds (see Outputs); packages of earlier releases have none.
    """

    image: bytes
    expected: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    outputs: Mapping[str, Any] | None = None


def read(content: bytes, place: object, want: DesiredService) -> Manifest:
    """The description in ``content``, found at ``place``. Raises RejectedError unless it is the one that ``want`` names."""
    require_size(place, len(content), DESCRIPTION)
    if not _DIGEST.fullmatch(want.manifest_sha256):
        refuse(f"it is not known which package at {place} is meant: its digest is not recorded in Kubernetes; {AGAIN}")
    actual = hashlib.sha256(content).hexdigest()
    if actual != want.manifest_sha256:
        altered = f"{place} has been altered, or belongs to another package: sha256 {actual} instead of"
        refuse(f"{altered} {want.manifest_sha256}; {AGAIN}")
    found = _object(content, place)
    version = found.get("schemaVersion")
    if type(version) is not int or version not in {SCHEMA_VERSION, CALIBRATED_VERSION}:
        served = f"{SCHEMA_VERSION} and {CALIBRATED_VERSION} are served"
        refuse(f"{place}: schemaVersion is {version!r}, but {served}: older ones contain code; {AGAIN}")
    manifest = _checked(TypeAdapter(Manifest), found, place)
    if manifest.files.graph != manifest.onnx_sha256:
        refuse(f"{place}: onnxSha256 is {manifest.onnx_sha256}, and {GRAPH} has {manifest.files.graph}; {AGAIN}")
    heads = TASKS.named(manifest.task).heads
    if manifest.head not in (heads or (None,)):
        known = ", ".join(heads) or "none"
        refuse(
            f"{place}: head is {manifest.head!r}, but for {manifest.task} this is served: {known}; upgrade, or {AGAIN}"
        )
    _require_calibrated(manifest, place)
    if want.onnx_sha256 != manifest.onnx_sha256:
        refuse(f"{place}: the graph has sha256 {manifest.onnx_sha256}, but the service asks for {want.onnx_sha256}")
    return manifest


def known(manifest: Manifest, image: bytes, answer: bytes, place: object) -> Known:
    """The known answer of a package, from files whose digests were verified. Raises RejectedError."""
    found = _object(answer, place)
    _checked(TypeAdapter(TASKS.named(manifest.task).answer), found, place)
    outputs = manifest.probe.model_dump() if manifest.probe is not None else None
    return Known(image, found, manifest.thresholds.model_dump(), outputs)


def require_size(place: object, size: int, name: str) -> None:
    """Raise RejectedError for a file that is larger than its kind may be."""
    if size > LARGEST[name]:
        refuse(f"{place} is larger than the {LARGEST[name]} bytes that {name} of a package may have")


def require_digest(place: object, actual: str, digest: str) -> None:
    """Raise RejectedError for content whose sha256 differs from the description's."""
    if actual != digest:
        refuse(f"{place} has been altered: sha256 {actual} instead of {digest}; {AGAIN}")


def refuse(message: str) -> NoReturn:
    """Raise RejectedError with ``message``."""
    raise RejectedError("model package", message)


def _require_calibrated(manifest: Manifest, place: object) -> None:
    """Raise RejectedError for a calibration, or thresholds per class, that version, task or labels do not allow."""
    classes = manifest.thresholds.classes
    field = "calibration" if manifest.calibration is not None else "thresholds.classes" if classes is not None else None
    if field is None:
        return
    if manifest.schema_version != CALIBRATED_VERSION:
        refuse(f"{place}: {field} is only for packages with schemaVersion {CALIBRATED_VERSION}; {AGAIN}")
    if not tasks.TASKS[TASKS.named(manifest.task).task].calibrated:
        refuse(f"{place}: {field} does not apply to {manifest.task}; {AGAIN}")
    if classes is not None and not classes.keys() <= set(manifest.labels):
        refuse(f"{place}: thresholds.classes names classes that are not among its labels; {AGAIN}")


def _object(content: bytes, place: object) -> dict[str, Any]:
    try:
        found = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        refuse(f"{place} is not JSON: {error}")
    if not isinstance(found, dict):
        refuse(f"{place} does not hold a JSON object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _checked(kind: TypeAdapter[Found], content: Mapping[str, Any], place: object) -> Found:
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        refuse(f"{place}: {field}: {first['msg']}; {AGAIN}")
