"""The API server and the operator's types fill in the same defaults."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from pelagos.api import kinds, schemas
from pelagos.api.kinds import Kind

MINIMAL = [
    pytest.param(kinds.DATASET, builders.DATASET, id="Dataset"),
    pytest.param(
        kinds.TRAINING_RUN, {"datasetRef": {"name": "a"}, "model": {"architecture": "yolov8n"}}, id="TrainingRun"
    ),
    pytest.param(kinds.MODEL_SERVICE, builders.MODEL_SERVICE, id="ModelService"),
    pytest.param(kinds.TRIAL, builders.TRIAL, id="Trial"),
]


def defaulted(schema: dict[str, Any], value: Any) -> Any:
    """As the API server does: defaults of a level first, then those inside of what exists."""
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    filled = {name: child["default"] for name, child in schema["properties"].items() if "default" in child} | value
    return {name: defaulted(schema["properties"][name], item) for name, item in filled.items()}


def dumped(kind: Kind, spec: Any) -> Any:
    return kind.spec.model_validate(spec).model_dump(by_alias=True, mode="json", exclude_none=True)


@pytest.mark.parametrize(("kind", "spec"), MINIMAL)
def test_the_server_fills_in_what_the_types_fill_in(kind: Kind, spec: builders.Yaml) -> None:
    assert defaulted(schemas.structural(kind.spec), spec) == dumped(kind, spec)


@pytest.mark.parametrize(("kind", "spec"), MINIMAL)
def test_what_the_server_has_filled_in_parses_to_the_same(kind: Kind, spec: builders.Yaml) -> None:
    assert dumped(kind, defaulted(schemas.structural(kind.spec), spec)) == dumped(kind, spec)


@pytest.mark.parametrize(
    ("kind", "base", "partial"),
    [
        (kinds.DATASET, builders.DATASET, {"cleaning": {"duplicates": {"action": "Keep"}}}),
        (kinds.DATASET, builders.DATASET, {"split": {"ratios": {"train": 80, "test": 5}}}),
        (kinds.TRAINING_RUN, builders.TRAINING_RUN, {"hyperparameters": {"imageSize": 320}}),
        (kinds.MODEL_SERVICE, builders.MODEL_SERVICE, {"runtime": {"instances": 2}}),
    ],
)
def test_a_part_that_is_given_is_filled_up(kind: Kind, base: builders.Yaml, partial: builders.Yaml) -> None:
    spec = builders.changed(base, partial)

    assert defaulted(schemas.structural(kind.spec), spec) == dumped(kind, spec)


@pytest.mark.parametrize(("kind", "spec"), MINIMAL)
def test_specs_cannot_be_changed_once_parsed(kind: Kind, spec: builders.Yaml) -> None:
    parsed = kind.spec.model_validate(spec)

    with pytest.raises(ValueError, match="frozen"):
        setattr(parsed, next(iter(kind.spec.model_fields)), None)
