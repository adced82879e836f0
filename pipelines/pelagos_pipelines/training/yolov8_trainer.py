"""ultralytics' detection trainer with our history, crash safety and refusals, and our other changes to ultralytics.

Used by yolov8.py, which prepares the environment before ultralytics is imported.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from ultralytics.data import base, utils
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import nms
from ultralytics.utils.patches import override_configs
from ultralytics.utils.torch_utils import unwrap_model

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.serving import color, images
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.training import (
    checkpoints,
    distributed,
    divergence,
    memory,
    yolov8_augmentation,
    yolov8_sharing,
    yolov8_view,
)
from pelagos_pipelines.training.distributed import World
from pelagos_pipelines.training.normalization import Scale
from pelagos_pipelines.training.progress import Progress
from pelagos_pipelines.training.training_history import TrainingHistory

if TYPE_CHECKING:
    from pelagos_pipelines.training.families import Job

LAST = "last.pt"
"""The checkpoint to continue from: everything that an epoch depends on, except its number and the seed."""
NAMES = {
    "metrics/precision(B)": "validation/precision",
    "metrics/recall(B)": "validation/recall",
    "metrics/mAP50(B)": "validation/mAP50",
    "metrics/mAP50-95(B)": "validation/mAP50-95",
}
"""Our names for ultralytics' metrics of boxes."""
RATE = "lr/pg0"
SCALE = "pelagosScale"
"""The key, in a checkpoint's arguments, of the scale of the network's input. ultralytics' own ``scale`` is something else."""


_shown: dict[str, str | None] = {"color": None}
"""The colour correction of the training in this process. A global, because threads and forked loaders read images, too."""


@contextmanager
def showing(method: str | None) -> Iterator[None]:
    """Correct the colours of all images that ultralytics reads within the block by ``method``."""
    _shown["color"] = method
    try:
        yield
    finally:
        _shown["color"] = None


def _read(file: str, flags: int | None = None) -> Pixels:
    """Replaces ultralytics' reader: the image as the server sees it. The original always keeps the upper 8 of 16 bits."""
    content = Path(file).read_bytes()
    yolov8_view.require_same(file, content)
    try:
        pixels = images.decode_known(content)
    except ImageRefusedError as error:
        raise RefusedError(
            Reason.DATASET_NOT_READABLE,
            f"the image {file} is damaged or was altered ({error}); restore it, or prepare the dataset again",
            "dataset.uri",
        ) from error
    return color.corrected(pixels, _shown["color"])


def _size(file: str) -> tuple[str, tuple[int, int]]:
    """Replaces ultralytics' check: no complaint, and height and width.

    The original leaves out or re-encodes images that the preparation has already accepted.
    """
    with Image.open(file) as image:
        width, height = utils.exif_size(image)
    return "", (height, width)


base.imread = _read
base.BaseDataset.check_cache_ram = yolov8_sharing.fits_for_all(base.BaseDataset.check_cache_ram)
utils.check_image = _size
# When NMS takes more than a few seconds, ultralytics skips the rest of a batch and only logs it.
nms.non_max_suppression = functools.partial(nms.non_max_suppression, max_time_img=math.inf)
# The request sets how many detections an image may have. ultralytics would raise its default, 300, to a count from the dataset.
DetectionValidator._check_max_det = staticmethod(lambda *_: None)


class Scaled(DetectionPredictor):  # type: ignore[misc]  # ultralytics is not typed
    """A predictor that scales the network's input as in its training."""

    def __init__(self, scale: Scale | None, *args: Any, **kwargs: Any) -> None:
        """Keep the scale, and pass the other arguments to ultralytics."""
        super().__init__(*args, **kwargs)
        self._scale = scale

    def preprocess(self, im: Any) -> Any:
        """Preprocess as ultralytics does, then scale."""
        values = super().preprocess(im)
        return values if self._scale is None else self._scale.apply(values)


class Unsuppressed(Scaled):
    """Keeps the network's output for the latest image in ``raw``, in the form of `Predictor.outputs`: ``[channels, anchors]``."""

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **kwargs: Any) -> Any:
        """Keep the output before NMS changes it, then continue as ultralytics does."""
        found = preds[0] if isinstance(preds, list | tuple) else preds
        self.raw = found[0].float().cpu().numpy().copy()
        return super().postprocess(preds, img, orig_imgs, **kwargs)


