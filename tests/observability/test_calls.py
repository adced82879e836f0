"""Every call of a port is timed and its failures are counted, without caller or port noticing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pelagos.observability import metrics
from pelagos.observability.calls import wrapped
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.volumes import Volumes

CALLS = "pelagos_outbound_call_duration_seconds_count"
SECONDS = "pelagos_outbound_call_duration_seconds_sum"
ERRORS = "pelagos_outbound_call_errors_total"


def value(name: str, operation: str, system: str = "test") -> float:
    return metrics.REGISTRY.get_sample_value(name, {"system": system, "operation": operation}) or 0


class Difference:
    """The growth of a sample since its creation."""

    def __init__(self, name: str, operation: str) -> None:
        self._name, self._operation = name, operation
        self._before = value(name, operation)

    def __call__(self) -> float:
        return value(self._name, self._operation) - self._before


async def test_calls_are_counted_and_answered_as_before() -> None:
    volumes = VolumesFake()
    volumes.put("a/b", "content")
    grown = Difference(CALLS, "fingerprint")

    port = wrapped(volumes, Volumes, system="test")

    assert await port.fingerprint("a") == await volumes.fingerprint("a")
    assert await port.fingerprint(path="a") == await volumes.fingerprint("a")
    assert grown() == 2


async def test_failures_are_counted_timed_and_passed_on() -> None:
    volumes = VolumesFake()
    volumes.outage = True
    calls, errors = Difference(CALLS, "fingerprint"), Difference(ERRORS, "fingerprint")

    with pytest.raises(OutageError):
        await wrapped(volumes, Volumes, system="test").fingerprint("a")

    assert (calls(), errors()) == (1, 1)


async def test_a_refusal_is_counted_as_such_and_not_as_a_failure() -> None:
    class Strict:
        async def ask(self) -> None:
            raise RejectedError("test", "no such model")

    errors, refusals = Difference(ERRORS, "ask"), Difference("pelagos_outbound_call_rejections_total", "ask")

    with pytest.raises(RejectedError):
        await wrapped(Strict(), Volumes, system="test").ask()

    assert (errors(), refusals()) == (0, 1)


async def test_what_is_no_call_passes_through_as_it_is_now() -> None:
    class Port:
        label = "before"

        @property
        def root(self) -> str:
            return self.label

        def path(self, name: str) -> str:
            return f"{self.label}/{name}"

    port = Port()
    measured = wrapped(port, Volumes, system="test")
    first = (measured.root, measured.path("a"))
    port.label = "after"

    assert first == ("before", "before/a")
    assert (measured.root, measured.path("a")) == ("after", "after/a")


async def test_the_time_of_a_call_is_its_own() -> None:
    class Slow:
        async def wait(self) -> None:
            await asyncio.sleep(0.05)

    grown = Difference(SECONDS, "wait")

    await wrapped(Slow(), Volumes, system="test").wait()

    assert 0.04 <= grown() < 5


async def test_a_call_that_is_canceled_is_no_failure() -> None:
    class Stuck:
        async def wait(self) -> None:
            await asyncio.sleep(3600)

    errors = Difference(ERRORS, "wait")
    task = asyncio.create_task(wrapped(Stuck(), Volumes, system="test").wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert errors() == 0


def test_a_member_that_is_not_there_is_told_as_usual() -> None:
    port: Any = wrapped(VolumesFake(), Volumes, system="test")

    with pytest.raises(AttributeError, match="no attribute 'fingerprnt'"):
        getattr(port, "fingerprnt")  # noqa: B009
