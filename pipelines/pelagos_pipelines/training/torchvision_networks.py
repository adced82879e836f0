"""Builds torchvision's networks for families of classifiers. Nothing is downloaded."""

from __future__ import annotations

import torchvision
from torch import nn


def build(architecture: str, classes: int) -> nn.Module:
    """A network with random weights, see `classifiers.Networks`. Architectures have torchvision's names."""
    model: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    return model
