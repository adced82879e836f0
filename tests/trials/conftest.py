"""Trials in a world in memory, with the real loop and reconcilers, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trials import worlds


@pytest.fixture
def trials() -> Iterator[worlds.Trials]:
    with worlds.trials() as found:
        yield found
