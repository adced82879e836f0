"""YOLOv8 detectors (Jocher et al. 2023), built from ultralytics' architecture files, trained from scratch; nothing is downloaded.

Steps use `FAMILY` through families.Family. ultralytics is kept from the network, from installing packages, from executing
what a checkpoint holds, and from reading any data.yaml: the trainer hands it the images of the version (yolov8_view).
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

# Read once, when ultralytics is imported: these lines must stay above the imports below.
os.environ.update(ULTRALYTICS_SAFE_LOAD="1", YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="ultralytics-"))

import numpy as np
import torch
from torch import Tensor
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import SETTINGS

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import YOLOV8, FamilyDescription
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Floats, Prediction, Settings, Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.training import (
    checkpoints,
    distributed,
    graphs,
    memory,
    processes,
    schedules,
    yolov8_augmentation,
)
from pelagos_pipelines.training.altering import Altered, Examples
from pelagos_pipelines.training.distributed import World
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.normalization import Scale
from pelagos_pipelines.training.progress import Progress
from pelagos_pipelines.training.training_history import TrainingHistory
from pelagos_pipelines.training.yolov8_trainer import LAST, SCALE, Scaled, Trainer, Unsuppressed, showing

STRIDE = 32
HEAD = "model.22.cv3."
"""The classification branch of the head, whose shapes depend on the number of classes."""
SHARED_MEMORY_BYTES = 1024**3
"""Loader processes pass batches through /dev/shm; containers often have 64 MB of it, which would kill them."""

# Holds also when something else imported ultralytics first; with an older torch it would load unsafely without a word.
tasks.SAFE_LOAD = True
if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
    raise ImportError("loading checkpoints safely needs torch 2.6 or newer")
# Its own integrations would report to servers of their choice, MLflow among them.
SETTINGS.update({name: False for name, value in SETTINGS.items() if isinstance(value, bool)})


class YoloV8:
    """The family; see `families.Family` for the contract of its methods.

    Families of ultralytics' other networks are classes of it, with another trainer and other predictors, which go before
    ultralytics' own for these networks, and another `prediction`.
    """

    DESCRIPTION: ClassVar[FamilyDescription] = YOLOV8
    TRAINER: ClassVar[type[Trainer]] = Trainer
    SCALED: ClassVar[type[Scaled]] = Scaled
    UNSUPPRESSED: ClassVar[type[Unsuppressed]] = Unsuppressed

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with ultralytics' loss and augmentation; the metric that chooses the best epoch is mAP50-95 on validation."""
        count = processes.wanted(job.request)
        if count > 1:
            return processes.train(self.share, job, history, count)
        return self.share(job, history, distributed.ALONE)

    def share(self, job: Job, history: TrainingHistory, world: World) -> int:
        """Likewise, as one of the processes of a training; ``history`` is that of the first one."""
        last = job.folder / LAST
        checkpoint = torch.load(last, map_location="cpu", weights_only=True) if last.exists() else None
        progress = Progress.of(checkpoint) if checkpoint else Progress()
        # The history is written before the checkpoint, so it may have a row of an epoch that is trained again now.
        if world.leads:
            history.continue_after(progress.epoch)
        # The process may have ended between the two checkpoints: last.pt holds the best epoch then, and best.pt is an older one.
        if checkpoint and progress.is_best and world.leads:
            self.TRAINER.save_best(job, checkpoint["ema"])
        # Only now: the last epoch of all may be the one whose best checkpoint was still to be written.
        if progress.is_over(job.request):
            return progress.best_epoch
        # The weights of the start have served once there is a checkpoint of ours.
        start = _start(job, self.TRAINER.NETWORK) if job.start and not checkpoint and world.leads else None
        with memory.refusing(job.request.hyperparameters), showing(job.truth.preprocessing.color):
            trainer = self.TRAINER(_arguments(job, world), job, history, start, checkpoint, world)
            trainer.train()
        return trainer.progress.best_epoch

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """See `altering.Augmenting`."""
        return yolov8_augmentation.applied(declared, parameters)

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """See `altering.Augmenting`."""
        with showing(examples.samples[0].color):
            yield from yolov8_augmentation.altered(declared, examples, self.TRAINER.TASK)

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """What ``YOLO(checkpoint).predict`` finds, image by image."""
        model = YOLO(checkpoint)
        for image in images:
            yield self._found(model, image, thresholds, predictor=functools.partial(self.SCALED, scale_of(model)))

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Floats, Prediction]]:
        """Likewise, each with what ultralytics made it of."""
        model = YOLO(checkpoint)
        for image in images:
            predictor = functools.partial(self.UNSUPPRESSED, scale_of(model))
            found = self._found(model, image, thresholds, predictor=predictor, device="cpu")
            yield model.predictor.raw, found

    def _found(self, model: Any, image: Pixels, thresholds: Thresholds, **more: Any) -> Prediction:
        limit = thresholds.max_detections
        (found,) = model.predict(
            image,
            conf=thresholds.confidence,
            iou=thresholds.iou,
            max_det=limit + 1,  # one more tells whether there are more
            verbose=False,
            save=False,
            **more,
        )
        return self.prediction(found.cpu(), image, limit)

    def prediction(self, found: Any, image: Pixels, limit: int) -> Prediction:
        """ultralytics' result for an image, as serving has it: the best ``limit`` of its objects."""
        boxes = found.boxes
        return Detections(
            image.shape[1],
            image.shape[0],
            boxes.xyxy[:limit].numpy().astype(np.float32),
            boxes.conf[:limit].numpy().astype(np.float32),
            boxes.cls[:limit].numpy().astype(np.int32),
            cut=len(boxes) > limit,
        )

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Export the raw head; batch, height and width are dynamic."""
        model = YOLO(checkpoint)
        names = model.names
        size, scale = int(model.overrides["imgsz"]), scale_of(model)
        with graphs.tracing(), disk.written(checkpoint.with_suffix(".onnx")):
            written = model.export(
                format="onnx", dynamic=True, simplify=False, opset=graphs.OPSET, imgsz=size, verbose=False
            )
        if scale is not None:
            scale.put_before(Path(written))
        graphs.finalize_onnx(Path(written), onnx)
        return Settings(self.DESCRIPTION.task.value, tuple(names[index] for index in range(len(names))), size, STRIDE)


def scale_of(model: Any) -> Scale | None:
    """The scale of the values that a checkpoint, which ultralytics has loaded, was trained on."""
    return Scale.kept(model.ckpt["train_args"].get(SCALE))


def _arguments(job: Job, world: World = distributed.ALONE) -> dict[str, Any]:
    """What ultralytics is told; what it is not told keeps its published default."""
    parameters = job.request.hyperparameters
    if not 0 <= float(parameters.learning_rate) <= 1:
        raise RefusedError(
            Reason.TRAINING_DIVERGED,
            f"at the learning rate {parameters.learning_rate} the loss diverges; allowed are 0 to 1, usual 0.001 to 0.01",
            "hyperparameters.learningRate",
        )
    on_accelerator = torch.cuda.is_available()
    workers = 0
    if on_accelerator:
        shared = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size only
        roomy = shared.f_bavail * shared.f_frsize >= SHARED_MEMORY_BYTES
        workers = min(job.request.resources.cpu, 8) if roomy else 0
    return {
        "model": f"{job.request.model.architecture}.yaml",
        "project": str(job.folder.parent),
        "name": job.folder.name,
        "exist_ok": True,
        "epochs": parameters.epochs,
        "imgsz": parameters.image_size,
        "batch": parameters.batch_size,
        "nbs": parameters.batch_size,  # no hidden accumulation up to 64 images; what is asked for is the trainer's
        "lr0": float(parameters.learning_rate),
        "weight_decay": float(parameters.weight_decay),
        "optimizer": parameters.optimizer,
        **schedules.ultralytics_arguments(parameters),
        **yolov8_augmentation.arguments(job.truth.augmentation, parameters),
        "patience": 0,  # ours is asked instead
        "seed": job.request.seed % 2**31,
        "deterministic": True,
        "pretrained": False,
        "plots": False,
        "max_det": job.request.evaluation.max_detections,
        "cache": "ram",  # ultralytics falls back to reading files when memory is short
        "workers": workers,
        "device": str(world.rank) if on_accelerator else "cpu",
        # Its check of half precision would download a model; bfloat16 needs no check.
        "amp": "bf16" if on_accelerator else False,
    }


def _start(job: Job, network: Any = DetectionModel) -> dict[str, Tensor]:
    """The tensors of the user's checkpoint that fit the architecture."""
    assert job.start is not None
    architecture = job.request.model.architecture
    found = checkpoints.weights_of(job.start)
    wanted = network(f"{architecture}.yaml", nc=len(job.truth.labels), verbose=False).state_dict()
    return checkpoints.matching(found, wanted, HEAD, architecture)


FAMILY = YoloV8()
