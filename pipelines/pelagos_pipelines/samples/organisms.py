"""Extracts the organism of a crop: its light transmission, its mask, and the background.

FlowCam images are bright-field: intensity is background times transmission (Beer and Lambert), so an organism is transferred to
another background by multiplying with its transmission. Used by the composer of frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.samples.wheel import Crop

SHARES: dict[Split, float] = {"train": 0.6, "validation": 0.2, "test": 0.2}
"""Shares of each class's organisms by split; validation and test get at least two each."""
LEAST_CONTRAST = 0.05
"""Deviation from the background, as a share of its brightness, from which a pixel can belong to an organism."""
SMALLEST_PART = 0.1
"""Least area of an organism's part, relative to its largest one; smaller parts are debris."""


@dataclass(frozen=True)
class Background:
    """The empty water of a crop in grey levels: mean, noise, and the correlation of neighbouring pixels' noise."""

    level: float
    noise: float
    correlation: float


@dataclass(frozen=True)
class Organism:
    """One organism: ``transmission`` (1 is as bright as the background) and ``mask`` (0 or 1), both float32 [height, width]."""

    name: str
    label: str
    transmission: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float32]
    background: Background


def cut_out(crop: Crop) -> Organism:
    """The organism of a crop; one that reaches the edges of the crop is kept as far as visible."""
    grey = crop.pixels.astype(np.float32)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    level = float(np.percentile(border, 60))
    transmission = grey / level
    mask = _mask(np.abs(cv2.GaussianBlur(transmission, (0, 0), 1.0) - 1))
    background = _background(grey, cv2.dilate(mask, np.ones((5, 5), np.uint8)), level)
    return Organism(crop.name, crop.label, transmission, mask.astype(np.float32), background)


def divide(organisms: Sequence[Organism], seed: int) -> dict[Split, list[Organism]]:
    """Assign every organism to one split, class by class, before frames are composed, so that none occurs in two splits."""
    by_label: dict[str, list[Organism]] = defaultdict(list)
    for organism in sorted(organisms, key=lambda each: (each.label, each.name)):
        by_label[organism.label].append(organism)
    divided: dict[Split, list[Organism]] = {split: [] for split in SPLITS}
    generator = np.random.default_rng(seed)
    for members in by_label.values():
        shuffled = [members[index] for index in generator.permutation(len(members))]
        held = {split: max(2, round(SHARES[split] * len(members))) for split in SPLITS[1:]}
        divided["test"] += shuffled[: held["test"]]
        divided["validation"] += shuffled[held["test"] : held["test"] + held["validation"]]
        divided["train"] += shuffled[held["test"] + held["validation"] :]
    return divided


def _mask(contrast: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """The pixels of an organism, holes filled, as uint8 0 or 1."""
    seen = (contrast > LEAST_CONTRAST).astype(np.uint8)
    joined = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    outlines, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    kept = [outline for outline, area in zip(outlines, areas, strict=True) if area >= SMALLEST_PART * max(areas)]
    return cv2.drawContours(np.zeros_like(seen), kept, -1, 1, cv2.FILLED)


def _background(grey: npt.NDArray[np.float32], organism: npt.NDArray[Any], level: float) -> Background:
    """Noise is what remains when slow changes of illumination are taken away, measured outside of the organism."""
    free = organism == 0
    water = free.astype(np.float32)
    # Averages over water pixels only, since a nearby organism would darken them.
    slow = cv2.GaussianBlur(grey * water, (0, 0), 4.0) / np.maximum(cv2.GaussianBlur(water, (0, 0), 4.0), 1e-6)
    fine = grey - slow
    # Floating debris is not noise; grey levels are integers, so the spread is at least one level.
    free &= np.abs(fine) < 4 * max(float(np.median(np.abs(fine[free]))), 1.0)
    pairs = free[:, 1:] & free[:, :-1]
    if np.count_nonzero(pairs) < 50:
        return Background(level, 1.5, 0.5)
    left, right = fine[:, :-1][pairs], fine[:, 1:][pairs]
    correlation = float(np.mean(left * right) / max(float(np.var(fine[free])), 1e-6))
    return Background(level, float(np.std(fine[free])), min(max(correlation, 0.05), 0.9))
