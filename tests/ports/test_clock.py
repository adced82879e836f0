"""Ages by others' times of day: right while clocks are right, and never absurd when they are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pelagos.ports.clock import FakeClock, SystemClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


def test_what_was_before_counts_as_old_as_its_note_says(clock: FakeClock) -> None:
    assert clock.age("run", NOON - HOUR) == HOUR

    clock.set(NOON + HOUR)
    assert clock.age("run", NOON - HOUR) == 2 * HOUR


@pytest.mark.parametrize("by", [30 * HOUR, -30 * HOUR])
def test_a_clock_that_is_set_makes_nothing_older_nor_younger_than_what_was_seen_of_it(
    clock: FakeClock, by: timedelta
) -> None:
    assert clock.age("run", NOON) == timedelta()
    clock.set(NOON + MINUTE)

    clock.jump(by)

    assert clock.age("run", NOON) == MINUTE
    clock.set(clock.now() + MINUTE)
    assert clock.age("run", NOON) == 2 * MINUTE


def test_what_lies_in_the_future_is_new_and_grows_old_from_now_on(clock: FakeClock) -> None:
    assert clock.age("run", NOON + 30 * HOUR) == timedelta()

    clock.set(NOON + MINUTE)
    assert clock.age("run", NOON + 30 * HOUR) == MINUTE


def test_a_clock_that_is_put_right_takes_back_what_it_said_was_before(clock: FakeClock) -> None:
    clock.jump(30 * HOUR)
    assert clock.age("run", NOON - MINUTE) == 30 * HOUR + MINUTE
    clock.set(clock.now() + MINUTE)

    clock.jump(-30 * HOUR)

    assert clock.age("run", NOON - MINUTE) == 2 * MINUTE


def test_what_comes_about_anew_did_so_since_the_last_look(clock: FakeClock) -> None:
    clock.age("silence", NOON - HOUR)
    clock.set(NOON + MINUTE)
    clock.jump(30 * HOUR)

    assert clock.age("silence", NOON) == MINUTE


def test_what_can_come_about_only_once_is_not_younger_for_another_note(clock: FakeClock) -> None:
    clock.age("start", NOON, once=True)
    clock.set(NOON + HOUR)

    assert clock.age("start", NOON + MINUTE, once=True) >= HOUR - MINUTE


def test_only_so_much_is_remembered(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pelagos.ports.clock.REMEMBERED", 2)
    for name in ("first", "second", "third"):
        clock.age(name, NOON)
    clock.set(NOON + MINUTE)
    clock.jump(-HOUR)

    assert clock.age("third", NOON) == MINUTE
    assert clock.age("first", NOON) == timedelta()


def test_the_time_that_passes_is_the_machines() -> None:
    clock = SystemClock()
    before = clock.elapsed()

    assert clock.elapsed() >= before
    assert clock.age("now", clock.now()) < MINUTE
