"""What a model family must offer, and which family has an architecture.

Steps call families through this interface and never import a training framework themselves; a new family is one module
and one line in `FAMILIES`.
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
    """What to train on and where: ``folder`` keeps checkpoints; ``start`` is a user's checkpoint, copied there and verified.

    A training that finds ``last.pt`` there, its own, is given no ``start``: it goes on from that.
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
    """One model family. ``DESCRIPTION`` says what a model package calls it, and what its models do."""

    DESCRIPTION: FamilyDescription

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train to the end, from the last checkpoint in ``job.folder`` if there is one, and leave ``job.best``.

        Returns the number of the epoch that ``job.best`` holds, by the rule of `progress.Progress`. A training that was killed
        at any moment and started again ends with the same bytes as one that was not: on a processor, with the same number of
        threads and the same packages.

        Raises:
            RefusedError: TRAINING_DIVERGED, OUT_OF_MEMORY, CHECKPOINT_INVALID, UNTRUSTED_CHECKPOINT.
        """
        ...

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """Predictions of the training framework, in pixels of the originals, in order."""
        ...

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Raw, Prediction]]:
        """Likewise, on the processor, each with what the network gave before thresholds, as `Predictor.outputs` has it."""
        ...

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Write the graph of the checkpoint to ``onnx`` and say what the predictor has to know about it."""
        ...


@dataclass(frozen=True)
class Offered:
    """A family that can be trained, as far as that can be said without its framework.

    ``module`` has the family as ``called``, and is imported when a training needs it. ``packages`` are named in the record of a
    training, beside those that all have; ``harmless`` are beginnings of names of Python itself that checkpoints of the framework
    refer to, which are read all the same, and never imported: see extraction. Names of frameworks need not be told.
    """

    description: FamilyDescription
    module: str
    packages: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    called: str = "FAMILY"

    @property
    def name(self) -> str:
        """As model packages call it."""
        return self.description.name

    def load(self) -> Family:
        """The family; its framework comes with it, which takes seconds."""
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
    """Likewise, with its framework. Raises as `offered` does."""
    return offered(request).load()
