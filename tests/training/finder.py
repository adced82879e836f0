"""A small detector for tests of the loop. As in torchvision, its targets are dictionaries and its losses have names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pelagos_pipelines.training import loop
from pelagos_pipelines.training.families import Job


class Finder(nn.Module):  # type: ignore[misc]  # torch is not in this environment
    """Finds one box per image. As torchvision's detectors do, it returns named losses in training, and dictionaries otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.box_head, self.class_head = nn.Linear(16, 4), nn.Linear(16, 2)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        features = self.body(torch.stack(images)).flatten(1)
        boxes, scores = self.box_head(features), self.class_head(features)
        if targets is None:
            return [{"boxes": box[None], "scores": score} for box, score in zip(boxes, scores, strict=True)]
        wanted, labels = (torch.stack([target[name][0] for target in targets]) for name in ("boxes", "labels"))
        return {
            "box": nn.functional.smooth_l1_loss(boxes, wanted),
            "class": nn.functional.cross_entropy(scores, labels),
        }


class FinderLearner(loop.Learner):
    """The smallest learner that a detector needs."""

    heads = ("box_head.", "class_head.")
    settles = True

    def __init__(self, job: Job, most_gradient: float | None = None, noise: float = 0.01) -> None:
        self.job, self.most_gradient, self.noise = job, most_gradient, noise

    def build(self) -> nn.Module:
        return Finder()

    def prepare(self, device: torch.device) -> None:
        self.device = device

    def batch(self, chosen: Sequence[int], generator: np.random.Generator | None) -> Any:
        samples = [self.job.truth.trained_on()[index] for index in chosen]
        noise = [0.0 if generator is None else generator.normal(0, self.noise) for _ in samples]
        images = [
            torch.from_numpy(one.pixels()).permute(2, 0, 1).float() / 255 + more
            for one, more in zip(samples, noise, strict=True)
        ]
        targets = [
            {
                "boxes": torch.from_numpy(one.boxes).float() / 96,
                "labels": torch.from_numpy(one.class_ids),
            }
            for one in samples
        ]
        return images, targets

    def loss(self, model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = model(*batch)
        return found

    def metrics(self, model: nn.Module) -> dict[str, float]:
        assert not model.training
        samples = self.job.truth.samples("validation")
        found = model([torch.from_numpy(one.pixels()).permute(2, 0, 1).float() / 255 for one in samples])
        far = [
            abs(one["boxes"][0] - torch.from_numpy(sample.boxes[0]) / 96).mean()
            for one, sample in zip(found, samples, strict=True)
        ]
        return {"validation/loss": float(sum(far))}

    def content(self, model: nn.Module) -> dict[str, Any]:
        return {"labels": list(self.job.truth.labels), "model": model.state_dict()}


class Family:
    """The family that trains a `Finder` in the loop."""

    def __init__(self, noise: float = 0.01) -> None:
        self.noise = noise

    def learner(self, job: Job) -> loop.Learner:
        return FinderLearner(job, noise=self.noise)
