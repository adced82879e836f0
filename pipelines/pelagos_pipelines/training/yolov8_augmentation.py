"""Makes ultralytics augment training images as a dataset declares. Called by yolov8.py and its trainer.

Most of it is done by ultralytics' own arguments. Without another library it has neither contrast nor blur: these are done here,
after its own changes of colours.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import cv2
import numpy as np
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import BaseTransform
from ultralytics.data.build import build_yolo_dataset
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.ops import xywhr2xyxyxyxy

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.annotations import yolo_shapes
from pelagos_pipelines.training import altering
from pelagos_pipelines.training.altering import Altered, Examples

ARGUMENTS: Mapping[str, str] = {
    "flipHorizontal": "fliplr",
    "flipVertical": "flipud",
    "rotate": "degrees",
    "scale": "scale",
    "translate": "translate",
    "color.hue": "hsv_h",
    "color.saturation": "hsv_s",
    "color.brightness": "hsv_v",
    "mosaic": "mosaic",
}
"""ultralytics' names of augmentations, by ours."""
_OURS = ("color.contrast", "blur")
_OF_DEGREES = "rotate"
_TURNED = 5
"""Numbers per box if it has an angle."""


def arguments(declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, float]:
    """Arguments for ultralytics. What is not declared keeps its published default, except mosaics, which must be requested."""
    listed = {} if declared is None else declared.listed()
    found = {ARGUMENTS[name]: _fraction(name, value) for name, value in listed.items() if name in ARGUMENTS}
    # hyperparameters.mosaic is False by default, so False does not override the dataset's declaration.
    mosaic = 1.0 if parameters.mosaic else found.get("mosaic", 0.0)
    return found | {"mosaic": mosaic, "close_mosaic": parameters.epochs // 10 if mosaic else 0}


def applied(declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
    """The augmentation in words, see `altering.Augmenting`."""
    told, listed = DEFAULT_CFG_DICT | arguments(declared, parameters), {} if declared is None else declared.listed()
    found = {name: told[argument] * (1 if name == _OF_DEGREES else 100) for name, argument in ARGUMENTS.items()}
    words = {name: altering.worded(name, value) for name, value in found.items()}
    words |= {name: altering.worded(name, int(listed.get(name, 0))) for name in _OURS}
    if parameters.mosaic:
        words["mosaic"] += ", by hyperparameters.mosaic"
    return words


def impose(dataset: Any, declared: Augmentation | None, settings: Any) -> None:
    """Add contrast and blur, which have no arguments, to ultralytics' dataset, which was built with ``settings``."""
    listed = {} if declared is None else declared.listed()
    contrast, blur = (int(listed.get(name, 0)) / 100 for name in _OURS)
    if not contrast and not blur:
        return
    usual = dataset.build_transforms

    def build(hyp: Any = None) -> Any:
        transforms = usual(hyp)
        transforms.insert(len(transforms.transforms) - 1, _Camera(contrast, blur))  # the last one converts to a tensor
        return transforms

    # The method is replaced as well, because ultralytics rebuilds the transforms when it turns mosaics off.
    dataset.build_transforms = build
    dataset.transforms = build(copy(settings))


def altered(declared: Augmentation, examples: Examples, task: str) -> Iterator[list[Altered]]:
    """See `altering.Augmenting`: items of a dataset that is built as for a training of ``task``, in ultralytics' naming."""
    images, labels = (examples.folder / name / "train" for name in ("images", "labels"))
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for number, sample in enumerate(examples.samples):
        (images / f"{number:06}.png").symlink_to(sample.file)
        height, width = sample.stored().shape[:2]
        names = examples.labels
        if sample.shapes:
            rows = [f"{names.index(one.label)} {yolo_shapes.row(one, (width, height))}\n" for one in sample.shapes]
        else:
            rows = [
                f"{label} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f}"
                f" {(x2 - x1) / width:.8f} {(y2 - y1) / height:.8f}\n"
                for label, (x1, y1, x2, y2) in zip(sample.class_ids, sample.boxes, strict=True)
            ]
        disk.write_atomically(labels / f"{number:06}.txt", "".join(rows))
    told = {"task": task, "mode": "train", "imgsz": examples.image_size, "cache": "ram"}
    settings = get_cfg(overrides=told | arguments(declared, Hyperparameters()))
    data = {"names": dict(enumerate(examples.labels)), "nc": len(examples.labels), "channels": 3}
    dataset = build_yolo_dataset(settings, str(images), len(examples.samples), data, mode="train")
    impose(dataset, declared, settings)
    random.seed(examples.seed)
    np.random.seed(examples.seed)  # ultralytics draws from numpy's global generator
    for index in range(examples.shown):
        yield [_of(dataset[index]) for _ in range(examples.rounds)]


def _of(item: Mapping[str, Any]) -> Altered:
    pixels = np.ascontiguousarray(item["img"].permute(1, 2, 0).numpy()[..., ::-1])
    height, width = pixels.shape[:2]
    found, class_ids = item["bboxes"].numpy(), item["cls"].numpy().reshape(-1).astype(int)
    if found.shape[1] == _TURNED:
        corners = xywhr2xyxyxyxy(found * (width, height, width, height, 1))
        boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
        return Altered(pixels, boxes, class_ids, tuple(corners))
    middle, sides = np.split(found.reshape(-1, 4), 2, axis=1)
    boxes = np.concatenate((middle - sides / 2, middle + sides / 2), axis=1) * (width, height, width, height)
    outlines = _outlines(item["masks"][0].numpy(), boxes, width) if "masks" in item and len(boxes) else ()
    return Altered(pixels, boxes, class_ids, outlines)


def _outlines(owners: Any, boxes: Any, width: int) -> tuple[Any, ...]:
    """The longest outline of each object in the reduced masks that training uses; for a hidden object, its box."""
    larger, found = width / owners.shape[1], []
    for number, box in enumerate(boxes, start=1):
        rings, _ = cv2.findContours((owners == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        longest = max(rings, key=len, default=None)
        found.append(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) if longest is None else (longest[:, 0] + 0.5) * larger)
    return tuple(found)


def _fraction(name: str, value: bool | int) -> float:
    if isinstance(value, bool):
        return 0.5 if value else 0.0
    return float(value) if name == _OF_DEGREES else value / 100


class _Camera(BaseTransform):  # type: ignore[misc]  # ultralytics is not typed
    """Contrast around the mean grey level, by a factor of 1 - ``contrast`` to 1 + ``contrast``, and blur of some images."""

    def __init__(self, contrast: float, blur: float) -> None:
        self._contrast, self._blur = contrast, blur

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Change contrast, then blur. All numbers are always drawn, so that one setting does not change the other's draws."""
        drawn = np.random.uniform(size=3)
        pixels = altering.contrasted(labels["img"], 1 + self._contrast * (2 * drawn[0] - 1))
        labels["img"] = altering.blurred(pixels, drawn[2]) if drawn[1] < self._blur else pixels
        return labels
