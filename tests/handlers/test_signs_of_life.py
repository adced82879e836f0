"""When a silent watch is a reason to start again, and how required systems are checked. The test moves the time."""

from __future__ import annotations

import asyncio

import pytest

from pelagos.observability.readiness import Readiness
from pelagos.observability.watches import LONGEST_SILENCE, Watches


class Clock:
    """A clock in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watches(clock: Clock) -> Watches:
    """One watch of each of two kinds, begun now."""
    made = Watches(clock)
    made.expect(("Dataset", "TrainingRun"))
    made.answers(well=True)
    return made


def test_a_watch_that_speaks_is_well(watches: Watches, clock: Clock) -> None:
    for _ in range(10):
        clock.now += 60
        watches.heard("Dataset")
        watches.heard("TrainingRun")

    assert watches.problem() is None


def test_one_silent_watch_is_enough(watches: Watches, clock: Clock) -> None:
    clock.now += LONGEST_SILENCE + 1
    watches.heard("Dataset")

    assert watches.problem() == "the watch of TrainingRun has been silent for 201 s, and the API server answers"


def test_silence_while_the_api_server_is_away_is_not_our_fault(watches: Watches, clock: Clock) -> None:
    watches.answers(well=False)
    clock.now += 10 * LONGEST_SILENCE
    assert watches.problem() is None

    watches.answers(well=True)
    clock.now += LONGEST_SILENCE
    watches.answers(well=True)
    assert watches.problem() is None
    clock.now += 1
    assert watches.problem() is not None


def test_before_anything_is_watched_nothing_is_missed(clock: Clock) -> None:
    made = Watches(clock)
    made.answers(well=True)
    made.heard("Dataset")
    clock.now += 10 * LONGEST_SILENCE

    assert made.problem() is None


async def test_a_watch_that_is_refused_is_told_and_is_no_reason_to_start_anew(watches: Watches, clock: Clock) -> None:
    for _ in range(10):
        clock.now += 60
        watches.heard("TrainingRun")
        watches.refused("Dataset", 403)

    assert watches.problem() is None
    assert await watches.refusals() == "the API server refuses to list and watch Dataset: 403"

    watches.heard("Dataset")
    assert await watches.refusals() is None


async def test_kinds_that_no_longer_work_are_not_missed_and_others_keep_their_time(
    watches: Watches, clock: Clock
) -> None:
    clock.now += LONGEST_SILENCE
    watches.refused("Dataset", 404)
    watches.expect(("TrainingRun", "ModelService"))
    assert await watches.refusals() is None

    clock.now += 1

    assert watches.problem() == "the watch of TrainingRun has been silent for 201 s, and the API server answers"
    watches.heard("TrainingRun")
    assert watches.problem() is None


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
    assert readiness.problem() == "\n".join(f"{name}: not checked yet" for name in checks)

    await asyncio.wait_for(readiness.look(), 2)

    assert readiness.problem() == "two: it is not there\nthree: no answer within 0 s\nfour: refused"


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
