"""A detector that finds dozens of boxes without training, for tests of everything that happens after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, OBBModel

from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.geometry import Pixels

SIZE = 128
SIZES = ((130, 100), (320, 240), (64, 200), (128, 128), (257, 33))
"""Width and height of test images, whose canvases differ in shape."""
LABELS = ("alga", "copepod", "Noctiluca scintillans")


def make_image(width: int, height: int, seed: int) -> Pixels:
    """An image of coloured clouds."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    image: Pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


def make_checkpoint(
    path: Path,
    labels: tuple[str, ...] = LABELS,
    mean: float = -2.0,
    deviation: float = 1.5,
    *,
    turned: bool = False,
    network: Any = DetectionModel,
    architecture: str = "yolov8n",
    task: str = "detect",
) -> Path:
    """A small YOLOv8 with random weights: a detector unless ``network`` says otherwise, or one of turned boxes if ``turned``.

    The weights are scaled so that scores spread over the whole of [0, 1].

    With a lower ``mean`` and ``deviation`` of the logits it is sure of nothing, as after one epoch of training.
    """
    torch.manual_seed(0)
    if turned:
        network, architecture, task = OBBModel, "yolov8n-obb", "obb"
    model = network(f"{architecture}.yaml", nc=len(labels), verbose=False)
    model.names = dict(enumerate(labels))
    batches = [
        torch.from_numpy(geometry.place(image, geometry.fit(image.shape[1], image.shape[0], SIZE, 32))[None])
        .permute(0, 3, 1, 2)
        .float()
        / 255
        for image in (make_image(*size, seed) for seed in range(2) for size in SIZES)
    ]
    settle_statistics(model, batches)
    head = model.model[-1]
    for branch in head.cv2:
        scale_outputs(model, branch[-1], batches, mean=0.0, deviation=1.0)
        # The sides of a box are distributions over 16 distances: prefer short ones, or all boxes would exceed the image.
        branch[-1].bias.data -= 2.0 * torch.arange(16).repeat(4)
    for branch in head.cv3:
        scale_outputs(model, branch[-1], batches, mean=mean, deviation=deviation)
    for branch in head.cv4 if turned else ():
        scale_outputs(model, branch[-1], batches, mean=0.0, deviation=1.5)
    model.args = {"imgsz": SIZE, "task": task}
    torch.save({"epoch": -1, "model": model, "train_args": model.args}, path)
    return path


def settle_statistics(model: nn.Module, batches: list[torch.Tensor]) -> None:
    """Give normalisation layers the statistics of ``batches``, so that a deep random network keeps its signal."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # average over all batches
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for norm in norms:
        norm.momentum = 0.03
    model.eval()


def scale_outputs(
    model: nn.Module, layer: nn.Conv2d | nn.Linear, batches: list[torch.Tensor], mean: float, deviation: float
) -> None:
    """Scale a last layer so that its outputs over ``batches`` have this mean and deviation: sigmoids do not saturate."""
    seen: list[torch.Tensor] = []
    nn.init.zeros_(layer.bias)
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.flatten()))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    hook.remove()
    outputs = torch.cat(seen)
    layer.weight.data *= deviation / outputs.std()
    nn.init.constant_(layer.bias, float(mean - outputs.mean() * deviation / outputs.std()))
