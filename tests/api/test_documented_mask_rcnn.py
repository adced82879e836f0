"""The page about Mask R-CNN: its specs are valid, and it names the existing architectures."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pelagos.api.training_run import TrainingRunSpec
from pelagos_contract.families import MASK_RCNN

PAGE = (Path(__file__).parents[2] / "docs/mask-rcnn.md").read_text(encoding="utf-8")
WHOLE, WEIGHTS = (found["spec"] for found in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)))


def test_its_training_is_valid_from_random_and_from_published_weights() -> None:
    assert TrainingRunSpec.model_validate(WHOLE).model.weights is None
    weights = TrainingRunSpec.model_validate(WHOLE | WEIGHTS).model.weights
    assert weights is not None
    assert str(weights.path).endswith(".pth")


def test_it_names_the_architectures() -> None:
    assert set(re.findall(r"^\| `(\w+)`", PAGE, re.M)) == set(MASK_RCNN.architectures)
