"""Networks that torchvision builds, for the families of classifiers that are made of them. Nothing is downloaded."""

from __future__ import annotations

import torchvision
from torch import nn


def build(architecture: str, classes: int) -> nn.Module:
    """A network with random weights, see `classifiers.Networks`; torchvision knows the architecture by the same name."""
    model: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    return model
