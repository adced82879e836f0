"""The interface of a model family, and the registry that finds the family of an architecture.

Steps call families through this interface and never import a training framework themselves. A new family is one module and one
line in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import (
    MASK2FORMER_INSTANCE,
    MASK2FORMER_PANOPTIC,
    MASK2FORMER_SEMANTIC,
    MASK_RCNN,
    MOBILENET_V2,
    MOBILENET_V3,
    YOLOV8,
    YOLOV8_CLS,
    YOLOV8_OBB,
    YOLOV8_SEG,
    FamilyDescription,
    architectures_for,
    by_architecture,
)
from pelagos_contract.registry import Registry
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Prediction, Raw, Settings, Thresholds
from pelagos_pipelines.training.training_history import TrainingHistory


@dataclass(frozen=True)
class Job:
    """The input of a training: ``folder`` keeps checkpoints; ``start`` is a copy of the user's checkpoint with a verified digest.

    A training whose own ``last.pt`` is in the folder continues from that, and is given no ``start``.
    """

    request: TrainingRequest
    truth: GroundTruth
    folder: Path
    start: Path | None

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch on the validation split; complete whenever it exists."""
        return self.folder / "best.pt"


class Family(Protocol):
    """One model family. ``DESCRIPTION`` has its name in model packages, and its task and architectures."""

    DESCRIPTION: FamilyDescription

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train all epochs, continuing from the last checkpoint in ``job.folder`` if there is one, and write ``job.best``.

        Returns the number of the epoch in ``job.best``, by the rule of `progress.Progress`. A training that was killed at any
        moment and started again ends with the same bytes as one that was not: on a CPU, with the same number of threads and the
        same packages.

        Raises:
            RefusedError: TRAINING_DIVERGED, OUT_OF_MEMORY, CHECKPOINT_INVALID, UNTRUSTED_CHECKPOINT.
        """
        ...

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """The training framework's predictions for each image, in order, in pixels of the original images."""
        ...

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Raw, Prediction]]:
        """Like `predict`, on the CPU; each prediction with the network's raw outputs, in the form of `Predictor.outputs`."""
        ...

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Write the checkpoint's graph to ``onnx``, and return the settings that the predictor needs for it."""
        ...


@dataclass(frozen=True)
class Offered:
    """A trainable family, described without importing its framework.

    ``module`` has the family as its attribute ``called``, and is imported when a training needs it. ``packages`` are recorded
    with a training, in addition to those that every training records. ``harmless`` are prefixes of Python's own names that the
    framework's checkpoints refer to; they are accepted, and never imported: see extraction. Names of frameworks need no entry.
    """

    description: FamilyDescription
    module: str
    packages: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    called: str = "FAMILY"

    @property
    def name(self) -> str:
        """The family's name in model packages."""
        return self.description.name

    def load(self) -> Family:
        """Import the family, and with it its framework, which takes seconds."""
        found: Family = getattr(import_module(self.module), self.called)
        return found


_MASK2FORMER, _TRANSFORMERS = "pelagos_pipelines.training.mask2former", ("transformers", "scipy")
FAMILIES = Registry(
    "family",
    (
        Offered(YOLOV8, "pelagos_pipelines.training.yolov8", packages=("ultralytics",)),
        Offered(MOBILENET_V3, "pelagos_pipelines.training.mobilenet_v3"),
        Offered(MOBILENET_V2, "pelagos_pipelines.training.mobilenet_v2"),
        Offered(YOLOV8_CLS, "pelagos_pipelines.training.yolov8_cls", packages=("ultralytics",)),
        Offered(MASK_RCNN, "pelagos_pipelines.training.maskrcnn"),
        Offered(
            YOLOV8_OBB, "pelagos_pipelines.training.yolov8_obb", packages=("ultralytics",), harmless=("ultralytics.",)
        ),
        Offered(YOLOV8_SEG, "pelagos_pipelines.training.yolov8_seg", packages=("ultralytics",)),
        Offered(MASK2FORMER_SEMANTIC, _MASK2FORMER, packages=_TRANSFORMERS, called="SEMANTIC"),
        Offered(MASK2FORMER_PANOPTIC, _MASK2FORMER, packages=_TRANSFORMERS, called="PANOPTIC"),
        Offered(MASK2FORMER_INSTANCE, _MASK2FORMER, packages=_TRANSFORMERS, called="INSTANCE"),
    ),
)


def offered(request: TrainingRequest) -> Offered:
    """The family of the request's architecture.

    Raises:
        RefusedError: TASK_MISMATCH when the architecture is for another task than the request; CHECKPOINT_INVALID when it takes
            no checkpoint and one is given.
    """
    architecture = request.model.architecture
    description = by_architecture()[architecture]
    if description.task is not request.task:
        raise RefusedError(
            Reason.TASK_MISMATCH,
            f"{architecture} is for {description.task.value}, the dataset is for {request.task.value};"
            f" name one of {', '.join(architectures_for(request.task))}",
            "model.architecture",
        )
    if request.model.weights is not None and not description.takes_weights:
        raise RefusedError(
            Reason.CHECKPOINT_INVALID,
            f"{architecture} is trained from random weights alone; leave out model.weights, or name another architecture",
            "model.weights",
        )
    return FAMILIES.named(description.name)


def family_of(request: TrainingRequest) -> Family:
    """The family of the request's architecture, imported. Raises as `offered` does."""
    return offered(request).load()
