"""Packages of tasks that label pixels, in a real Triton: the same answers with another numpy and OpenCV."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import build_packages
from pelagos_pipelines.serving import predictor
from serving.conftest import Server

MODELS = {
    "SemanticSegmentation": build_packages.pixel_labeller,
    "PanopticSegmentation": build_packages.panoptic_segmenter,
}


@pytest.fixture(scope="module")
def served(triton: Server, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A package of each task, loaded under the task's name."""
    found = {}
    for task, model in MODELS.items():
        uri, _ = build_packages.build(task, model(), tmp_path_factory.mktemp(task))
        found[task] = Path(uri)
        triton.load(found[task], task)
    return found


@pytest.mark.parametrize("task", MODELS)
def test_answers_are_those_of_the_predictor(triton: Server, served: Mapping[str, Path], task: str) -> None:
    images = [build_packages.image(), cv2.resize(build_packages.image(), (210, 100), interpolation=cv2.INTER_NEAREST)]
    encoded = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    answer = triton.infer(task, [*encoded, b"GIF89a"])
    known = predictor.load(served[task])

    for row, expected in enumerate(known.predict(images)):
        assert json.loads(answer["prediction"][row, 0]) == expected.render(known.settings.labels)
    name = "class_map" if task == "SemanticSegmentation" else "segment_map"
    picture: Any = pictured(answer[name][1, 0])
    assert picture.shape == (100, 210)
    assert set(np.unique(picture)) == {0, 1, 2, 3}
    assert "is not JPEG, PNG" in json.loads(answer["prediction"][2, 0])["error"]
    assert answer[name][2, 0] == ""


def pictured(found: str) -> Any:
    return cv2.imdecode(np.frombuffer(base64.b64decode(found), np.uint8), cv2.IMREAD_UNCHANGED)
