"""Frames are composed from organisms only: boxes fit tightly, no edge of a crop shows, and a seed repeats them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos_pipelines.samples import frames, organisms
from pelagos_pipelines.samples import wheel as wheels


@pytest.fixture(scope="module")
def composed(wheel: Path) -> list[frames.Frame]:
    cut = [organisms.cut_out(crop) for crop in wheels.read(wheel).crops]
    return list(frames.compose(cut, 30, np.random.default_rng(3)))


def test_boxes_lie_inside_and_hold_the_darkness_of_their_organism(composed: list[frames.Frame]) -> None:
    for frame in composed:
        level = np.median(frame.pixels)
        outside = np.ones(frame.pixels.shape, bool)
        for placed in frame.placed:
            x, y, width, height = placed.box
            assert 0 <= x < x + width <= frames.SIDE
            assert 0 <= y < y + height <= frames.SIDE
            inside = frame.pixels[y : y + height, x : x + width]
            assert np.mean(inside < 0.8 * level) > 0.6
            outside[max(y - 12, 0) : y + height + 12, max(x - 12, 0) : x + width + 12] = False
        assert np.abs(frame.pixels[outside] - level).max() < 0.1 * level


def test_organisms_hardly_cover_each_other(composed: list[frames.Frame]) -> None:
    for frame in composed:
        covered: Any = np.zeros((frames.SIDE, frames.SIDE), int)
        for placed in frame.placed:
            x, y, width, height = placed.box
            covered[y : y + height, x : x + width] += 1
        smallest = min(placed.box[2] * placed.box[3] for placed in frame.placed)
        assert np.count_nonzero(covered > 1) <= frames.OVERLAP * smallest * len(frame.placed)


def test_classes_are_balanced_although_their_organisms_are_not(composed: list[frames.Frame]) -> None:
    counts = Counter(placed.label for frame in composed for placed in frame.placed)

    assert set(counts) == set(wheels.EXPECTED)
    assert max(counts.values()) - min(counts.values()) <= 4


def test_the_edge_of_a_crop_leaves_no_step_on_the_background() -> None:
    """A crop whose water is brighter on one side fades out before its edge when composed onto an even background."""
    transmission: Any = np.ones((80, 60), np.float32)
    transmission[:, 40:] = 1.2
    transmission[20:60, 18:42] = 0.3
    mask: Any = np.zeros((80, 60), np.float32)
    mask[20:60, 18:42] = 1
    organism = organisms.Organism("a", "Tripos", transmission, mask, organisms.Background(150, 0.01, 0.5))

    frame = next(frames.compose([organism], 1, np.random.default_rng(0))).pixels.astype(int)

    bright_edge = np.count_nonzero(frame > 150 * 1.15)
    assert bright_edge < 0.02 * frame.size
    assert np.abs(frame[0] - frame[-1]).max() < 10


def test_the_same_seed_gives_the_same_frames(wheel: Path, composed: list[frames.Frame]) -> None:
    cut = [organisms.cut_out(crop) for crop in wheels.read(wheel).crops]

    again = list(frames.compose(cut, 3, np.random.default_rng(3)))

    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(again, composed, strict=False))


def test_an_empty_frame_has_the_measured_background() -> None:
    canvas = frames.empty(organisms.Background(160, 2.0, 0.6), np.random.default_rng(1))

    fine = canvas - canvas.mean()
    assert canvas.mean() == pytest.approx(160, rel=0.03)
    neighbours = np.mean((canvas[:, 1:] - canvas[:, :-1]) ** 2)
    assert neighbours == pytest.approx(2 * 2.0**2 * (1 - 0.6), rel=0.2)
    assert fine.std() < 6
