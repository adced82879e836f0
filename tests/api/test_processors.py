"""How processor cores are written in specs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

import builders
from pelagos.api import processors

WRITTEN = [
    (1, 1, 1000),
    (1024, 1024, 1_024_000),
    ("4", 4, 4000),
    ("4.0", 4, 4000),
    ("4000m", 4, 4000),
    ("1.5", "1500m", 1500),
    ("0.5", "500m", 500),
    ("0.001", "1m", 1),
    ("500m", "500m", 500),
    ("1023.999", "1023999m", 1_023_999),
]
"""As people write them, as they are parsed, and in thousandths of a core."""


@pytest.mark.parametrize(("written", "parsed", "thousandths"), WRITTEN)
def test_equal_amounts_are_one_value_however_they_are_written(
    written: Any, parsed: int | str, thousandths: int
) -> None:
    found = builders.model_service_spec(resources={"cpu": written}).resources.cpu

    assert (found, type(found)) == (parsed, type(parsed))
    assert processors.millicores(written) == processors.millicores(found) == thousandths


@pytest.mark.parametrize(
    "written", [0, -1, 1025, "0", "0m", "0.0", "00", "1025", "1024001m", "1.2345", "1e3", "2 ", "half", ""]
)
def test_anything_else_is_refused_with_what_is_allowed(written: Any) -> None:
    with pytest.raises(ValidationError, match=r'write cores from 1m to 1024, for example 2, "1.5" or 500m'):
        builders.training_run_spec(resources={"cpu": written})


@pytest.mark.parametrize("written", [True, 1.5, None, ["2"], {"cores": 2}])
def test_other_types_are_refused(written: Any) -> None:
    document = builders.changed(builders.TRAINING_RUN, {"resources": {}})
    document["resources"] = {"cpu": written}
    with pytest.raises(ValidationError):
        type(builders.training_run_spec()).model_validate(document)


def test_the_pattern_of_the_definitions_takes_what_is_taken() -> None:
    for millis in (1, 9, 10, 99, 100, 101, 500, 999, 1000, 1001, 1500, 10_000, 123_456, 1_024_000):
        cores = f"{millis // 1000}.{millis % 1000:03}"
        for text in (f"{millis}m", cores, cores.rstrip("0").rstrip(".")):
            assert re.fullmatch(processors.PATTERN, text), text
            assert processors.millicores(text) == millis
            assert len(text) <= 8
