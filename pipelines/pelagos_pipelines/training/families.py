"""What a model family must offer, and which family has an architecture.

Steps call families through this interface and never import a training framework themselves; a new family is one module
and one line in `MODULES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import MOBILENET_V3, YOLOV8
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation.ground_truth import GroundTruth
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictor import Floats, Prediction, Settings, Thresholds
from pelagos_pipelines.training.training_history import TrainingHistory

MODULES = {
    **dict.fromkeys(YOLOV8.architectures, "yolov8"),
    **dict.fromkeys(MOBILENET_V3.architectures, "mobilenet"),
}


@dataclass(frozen=True)
class Job:
    """What to train on and where: ``folder`` keeps checkpoints; ``start`` is a user's checkpoint, copied there and verified."""

    request: TrainingRequest
    truth: GroundTruth
    folder: Path
    start: Path | None

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch on the validation split; complete whenever it exists."""
        return self.folder / "best.pt"


class Family(Protocol):
    """One model family. ``NAME`` is what a model package calls it, ``TASK`` what its models do."""

    NAME: str
    TASK: Task

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
    ) -> Iterator[tuple[Floats, Prediction]]:
        """Likewise, on the processor, each with what the network gave before thresholds, as `Predictor.outputs` has it."""
        ...

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Write the graph of the checkpoint to ``onnx`` and say what the predictor has to know about it."""
        ...


def family_of(request: TrainingRequest) -> Family:
    """The family of the request's architecture; importing it loads its training framework, which takes seconds.

    Raises:
        RefusedError: TASK_MISMATCH when the architecture is for another task than the request.
    """
    architecture = request.model.architecture
    module = import_module(f"pelagos_pipelines.training.{MODULES[architecture]}")
    family: Family = module.FAMILY
    if family.TASK is not request.task:
        raise RefusedError(
            Reason.TASK_MISMATCH,
            f"{architecture} is for {family.TASK.value}, the dataset is for {request.task.value};"
            f" name one of {', '.join(name for name, other in MODULES.items() if other != MODULES[architecture])}",
            "model.architecture",
        )
    return family
