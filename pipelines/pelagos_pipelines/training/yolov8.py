"""YOLOv8 detectors (Jocher et al. 2023), built from ultralytics' architecture files, trained from scratch; nothing is downloaded.

Steps use `FAMILY` through families.Family. ultralytics is kept from using the network, installing packages, executing code from
checkpoints, and reading any data.yaml: the trainer passes it the images of the version (yolov8_view).
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

# ultralytics reads these variables once, when it is imported. These lines must stay above the imports below.
os.environ.update(ULTRALYTICS_SAFE_LOAD="1", YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="ultralytics-")
    atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)

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
"""The head's classification branch, whose shapes depend on the number of classes."""
SHARED_MEMORY_BYTES = 1024**3
"""Free bytes of /dev/shm from which on loader processes are used. They pass batches through it, and containers often have only
64 MB of it, which would kill them."""

# Set here as well, in case something else imported ultralytics first. With an older torch, it would silently load unsafely.
tasks.SAFE_LOAD = True
if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
    raise ImportError("loading checkpoints safely needs torch 2.6 or newer")
# ultralytics' own integrations, MLflow among them, would report to servers of their choice.
SETTINGS.update({name: False for name, value in SETTINGS.items() if isinstance(value, bool)})


class YoloV8:
    """The family of YOLOv8 detectors; `families.Family` documents its methods.

    Families of ultralytics' other networks are subclasses, with another trainer, other predictors and another `prediction`.
    Their trainers and predictors inherit from ours first, then from ultralytics' own for these networks.
    """

    DESCRIPTION: ClassVar[FamilyDescription] = YOLOV8
    TRAINER: ClassVar[type[Trainer]] = Trainer
    SCALED: ClassVar[type[Scaled]] = Scaled
    UNSUPPRESSED: ClassVar[type[Unsuppressed]] = Unsuppressed

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with ultralytics' loss and augmentation. The best epoch is chosen by mAP50-95 on the validation split."""
        count = processes.wanted(job.request)
        if count > 1:
            return processes.train(self.share, job, history, count)
        return self.share(job, history, distributed.ALONE)

    def share(self, job: Job, history: TrainingHistory, world: World) -> int:
        """Like `train`, as one of the processes that share a training; only the leading one writes to ``history``."""
        last = job.folder / LAST
        checkpoint = torch.load(last, map_location="cpu", weights_only=True) if last.exists() else None
        progress = Progress.of(checkpoint) if checkpoint else Progress()
        # The history is written before the checkpoint, so it may have a row for an epoch that is now trained again.
        if world.leads:
            history.continue_after(progress.epoch)
        # The process may have ended between writing the two checkpoints. Then last.pt has the best epoch, best.pt an older one.
        if checkpoint and progress.is_best and world.leads:
            self.TRAINER.save_best(job, checkpoint["ema"])
        # Checked only now, because the best checkpoint may have been missing for the very last epoch.
        if progress.is_over(job.request):
            return progress.best_epoch
        # The user's weights are read only for the first epoch: a continued training has them in its own checkpoint.
        start = _start(job, self.TRAINER.NETWORK) if job.start and not checkpoint and world.leads else None
        with memory.refusing(job.request.hyperparameters), showing(job.truth.preprocessing.color):
            trainer = self.TRAINER(_arguments(job, world), job, history, start, checkpoint, world)
            trainer.train()
        return trainer.progress.best_epoch

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """The augmentation in words, see `altering.Augmenting`."""
        return yolov8_augmentation.applied(declared, parameters)

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """Altered examples, see `altering.Augmenting`."""
        with showing(examples.samples[0].color):
            yield from yolov8_augmentation.altered(declared, examples, self.TRAINER.TASK)

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """The results of ``YOLO(checkpoint).predict``, image by image."""
        model = YOLO(checkpoint)
        for image in images:
            yield self._found(model, image, thresholds, predictor=functools.partial(self.SCALED, scale_of(model)))

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Floats, Prediction]]:
        """Like `predict`, on the CPU; each prediction with the raw outputs that ultralytics derived it from."""
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
            max_det=limit + 1,  # one more, to know whether there are more
            verbose=False,
            save=False,
            **more,
        )
        return self.prediction(found.cpu(), image, limit)

    def prediction(self, found: Any, image: Pixels, limit: int) -> Prediction:
        """ultralytics' result for an image in serving's form, with at most the ``limit`` best objects."""
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
        """Export the raw outputs of the head. Batch, height and width are dynamic."""
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
    """The scale of the input that a checkpoint, loaded by ultralytics, was trained on; None for ultralytics' own."""
    return Scale.kept(model.ckpt["train_args"].get(SCALE))


def _arguments(job: Job, world: World = distributed.ALONE) -> dict[str, Any]:
    """The arguments for ultralytics' trainer. All others keep their published defaults."""
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
        shared = os.statvfs("/dev/shm")  # noqa: S108 - only its size is read
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
        "nbs": parameters.batch_size,  # no hidden accumulation up to 64 images; our trainer does what the request says
        "lr0": float(parameters.learning_rate),
        "weight_decay": float(parameters.weight_decay),
        "optimizer": parameters.optimizer,
        **schedules.ultralytics_arguments(parameters),
        **yolov8_augmentation.arguments(job.truth.augmentation, parameters),
        "patience": 0,  # our own early stopping decides
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
