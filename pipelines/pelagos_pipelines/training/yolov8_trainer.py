"""ultralytics' detection trainer with our history, crash safety and refusals, and what else we change of ultralytics.

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
"""The checkpoint to continue from: all that an epoch depends on but its number and the seed."""
NAMES = {
    "metrics/precision(B)": "validation/precision",
    "metrics/recall(B)": "validation/recall",
    "metrics/mAP50(B)": "validation/mAP50",
    "metrics/mAP50-95(B)": "validation/mAP50-95",
}
"""What we call ultralytics' metrics of boxes."""
RATE = "lr/pg0"
SCALE = "pelagosScale"
"""In the arguments of a checkpoint, the scale of what its network is given; ultralytics' own of this name is another thing."""


_shown: dict[str, str | None] = {"color": None}
"""The correction of the training that goes on in this process. Its threads, and loaders that are forked, read images, too."""


@contextmanager
def showing(method: str | None) -> Iterator[None]:
    """Have images that ultralytics reads meanwhile corrected by ``method``."""
    _shown["color"] = method
    try:
        yield
    finally:
        _shown["color"] = None


def _read(file: str, flags: int | None = None) -> Pixels:
    """An image as the server sees it. ultralytics cuts samples of 16 bits to their upper 8, whatever they use."""
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
    """No complaint, and height and width. ultralytics leaves out, or encodes anew, what the preparation has judged before."""
    with Image.open(file) as image:
        width, height = utils.exif_size(image)
    return "", (height, width)


base.imread = _read
base.BaseDataset.check_cache_ram = yolov8_sharing.fits_for_all(base.BaseDataset.check_cache_ram)
utils.check_image = _size
# It leaves out the rest of a batch, with a line in the log, when suppression takes more than some seconds.
nms.non_max_suppression = functools.partial(nms.non_max_suppression, max_time_img=math.inf)
# How many detections an image may have is said by the request; it would put what it finds in the dataset for 300.
DetectionValidator._check_max_det = staticmethod(lambda *_: None)


class Scaled(DetectionPredictor):  # type: ignore[misc]  # ultralytics is not typed
    """Gives the network values on the scale that it was trained on."""

    def __init__(self, scale: Scale | None, *args: Any, **kwargs: Any) -> None:
        """The rest is for ultralytics."""
        super().__init__(*args, **kwargs)
        self._scale = scale

    def preprocess(self, im: Any) -> Any:
        """Scale them last."""
        values = super().preprocess(im)
        return values if self._scale is None else self._scale.apply(values)


class Unsuppressed(Scaled):
    """Keeps what the network gave for the latest image in ``raw``, as `Predictor.outputs` has it: ``[channels, anchors]``."""

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **kwargs: Any) -> Any:
        """Keep it, before suppression changes it."""
        found = preds[0] if isinstance(preds, list | tuple) else preds
        self.raw = found[0].float().cpu().numpy().copy()
        return super().postprocess(preds, img, orig_imgs, **kwargs)


