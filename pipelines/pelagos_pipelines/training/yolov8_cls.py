"""YOLOv8 image classifiers (Jocher et al. 2023), built from ultralytics' architecture files, trained from scratch.

The networks are ultralytics', but they are trained like all classifiers here, so that balance, augmentation and the metrics of
epochs mean the same for each. ultralytics' own trainer crops the middle of each image, and would lose organisms at the edges.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pelagos_contract.families import YOLOV8_CLS
from pelagos_pipelines.serving.tasks.classification import DEVIATION, MEAN
from pelagos_pipelines.training import yolov8  # noqa: F401 - keeps ultralytics from the network before it is imported
from pelagos_pipelines.training.classifiers import Classifiers, Networks
from pelagos_pipelines.training.normalization import Scale

# isort: split
from ultralytics.nn.tasks import ClassificationModel


class _Network(ClassificationModel):  # type: ignore[misc]  # ultralytics is not typed
    """Returns logits in evaluation mode, too, where ultralytics' network returns them beside probabilities."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(x, *args, **kwargs)
        return found if self.training else found[1]


def build(architecture: str, classes: int) -> nn.Module:
    """A network with random weights, see `classifiers.Networks`."""
    model: nn.Module = _Network(f"{architecture}.yaml", nc=classes, verbose=False)
    return model


FAMILY = Classifiers(
    YOLOV8_CLS,
    # ultralytics trains on values in [0, 1], so its checkpoints expect those.
    Networks(build, head="model.9.linear.", usual=Scale(tuple(DEVIATION.tolist()), tuple(MEAN.tolist()))),
)
