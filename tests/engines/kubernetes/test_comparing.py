"""Whether an object still is as it was applied."""

from __future__ import annotations

from typing import Any

import pytest

from pelagos.engines.kubernetes.comparing import holds
from pelagos.engines.kubernetes.quantities import quantity


@pytest.mark.parametrize(
    ("live", "want"),
    [
        ({"a": 1, "added": 2}, {"a": 1}),
        ({"limits": {"memory": "1Gi", "cpu": "1500m"}}, {"limits": {"memory": "1024Mi", "cpu": "1.5"}}),
        ({"env": [{"name": "Z"}, {"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "1"}]}),
        ({}, {"nodeSelector": {}}),
        ({"emptyDir": {}}, {"emptyDir": {}}),
    ],
)
def test_what_others_added_or_wrote_in_another_way_is_no_difference(live: Any, want: Any) -> None:
    assert holds(live, want)


@pytest.mark.parametrize(
    ("live", "want"),
    [
        (None, {"a": 1}),
        ({"a": 2}, {"a": 1}),
        ({"a": True}, {"a": False}),
        ({"env": [{"name": "A", "value": "1Gi"}]}, {"env": [{"name": "A", "value": "1024Mi"}]}),
        ({"limits": {"memory": "1G"}}, {"limits": {"memory": "1Gi"}}),
        ({"command": ["a", "b"]}, {"command": ["a"]}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}),
        ({}, {"replicas": 0}),
        ({}, {"automountServiceAccountToken": False}),
    ],
)
def test_what_was_changed_or_taken_away_is_a_difference(live: Any, want: Any) -> None:
    assert not holds(live, want)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("500m", 0.5),
        ("4Gi", 4 * 2**30),
        ("2k", 2000),
        ("1500M", 1.5e9),
        ("1.5", 1.5),
        ("2E", 2e18),
        ("1Ei", 2.0**60),
        ("x", None),
        (None, None),
    ],
)
def test_quantities(text: str | None, number: float | None) -> None:
    found = quantity(text)
    assert (None if found is None else float(found)) == number