class Trainer(DetectionTrainer):  # type: ignore[misc]  # ultralytics is not typed
    """Trains one job; every override below says what it changes and why.

    Of other networks: a class of this one and of ultralytics' trainer for them, in this order, with the three that follow.
    """

    NETWORK: ClassVar[Any] = DetectionModel
    TASK: ClassVar[str] = "detect"
    """As ultralytics calls it."""
    NAMES: ClassVar[Mapping[str, str]] = NAMES
    """Metrics that a validation split without annotations does not have; ultralytics gives 0 for them."""
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
        """``arguments`` are ultralytics' own; ``start`` are tensors to begin with, ``checkpoint`` is ours to continue from.

        Of several processes the first needs the start, and writes and validates for all.
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
        """Begin with the user's tensors, if any."""
        model = super().get_model(cfg, weights, verbose=False)
        if self._start:
            model.load_state_dict(self._start, strict=False)
        return model

    def _setup_train(self) -> None:
        """Use the processor cores of the request: ultralytics leaves one of two idle."""
        torch.set_num_threads(self._job.request.resources.cpu)
        super()._setup_train()
        if self._world.count > 1:
            # Now that weights are sorted into groups of the optimizer by the kinds of their layers.
            model = self._world.joined(self.model)
            usual = getattr(model, "criterion", None) or model.init_criterion()
            model.criterion = yolov8_sharing.WholeLoss(usual, self._world)
            self.model = self._world.wrapped(model, skips_weights=False)

    def _build_train_pipeline(self) -> None:
        """Refuse instead of halving the batch: the inputs of a run are frozen. A second build means that memory ran out."""
        if self._loaders_built:
            raise memory.refusal(self._job.request.hyperparameters, MemoryError("accelerator out of memory"))
        self._loaders_built = True
        super()._build_train_pipeline()

    def get_dataset(self) -> dict[str, Any]:
        """The images of the version, instead of what a data.yaml names."""
        return yolov8_view.data(self._job.truth)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Show training images as often as the version plans it, also where a mosaic chooses by chance, and alter them so."""
        dataset = super().build_dataset(img_path, mode, batch)
        if mode == "train":
            times = [sample.repeats for sample in yolov8_view.samples_of(self.data, img_path)]
            if set(times) != {1}:
                repeat(dataset, times)
            yolov8_augmentation.impose(dataset, self._job.truth.augmentation, self.args)
        return dataset

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Never train on a batch of one whose deepest level is one pixel: batch normalisation has nothing to compare it with.

        Several processes have an image of each batch at least. The first reads its images before the others do; it alone looks at
        those of the validation.
        """
        pixels = {} if mode == "train" or self._world.leads else {"cache": False}
        with self._world.leader_first(), override_configs(self.args, pixels):
            loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        least = 2 if self.args.imgsz < 2 * self.stride else 1
        if mode == "train" and max(least, self._world.count) > 1:
            yolov8_sharing.take_part(loader, self._world, least)
        return loader

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """On the scale that the dataset declares."""
        self._images = batch["im_file"]
        return self._scaled(super().preprocess_batch(batch))

    def get_validator(self) -> Any:
        """Likewise for the images of the validation."""
        validator = super().get_validator()
        usual = validator.preprocess
        validator.preprocess = lambda batch: self._scaled(usual(batch))
        return validator

    def _scaled(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._scale is not None:
            batch["img"] = self._scale.apply(batch["img"])
        return batch

    def resume_training(self, ckpt: Any) -> None:
        """Continue from our own checkpoint: ultralytics' lacks the raw weights, and bits of the averaged ones and the moments."""
        if self._checkpoint is None:
            return
        content = self._checkpoint
        self.model.load_state_dict(content["model"])
        self.ema.ema.load_state_dict(content["ema"])
        self.ema.updates = content["updates"]
        self.optimizer.load_state_dict(content["optimizer"])
        # Loading an image puts it into the dataset's buffer, in this order: what a mosaic draws by chance is then the same image.
        for index in self._of_this_process(content["mosaicImages"]):
            self.train_loader.dataset.load_image(index)
        self.start_epoch = self.progress.epoch

    def _of_this_process(self, images: Sequence[Any]) -> Sequence[int]:
        """Of several that saved, each has a list."""
        nested = bool(images) and isinstance(images[0], list)
        return images[self._world.rank % len(images)] if nested else images

    def set_class_weights(self) -> None:
        """Not yet: what ultralytics is given here weighs the loss of the validation, too, which is to be as it is."""

    def _weigh_classes(self) -> None:
        """Have ultralytics' loss multiply the classification error of each class by the weight that the version plans."""
        if self._job.truth.weights is None:
            return
        self.model.class_weights = torch.tensor(self._job.truth.weights, device=self.device)
        self.model.criterion = self.model.init_criterion()
        # The averaged model, which is validated, is given a copy of what the model has by this name after each epoch.
        del self.model.class_weights

    def _seed_epoch(self) -> None:
        """Shuffle and augment by seed and epoch alone, so that a continued training sees what an uninterrupted one sees.

        An iterator draws from the loader's generator, and processes of loaders read ahead: each epoch has an iterator of its own.
        """
        self.train_loader.reset()
        self._batches_done = 0
        seed = (self.args.seed + 1_000_003 * (self.epoch + 1)) % 2**32
        own = yolov8_sharing.own_seed(seed, self._world.rank)
        random.seed(own)
        np.random.seed(own)
        torch.manual_seed(own)
        self.train_loader.generator.manual_seed(seed)  # the order of images, which is one for all

    def optimizer_step(self) -> None:
        """Step after as many batches as are asked for, and after the last of an epoch: no checkpoint has to keep gradients.

        ultralytics asks after each. Its own way to accumulate counts on from epoch to epoch. A loss here is summed over
        images, so that some batches are worth one of as many images.
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
        """What an epoch tells of its losses is said of whole batches."""
        if self._world.count > 1:
            self.tloss = self._world.summed({name: float(value) for name, value in self.tloss.items()})

    def validate(self) -> tuple[dict[str, float], float | None]:
        """One process does it for all."""
        found: tuple[dict[str, float], float | None] = super().validate() if self._world.leads else ({}, None)
        return found

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """No: a loss that is no number is refused, and going back to an earlier epoch would depend on interruptions."""
        return False

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Record the epoch in our history, which precedes the checkpoint, instead of a CSV file; our patience, too."""
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
        """Nothing: the history is ours."""
        return {}

    def save_model(self) -> bool:
        """Write the checkpoint to continue from, then the best one if it has become better. Without a scaler: none is in use."""
        images = self._world.gathered(list(self.train_loader.dataset.buffer))
        if not self._world.leads:
            return True
        content = {
            "model": unwrap_model(self.model).state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            # What a mosaic chooses from when memory is too short for all images.
            "mosaicImages": images if len(images) > 1 else images[0],
            **self.progress.content(),
        }
        # The one to continue from first: whoever continues makes the best one of it, if that is behind. The other way round the
        # best one could be of an epoch that is trained again, and that ends otherwise on an accelerator.
        checkpoints.save_atomically(content, self._job.folder / LAST)
        if self.progress.is_best:
            self.save_best(self._job, content["ema"])
        self._journal.keep()
        return True

    @classmethod
    def save_best(cls, job: Job, ema: Mapping[str, Tensor]) -> None:
        """Write ``job.best``, as ultralytics reads it, from averaged weights: with nothing in it but them and what they are."""
        request = job.request
        model = _empty(cls.NETWORK, request.model.architecture, len(job.truth.labels))
        model.load_state_dict(ema)
        model.eval()  # once more: networks of ultralytics share their activations, also with the one that trains
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                torch.nan_to_num_(tensor)  # what half precision cannot hold
        model.names = dict(enumerate(job.truth.labels))
        arguments: dict[str, Any] = {"task": cls.TASK, "imgsz": request.hyperparameters.image_size}
        if scale := Scale.to(job.truth.statistics):
            arguments[SCALE] = scale.content
        model.args = arguments
        content = {"epoch": -1, "model": model, "train_args": arguments}
        checkpoints.save_atomically(content, job.best)

    def final_eval(self) -> None:
        """Nothing: the best epoch is validated already, and the test split is for the evaluation."""


@functools.lru_cache(maxsize=1)
def _empty(network: Any, architecture: str, classes: int) -> Any:
    """A network in half precision, to be filled: ultralytics takes as long to build one as to write it."""
    model = network(f"{architecture}.yaml", nc=classes, verbose=False)
    return model.half().requires_grad_(False)


class _Repeated:
    """ultralytics' images in memory, some of them under several numbers."""

    def __init__(self, images: Any, order: Sequence[int]) -> None:
        self._images, self._order = images, order

    def __getitem__(self, index: int) -> Any:
        return self._images[self._order[index]]


def repeat(dataset: Any, times: Sequence[int]) -> None:
    """Have ultralytics' dataset hold its images so many times each. Their pixels are in memory once.

    Raises:
        RefusedError: DATASET_NOT_READABLE when ``times`` is not of as many images: ultralytics has left some out.
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
    # Without room for all of them, each is read when it is asked for, and held for a while.
    dataset.ims = _Repeated(dataset.ims, order) if dataset.cache == "ram" else [None] * len(order)
    dataset.ni = len(order)
