"""Every class gets a metric name that MLflow accepts and no other class has."""

from __future__ import annotations

import pytest
from mlflow.utils.validation import _validate_metric_name

from pelagos_pipelines.evaluation.naming import metric_names

HOSTILE = [
    "Noctiluca scintillans",
    "a/b",
    "a_b",
    "../up",
    "..",
    "",
    " ",
    "Größe",
    "多毛類",
    "x" * 500,
    "50 % (large)",
    ".",
]


@pytest.mark.parametrize("name", metric_names(HOSTILE))
def test_a_name_is_accepted(name: str) -> None:
    _validate_metric_name(f"test/mAP50/{name}")


def test_names_are_distinct() -> None:
    assert len(set(metric_names(HOSTILE))) == len(HOSTILE)


def test_usual_names_stay_as_they_are() -> None:
    assert metric_names(["Noctiluca scintillans", "copepod-2"]) == ["Noctiluca scintillans", "copepod-2"]
