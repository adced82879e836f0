"""Requests and results of importing a model that was trained elsewhere, and of evaluating any package."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.capture import SliceField
from pelagos_contract.class_names import NewName
from pelagos_contract.tasks import Task
from pelagos_contract.training import EvidenceFile, Interval, Resampling, SlicedField
from pelagos_contract.values import Sha256

MODEL_NAME = r"^[A-Za-z0-9][-A-Za-z0-9_. ]*$"
FAMILY = "Imported"
"""The family in packages of imported models."""
NOT_EVALUATED = "not evaluated here"


class Values(StrEnum):
    """The pixel values that a network expects, red first: 0 to 255, 0 to 1, or normalized by ImageNet's mean and deviation."""

    BYTES = "Bytes"
    UNIT = "Unit"
    IMAGE_NET = "ImageNet"


class Tracked(Strict):
    """The MLflow server, and the namespace for which it is used; credentials come from the environment."""

    uri: str
    namespace: str


class ImportRequest(Strict):
    """An ONNX file to import as a package below ``store``; ``images`` is a folder with images for a trial run.

    ``imageSize``: the longest side of its input in pixels, if the graph leaves that open. ``values``: None means the task's
    default.
    """

    onnx: str
    name: Annotated[str, Field(pattern=MODEL_NAME, max_length=200)]
    task: Task
    labels: Annotated[list[NewName], Field(min_length=1, max_length=10_000)]
    images: str
    store: str
    image_size: Annotated[int | None, Field(ge=32, le=4096)] = None
    values: Values | None = None
    tracked: Tracked


class ImportResult(Strict):
    """The location of the package and the digest that pins it; ``notes`` are for people."""

    uri: str
    manifest_sha256: Sha256
    onnx_sha256: Sha256
    model: str
    version: str
    run: str
    image_size: int
    images: int
    notes: list[str] = []


class EvaluationRequest(Strict):
    """A package, and the dataset version on whose test split it is evaluated.

    ``package`` is its uri, with its digest. Alternatively ``model`` is a registered model, as ``name``, ``name/version`` or
    ``name@alias``; MLflow has the location of its package, which must be below ``packages``.
    """

    package: str | None = None
    manifest_sha256: Sha256 | None = None
    model: str | None = None
    packages: str
    dataset: str
    dataset_uri: str
    dataset_version: str
    slices: list[SliceField] = []
    tracked: Tracked


class EvaluationResult(Strict):
    """Metrics have the names of those of trainings, ``test/…``, with intervals and slices; ``run`` is the MLflow run.

    ``evidence`` is the basis on which gates compare models; None if it could not be stored.
    """

    metrics: dict[str, float | None]
    model: str
    package: str
    images: int
    labels: list[str]
    task: Task
    manifest_sha256: Sha256
    run: str
    warnings: list[str] = []
    intervals: dict[str, Interval] = {}
    resampling: Resampling | None = None
    slices: list[SlicedField] = []
    evidence: EvidenceFile | None = None
