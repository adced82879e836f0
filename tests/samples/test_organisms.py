"""An organism is cut out of its crop, and assigned to one split before any frame is composed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos_contract.splits import SPLITS
from pelagos_pipelines.samples import organisms
from pelagos_pipelines.samples import wheel as wheels


@pytest.fixture(scope="module")
def cut(wheel: Path) -> list[organisms.Organism]:
    return [organisms.cut_out(crop) for crop in wheels.read(wheel).crops]


def test_the_mask_covers_the_body_and_little_around_it(cut: list[organisms.Organism]) -> None:
    for organism in cut:
        body: Any = np.zeros((80, 60), bool)
        body[20:60, 18:42] = True
        mask = organism.mask > 0
        assert mask[body].all()
        assert np.count_nonzero(mask & ~body) < 0.3 * np.count_nonzero(body)


def test_transmission_is_one_in_empty_water_and_low_in_the_body(cut: list[organisms.Organism]) -> None:
    organism = cut[0]

    assert organism.transmission[:10].mean() == pytest.approx(1, abs=0.01)
    assert organism.transmission[30:50, 25:35].mean() < 0.5


def test_background_is_measured_beside_the_organism(cut: list[organisms.Organism]) -> None:
    assert np.median([organism.background.level for organism in cut]) == pytest.approx(170, abs=1)
    assert np.median([organism.background.noise for organism in cut]) == pytest.approx(1.5, abs=0.4)


def test_every_organism_is_in_one_split_and_every_class_in_all(cut: list[organisms.Organism]) -> None:
    divided = organisms.divide(cut, seed=1)

    names = [organism.name for split in SPLITS for organism in divided[split]]
    assert sorted(names) == sorted(organism.name for organism in cut)
    for split in SPLITS:
        labels = [organism.label for organism in divided[split]]
        assert {label: labels.count(label) >= 2 for label in wheels.EXPECTED} == dict.fromkeys(wheels.EXPECTED, True)
    assert len(divided["train"]) > len(divided["test"]) + len(divided["validation"])


def test_the_division_depends_on_the_seed_and_not_on_the_order(cut: list[organisms.Organism]) -> None:
    def names(listed: list[organisms.Organism], seed: int) -> list[str]:
        return [organism.name for organism in organisms.divide(listed, seed)["test"]]

    assert names(cut, 1) == names(cut[::-1], 1)
    assert names(cut, 1) != names(cut, 2)
