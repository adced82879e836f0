"""Durations as they are written in YAML."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pelagos.decisions import durations


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("1h30m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("5ms", timedelta(milliseconds=5)),
        ("1m500ms", timedelta(seconds=60.5)),
        ("0s", timedelta()),
    ],
)
def test_every_unit_and_sums_of_them(text: str, want: timedelta) -> None:
    assert durations.parse(text) == want
    assert durations.seconds(text) == want.total_seconds()


def test_microseconds_are_whole() -> None:
    assert durations.microseconds("5ms") == 5000


def test_the_longest_that_the_pattern_allows_is_a_century_and_no_error() -> None:
    assert durations.parse("9" * 31 + "d") == timedelta(days=36500)
