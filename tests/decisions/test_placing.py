"""What pods request, and what they may use, by the resources in a spec."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from pelagos.decisions import placing
from pelagos.ports.placement import processors


def asked(**resources: Any) -> tuple[int, tuple[str, str], int]:
    """Threads, request and limit, and how many fields of the placement differ from those of whole cores."""
    spec = builders.training_run_spec(resources=resources).resources
    placement, threads = placing.place(spec), placing.threads(spec)
    return threads, processors(placement, threads), sum(map(bool, (placement.millicores, placement.millicores_limit)))


@pytest.mark.parametrize(
    ("resources", "threads", "bounds"),
    [
        ({}, 2, ("2", "2")),
        ({"cpu": 4}, 4, ("4", "4")),
        ({"cpu": "4"}, 4, ("4", "4")),
        ({"cpu": 4, "limits": {"cpu": "4.0"}}, 4, ("4", "4")),
    ],
)
def test_whole_cores_are_request_limit_and_threads(resources: Any, threads: int, bounds: tuple[str, str]) -> None:
    # The placement has no other new field, so its digest is the old one.
    assert asked(**resources) == (threads, bounds, 0)


@pytest.mark.parametrize(
    ("resources", "threads", "bounds"),
    [
        ({"cpu": "500m"}, 1, ("500m", "500m")),
        ({"cpu": "1.5"}, 2, ("1500m", "1500m")),
        ({"cpu": "500m", "limits": {"cpu": 4}}, 4, ("500m", "4")),
        ({"cpu": 2, "limits": {"cpu": "2.5"}}, 3, ("2", "2500m")),
    ],
)
def test_threads_are_as_many_as_the_cores_that_may_be_used_rounded_up(
    resources: Any, threads: int, bounds: tuple[str, str]
) -> None:
    assert asked(**resources) == (threads, bounds, 2)


def test_a_server_of_several_instances_gets_the_cores_of_each() -> None:
    spec = builders.model_service_spec(resources={"cpu": "500m", "limits": {"cpu": "1.5"}}).resources

    assert processors(placing.place(spec), placing.threads(spec), copies=2) == ("1", "3")
    assert processors(placing.place(spec), placing.threads(spec), copies=3) == ("1500m", "4500m")
