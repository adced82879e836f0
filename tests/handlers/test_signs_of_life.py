"""When a silent watch is a reason to start anew, and how what is needed is looked at. In time that the test lets pass."""

from __future__ import annotations

import asyncio

import pytest

from pelagos.observability.readiness import Readiness
from pelagos.observability.watches import LONGEST_SILENCE, Watches


class Clock:
    """Seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watches(clock: Clock) -> Watches:
    """One watch of each of two kinds, since now."""
    made = Watches(clock)
    made.expect(("Dataset", "TrainingRun"))
    return made


def test_a_watch_that_speaks_is_well(watches: Watches, clock: Clock) -> None:
    for _ in range(10):
        clock.now += 60
        watches.heard("Dataset")
        watches.heard("TrainingRun")

    assert watches.problem(answering_since=0) is None


def test_one_silent_watch_is_enough(watches: Watches, clock: Clock) -> None:
    clock.now += LONGEST_SILENCE + 1
    watches.heard("Dataset")

    assert watches.problem(answering_since=0) == (
        "the watch of TrainingRun has been silent for 201 s, and the API server answers"
    )


def test_silence_while_the_api_server_is_away_is_not_our_fault(watches: Watches, clock: Clock) -> None:
    clock.now += 10 * LONGEST_SILENCE

    assert watches.problem(answering_since=None) is None
    assert watches.problem(answering_since=clock.now - LONGEST_SILENCE) is None
    assert watches.problem(answering_since=clock.now - LONGEST_SILENCE - 1) is not None


def test_before_anything_is_watched_nothing_is_missed(clock: Clock) -> None:
    made = Watches(clock)
    made.heard("Dataset")
    clock.now += 10 * LONGEST_SILENCE

    assert made.problem(answering_since=0) is None


async def fine() -> str | None:
    return None


async def missing() -> str | None:
    return "it is not there"


async def hanging() -> str | None:
    await asyncio.sleep(3600)
    return None


async def failing() -> str | None:
    raise ConnectionError("refused")


async def test_what_is_missing_is_told_line_by_line_within_bounded_time() -> None:
    checks = {"one": fine, "two": missing, "three": hanging, "four": failing}
    readiness = Readiness(checks, patience=0.2)
    assert readiness.problem() == "\n".join(f"{name}: not looked at yet" for name in checks)

    await asyncio.wait_for(readiness.look(), 2)

    assert readiness.problem() == "two: it is not there\nthree: no answer within 0 s\nfour: refused"
    assert readiness.well_since("one") is not None
    assert readiness.well_since("two") is None


async def test_only_what_is_vital_is_waited_for() -> None:
    found: list[str | None] = ["not yet", None]

    async def soon() -> str | None:
        return found.pop(0)

    readiness = Readiness({"vital": soon, "other": missing}, vital=frozenset({"vital"}))
    waiting = asyncio.create_task(readiness.until_vital())
    await readiness.look()
    assert not waiting.done()

    await readiness.look()

    await asyncio.wait_for(waiting, 2)
    assert readiness.problem() == "other: it is not there"


async def test_what_comes_back_is_seen() -> None:
    answers = [None, "gone", None]

    async def changing() -> str | None:
        return answers.pop(0)

    readiness = Readiness({"one": changing})
    told = []
    for _ in range(3):
        await readiness.look()
        told.append(readiness.problem())

    assert told == [None, "one: gone", None]
