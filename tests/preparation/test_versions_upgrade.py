"""An upgrade keeps the digests of versions: preparing equal content again yields the existing version."""

from __future__ import annotations

import pytest

import later_specs
from pelagos_contract import algorithms
from pelagos_contract.dataset import PreparationRequest
from pelagos_pipelines.steps import prepare

REQUEST = {"source": {"volume": {"path": "fish"}}, "task": "Classification"}


def recipe(of: type[PreparationRequest] = PreparationRequest, **changes: object) -> dict[str, object]:
    return prepare._recipe(of.model_validate(REQUEST | changes), "ImageFolder")


def test_a_version_tells_what_the_first_release_told() -> None:
    assert recipe(retry="2", classFolder="First") == {
        "task": "Classification",
        "cleaning": {
            "corrupt": "Drop",
            "unreadableTypes": "Fail",
            "duplicates": {"maxDistance": 0, "action": "KeepFirst"},
            "minSide": 16,
        },
        "split": {"policy": "Stratified", "ratios": {"train": 70, "validation": 15, "test": 15}, "seed": 0},
        "format": "ImageFolder",
    }


def test_a_field_that_came_later_is_told_once_it_says_something() -> None:
    later = later_specs.changed(PreparationRequest, grown=True)

    assert recipe(later) == recipe()
    assert recipe(later, cleaning={"later": 8}) != recipe()


def test_another_default_is_another_recipe() -> None:
    assert recipe(later_specs.changed(PreparationRequest, defaults={"split.seed": 1})) == recipe(split={"seed": 1})


def test_another_version_of_an_algorithm_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algorithms, "PREPARATION", 2)

    assert recipe() == {**recipe(), "algorithms": {"preparation": 2}}
