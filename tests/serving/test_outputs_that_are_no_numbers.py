"""Network outputs that are NaN or infinite are not returned and do not make a request fail, for images of any shape."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pelagos_pipelines.serving import geometry, tasks
from pelagos_pipelines.serving.geometry import Fit, Fitted
from pelagos_pipelines.serving.predictions import Settings, Thresholds

LABELS, SIZE, COUNT = ("alga", "copepod"), 128, 60
BAD = (math.nan, math.inf, -math.inf, 3e38)


def random(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, np.float32)


def candidates(more: int) -> Any:
    found = random(6 + more, COUNT)
    found[:4] *= SIZE
    return found


def maskrcnn(_: Fit) -> tuple[Any, ...]:
    objects = random(COUNT, 6)
    objects[:, :4] *= SIZE / 2
    objects[:, 2:4] += objects[:, :2]
    objects[:, 5] = np.arange(COUNT) % 2
    return objects, random(COUNT, 28, 28)


def queries(_: Fit) -> tuple[Any, ...]:
    return random(20, 3), random(20, 32, 32)


NETWORKS: dict[tuple[str, str | None, int], Callable[[Fit], Any]] = {
    ("Detection", None, 32): lambda _: (candidates(0),),
    ("OrientedDetection", None, 32): lambda _: (candidates(1),),
    ("InstanceSegmentation", "yolov8-seg", 32): lambda at: (
        candidates(32),
        random(32, at.canvas_height // 4, at.canvas_width // 4) - np.float32(0.5),
    ),
    ("InstanceSegmentation", "maskrcnn", SIZE): maskrcnn,
    ("InstanceSegmentation", "mask2former", SIZE): queries,
    ("SemanticSegmentation", None, SIZE): lambda _: (random(3, 32, 32),),
    ("PanopticSegmentation", None, SIZE): queries,
}


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("size", [(40, 30), (1, 500), (500, 1)], ids=str)
def test_an_answer_has_numbers_alone(network: tuple[str, str | None, int], size: tuple[int, int]) -> None:
    name, head, stride = network
    task, settings = tasks.named(name, head), Settings(name, LABELS, SIZE, stride, head=head)
    at = geometry.fit(*size, SIZE, stride)
    image = Fitted(np.zeros((1, 1, 3), np.uint8), *size)
    for place in range(len(NETWORKS[network](at))):
        for bad in BAD:
            raw = NETWORKS[network](at)
            rows = min(7, len(raw[place]))
            for row in range(rows):
                raw[place][row, ..., ::2] = bad
                told = task.decode(raw if len(raw) > 1 else raw[0], image, settings, Thresholds(0.2))
                json.dumps(told.render(LABELS), allow_nan=False)
                for tensor in task.tensors([told, None], LABELS).values():
                    assert tensor.dtype == object or np.isfinite(tensor).all()
                raw[place][row] = NETWORKS[network](at)[place][row]