class Trainer(DetectionTrainer):  # type: ignore[misc]  # ultralytics is not typed
    """Trains one job. Every override below says what it changes and why.

    For other networks, inherit from this class and then from ultralytics' trainer for them, and set the three attributes below.
    """

    NETWORK: ClassVar[Any] = DetectionModel
    TASK: ClassVar[str] = "detect"
    """ultralytics' name of the task."""
    NAMES: ClassVar[Mapping[str, str]] = NAMES
    """Metrics that a validation split without annotations does not have; ultralytics returns 0 for them."""
    model: Any
    tloss: Any

    def __init__(
        self,
        arguments: dict[str, Any],
        job: Job,
        history: TrainingHistory,
        start: dict[str, Tensor] | None,
        checkpoint: dict[str, Any] | None,
        world: World = distributed.ALONE,
    ) -> None:
        """``arguments`` are ultralytics'; ``start`` has tensors to begin with, ``checkpoint`` is our own to continue from.

        Of several processes, only the first needs ``start``; it also writes and validates for all.
        """
        self._job, self._journal, self._start, self._checkpoint = job, history, start, checkpoint
        self._world = world
        self.progress = Progress.of(checkpoint) if checkpoint else Progress()
        self._loaders_built, self._batches_done = False, 0
        self._scale = Scale.to(job.truth.statistics)
        self._has_objects = any(len(sample.class_ids) for sample in job.truth.samples("validation"))
        super().__init__(overrides=arguments)
        self.add_callback("on_pretrain_routine_end", lambda _: self._weigh_classes())
        self.add_callback("on_train_epoch_start", lambda _: self._seed_epoch())
        self.add_callback("on_train_batch_end", lambda _: self._refuse_divergence())
        self.add_callback("on_train_epoch_end", lambda _: self._gather_losses())

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Load the user's tensors, if any, into the new network."""
        model = super().get_model(cfg, weights, verbose=False)
        if self._start:
            model.load_state_dict(self._start, strict=False)
        return model

    def _setup_train(self) -> None:
        """Use the CPU cores of the request: ultralytics leaves one of two idle."""
        torch.set_num_threads(self._job.request.resources.cpu)
        super()._setup_train()
        if self._world.count > 1:
            # Only now, because ultralytics sorts weights into the optimizer's groups by the classes of their layers, which
            # `joined` changes.
            model: Any = self._world.joined(self.model)
            usual = getattr(model, "criterion", None) or model.init_criterion()
            model.criterion = yolov8_sharing.WholeLoss(usual, self._world)
            self.model = self._world.wrapped(model, skips_weights=False)

    def _build_train_pipeline(self) -> None:
        """Refuse instead of halving the batch size: the inputs of a run are frozen. A second build means that memory ran out."""
        if self._loaders_built:
            raise memory.refusal(self._job.request.hyperparameters, MemoryError("accelerator out of memory"))
        self._loaders_built = True
        super()._build_train_pipeline()

    def get_dataset(self) -> dict[str, Any]:
        """The images of the version, instead of those that a data.yaml names."""
        return yolov8_view.data(self._job.truth)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Repeat training images as the version plans, also for the random choice of mosaics, and augment them as declared."""
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train":
            times = [sample.repeats for sample in yolov8_view.samples_of(self.data, img_path)]
            if set(times) != {1}:
                repeat(dataset, times)
            yolov8_augmentation.impose(dataset, self._job.truth.augmentation, self.args)
        return dataset

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Never train on a batch of one image whose deepest level is one pixel: batch normalisation needs two values.

        Each of several processes gets at least one image of each batch. The first loads its images before the others do, and it
        alone loads those of the validation split.
        """
        pixels = {} if mode == "train" or self._world.leads else {"cache": False}
        with self._world.leader_first(), override_configs(self.args, pixels):
            loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        least = 2 if self.args.imgsz < 2 * self.stride else 1
        if mode == "train" and max(least, self._world.count) > 1:
            yolov8_sharing.take_part(loader, self._world, least)
        return loader

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Keep the batch's file names for messages, and scale the images as the dataset declares."""
        self._images = batch["im_file"]
        return self._scaled(super().preprocess_batch(batch))

    def get_validator(self) -> Any:
        """Scale the images of the validation split, too."""
        validator = super().get_validator()
        usual = validator.preprocess
        validator.preprocess = lambda batch: self._scaled(usual(batch))
        return validator

    def _scaled(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._scale is not None:
            batch["img"] = self._scale.apply(batch["img"])
        return batch

    def resume_training(self, ckpt: Any) -> None:
        """Continue from our own checkpoint: ultralytics' lacks the raw weights, and bits of the averages and the moments."""
        if self._checkpoint is None:
            return
        content = self._checkpoint
        self.model.load_state_dict(content["model"])
        self.ema.ema.load_state_dict(content["ema"])
        self.ema.updates = content["updates"]
        self.optimizer.load_state_dict(content["optimizer"])
        # Loading an image puts it into the dataset's buffer, from which mosaics draw. The same order gives the same draws.
        for index in self._of_this_process(content["mosaicImages"]):
            self.train_loader.dataset.load_image(index)
        self.start_epoch = self.progress.epoch

    def _of_this_process(self, images: Sequence[Any]) -> Sequence[int]:
        """This process's images: a checkpoint of several processes has one list for each."""
        nested = bool(images) and isinstance(images[0], list)
        return images[self._world.rank % len(images)] if nested else images

    def set_class_weights(self) -> None:
        """Do nothing yet: weights that are set here would apply to the validation loss, too, which must stay unweighted."""

    def _weigh_classes(self) -> None:
        """Weight each class's classification loss as the version plans."""
        if self._job.truth.weights is None:
            return
        self.model.class_weights = torch.tensor(self._job.truth.weights, device=self.device)
        self.model.criterion = self.model.init_criterion()
        # After each epoch ultralytics copies this attribute to the averaged model, whose validation loss must stay unweighted.
        del self.model.class_weights

    def _seed_epoch(self) -> None:
        """Shuffle and augment by seed and epoch alone, so that a continued training sees what an uninterrupted one sees.

        Each epoch gets a new iterator, because an iterator draws from the loader's generator, and worker processes read ahead.
        """
        self.train_loader.reset()
        self._batches_done = 0
        seed = (self.args.seed + 1_000_003 * (self.epoch + 1)) % 2**32
        own = yolov8_sharing.own_seed(seed, self._world.rank)
        random.seed(own)
        np.random.seed(own)
        torch.manual_seed(own)
        self.train_loader.generator.manual_seed(seed)  # the order of images, the same in all processes

    def optimizer_step(self) -> None:
        """Step after every ``gradientAccumulation`` batches and at the end of an epoch, so that checkpoints hold no gradients.

        ultralytics calls this after each batch; its own accumulation counts on across epochs. Its loss is summed over images, so
        several batches are equivalent to one with as many images.
        """
        self._batches_done += 1
        every = self._job.request.hyperparameters.gradient_accumulation or 1
        if self._batches_done % every == 0 or self._batches_done == len(self.train_loader):
            super().optimizer_step()

    def _refuse_divergence(self) -> None:
        loss, parameters = sum(map(float, self.tloss.values())), self._job.request.hyperparameters
        if not math.isfinite(loss):
            raise divergence.of_batch(loss, self.epoch + 1, self.progress.best_epoch, self._images, parameters)

    def _gather_losses(self) -> None:
        """Sum the reported losses over the processes, so that they describe whole batches."""
        if self._world.count > 1:
            self.tloss = self._world.summed({name: float(value) for name, value in self.tloss.items()})

    def validate(self) -> tuple[dict[str, float], float | None]:
        """Validate in the leading process alone."""
        found: tuple[dict[str, float], float | None] = super().validate() if self._world.leads else ({}, None)
        return found

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Never recover: a loss that is not finite is refused, and the result of going back would depend on interruptions."""
        return False

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Record the epoch in our history, before the checkpoint, instead of in a CSV file. Apply our early stopping."""
        if self._world.leads:
            self._record(metrics)
        self.progress = self._world.agreed(self.progress)
        self.stop |= self.progress.is_over(self._job.request)

    def _record(self, metrics: dict[str, Any]) -> None:
        parts = {name.removesuffix("_loss"): float(value) for name, value in self.tloss.items()}
        row = {f"train/{name}": value for name, value in parts.items()} | {"train/loss": sum(parts.values())}
        row["train/learning-rate"] = float(metrics[RATE])
        if self._has_objects:
            row |= {ours: float(metrics[theirs]) for theirs, ours in self.NAMES.items()}
        losses = {
            f"validation/{name[4:].removesuffix('_loss')}": float(value)
            for name, value in metrics.items()
            if name.startswith("val/")
        }
        if not math.isfinite(loss := sum(losses.values())):
            parameters = self._job.request.hyperparameters
            raise divergence.of_validation(loss, self.epoch + 1, self.progress.best_epoch, parameters)
        recorded = self._journal.record(self.epoch + 1, row | losses | {"validation/loss": loss})
        self.progress = self.progress.after(recorded, self._job.request.task)

    def read_results_csv(self) -> dict[str, Any]:
        """Return nothing, because our history replaces the CSV file."""
        return {}

    def save_model(self) -> bool:
        """Write the checkpoint to continue from, then the best one if this epoch is it. No gradient scaler is in use."""
        # Before the return below, because all processes must take part in the exchange.
        images = self._world.gathered(list(self.train_loader.dataset.buffer))
        if not self._world.leads:
            return True
        content = {
            "model": unwrap_model(self.model).state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            # The images that mosaics draw from when memory is too small for all images.
            "mosaicImages": images if len(images) > 1 else images[0],
            **self.progress.content(),
        }
        # last.pt first: the next process restores best.pt from it if that is behind. In the other order, best.pt could be from an
        # epoch that is trained again, with other results on an accelerator.
        checkpoints.save_atomically(content, self._job.folder / LAST)
        if self.progress.is_best:
            self.save_best(self._job, content["ema"])
        self._journal.keep()
        return True

    @classmethod
    def save_best(cls, job: Job, ema: Mapping[str, Tensor]) -> None:
        """Write ``job.best`` from the averaged weights, in ultralytics' format, with only what is needed to use them."""
        request = job.request
        model = _empty(cls.NETWORK, request.model.architecture, len(job.truth.labels))
        model.load_state_dict(ema)
        model.eval()  # each time, because ultralytics' networks share activation modules, also with the one in training
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                torch.nan_to_num_(tensor)  # values that half precision cannot represent
        model.names = dict(enumerate(job.truth.labels))
        arguments: dict[str, Any] = {"task": cls.TASK, "imgsz": request.hyperparameters.image_size}
        if scale := Scale.to(job.truth.statistics):
            arguments[SCALE] = scale.content
        model.args = arguments
        content = {"epoch": -1, "model": model, "train_args": arguments}
        checkpoints.save_atomically(content, job.best)

    def final_eval(self) -> None:
        """Do nothing: the best epoch is validated already, and the test split is for the evaluation."""


@functools.lru_cache(maxsize=1)
def _empty(network: Any, architecture: str, classes: int) -> Any:
    """A network in half precision to load weights into. Cached, because building one takes as long as writing it."""
    model = network(f"{architecture}.yaml", nc=classes, verbose=False)
    return model.half().requires_grad_(False)


class _Repeated:
    """ultralytics' images in memory, some of them under several indices."""

    def __init__(self, images: Any, order: Sequence[int]) -> None:
        self._images, self._order = images, order

    def __getitem__(self, index: int) -> Any:
        return self._images[self._order[index]]


def repeat(dataset: Any, times: Sequence[int]) -> None:
    """Let ultralytics' dataset list each of its images ``times`` times. Their pixels are in memory once.

    Raises:
        RefusedError: DATASET_NOT_READABLE when ``times`` has another length, because ultralytics has left images out.
    """
    if len(times) != dataset.ni:
        raise RefusedError(
            Reason.DATASET_NOT_READABLE,
            f"ultralytics reads {dataset.ni} of {len(times)} training images, so that it is not known which to repeat; see the"
            " log for those that it leaves out, or take balance out of the dataset",
            "dataset.uri",
        )
    order = [index for index, many in enumerate(times) for _ in range(many)]
    for name in ("im_files", "labels", "npy_files", "im_hw0", "im_hw"):
        held = getattr(dataset, name)
        setattr(dataset, name, [held[index] for index in order])
    # If memory is too small for all images, each is read when it is needed and kept in ultralytics' buffer.
    dataset.ims = _Repeated(dataset.ims, order) if dataset.cache == "ram" else [None] * len(order)
    dataset.ni = len(order)
