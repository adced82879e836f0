"""Processor cores in specs: how a real API server accepts and refuses them, and how they reach the pipelines."""

from __future__ import annotations

import contextlib
import urllib.error
from typing import Any

import pytest

from pelagos.ports.placement import processors
from sites import Site, has_reason

DATASET: dict[str, Any] = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}


@pytest.mark.parametrize(
    ("cpu", "bounds", "threads"),
    [(3, ("3", "3"), 3), ("3", ("3", "3"), 3), ("1.5", ("1500m", "1500m"), 2), ("500m", ("500m", "500m"), 1)],
)
async def test_cores_are_whole_numbers_or_quantities(
    site: Site, cpu: int | str, bounds: tuple[str, str], threads: int
) -> None:
    site.fakes.volumes.put("plankton/1.png")

    made = await site.create("Dataset", "plankton", DATASET | {"resources": {"cpu": cpu}})
    await site.wait("Dataset", "plankton", has_reason("Queued"))

    assert made["spec"]["resources"]["cpu"] == cpu, "nothing that a person wrote is rewritten"
    (asked,) = [known.request.resources for known in site.fakes.pipelines.runs.values()]
    assert (asked.cpu, processors(asked.placement, asked.cpu)) == (threads, bounds)


@pytest.mark.parametrize("cpu", [1.5, 0, 1025, "0.0001", "half", "1.5 ", True, ["2"], None])
async def test_what_is_no_amount_of_cores_is_refused_when_it_is_written(site: Site, cpu: Any) -> None:
    if cpu is None:  # as if it were left out
        await site.create("Dataset", "plankton", DATASET | {"resources": {"cpu": None}})
        return
    with pytest.raises(urllib.error.HTTPError) as refused:
        await site.create("Dataset", "plankton", DATASET | {"resources": {"cpu": cpu}})

    assert "spec.resources.cpu" in refused.value.__notes__[0]


async def test_a_limit_below_what_is_requested_is_refused_or_stalls_with_the_same_words(site: Site) -> None:
    words = "spec.resources.limits.cpu must not be below spec.resources.cpu, which is the request"
    spec = DATASET | {"resources": {"cpu": 2, "limits": {"cpu": "500m"}}}
    with contextlib.suppress(urllib.error.HTTPError):
        await site.create("Dataset", "plankton", spec)
        body = await site.wait("Dataset", "plankton", has_reason("InvalidSpec"))
        assert words in str(body["status"]["conditions"])
        return
    # A server that checks CEL rules.
    with pytest.raises(urllib.error.HTTPError) as refused:
        await site.create("Dataset", "plankton", spec)
    assert words in refused.value.__notes__[0]
