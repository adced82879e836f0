"""A server is probed at once when it is new or was wrong, and otherwise once per interval."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOW, RIGHT, WRONG, make_service
from pelagos.observability import metrics
from pelagos.ports.clock import FakeClock
from pelagos.ports.errors import OutageError
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.serving import ProbeResult, ServiceState
from pelagos.reconcilers.probes import Probes

SERVICE = make_service(ServiceState.LOADED, digest="sha256:want")


class Answers(ServingFake):
    """A server that answers as the test says, and counts requests."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answer = RIGHT

    async def probe(self, uid: str) -> ProbeResult:
        self.asked += 1
        if self.outage:
            raise OutageError("serving", "connection refused")
        return self.answer


@pytest.fixture
def serving() -> Answers:
    return Answers()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def probes(serving: Answers, clock: FakeClock) -> Probes:
    return Probes(serving, clock, timedelta(seconds=20))


@pytest.mark.parametrize(("seconds", "asked"), [(0, 1), (19, 1), (20, 2)])
async def test_looking_often_is_not_probing_often(
    serving: Answers, clock: FakeClock, probes: Probes, seconds: float, asked: int
) -> None:
    await probes.look("uid", SERVICE)
    clock.set(NOW + timedelta(seconds=seconds))

    found = await probes.look("uid", SERVICE)

    assert found.result == RIGHT
    assert serving.asked == asked


@pytest.mark.parametrize(
    "other",
    [
        replace(SERVICE, digest="sha256:other"),
        replace(SERVICE, restarts=1),
        replace(SERVICE, changed_at=NOW + timedelta(seconds=1)),
    ],
    ids=["another-want", "started-anew", "changed"],
)
async def test_another_life_of_the_server_is_probed_at_once(serving: Answers, probes: Probes, other: object) -> None:
    await probes.look("uid", SERVICE)

    await probes.look("uid", other)  # type: ignore[arg-type]

    assert serving.asked == 2


async def test_wrong_answers_are_counted_in_a_row_and_asked_again_at_once(serving: Answers, probes: Probes) -> None:
    serving.answer = WRONG
    counts = [(await probes.look("uid", SERVICE)).wrong for _ in range(3)]
    serving.answer = RIGHT
    right = await probes.look("uid", SERVICE)
    serving.answer = WRONG

    assert counts == [1, 2, 3]
    assert right.wrong == 0
    assert (await probes.look("uid", replace(SERVICE, restarts=1))).wrong == 1


async def test_an_outage_is_no_wrong_answer(serving: Answers, probes: Probes) -> None:
    serving.answer = WRONG
    await probes.look("uid", SERVICE)
    serving.outage = True
    with pytest.raises(OutageError):
        await probes.look("uid", SERVICE)
    serving.outage = False

    assert (await probes.look("uid", SERVICE)).wrong == 2


async def test_endpoints_are_told_apart_and_forgotten(serving: Answers, probes: Probes) -> None:
    await probes.look("one", SERVICE)
    await probes.look("two", SERVICE)
    probes.forget("one")
    probes.forget("never seen")
    await probes.look("one", SERVICE)
    await probes.look("two", SERVICE)

    assert serving.asked == 3


async def test_outcomes_are_counted_and_right_answers_timed(serving: Answers, probes: Probes) -> None:
    def value(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0

    def values() -> tuple[float, float, float]:
        timed = value("pelagos_model_probe_duration_seconds_count")
        right = value("pelagos_model_probes_total", outcome="correct")
        return timed, right, value("pelagos_model_probes_total", outcome="wrong")

    before = values()
    await probes.look("one", SERVICE)
    serving.answer = WRONG
    await probes.look("two", SERVICE)

    assert [after - earlier for after, earlier in zip(values(), before, strict=True)] == [1, 1, 1]
