"""For all tests: what runs in one process, and that no process which they start outlives them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import leftovers

_OUTER = os.environ.get(leftovers.VARIABLE, "by-hand").split(".")[0]
_TOGETHER = frozenset({"embedded", "handlers", "integration", "leadership", "main_job", "monitoring", "tenancy"})
"""Folders whose tests share servers that take seconds to start, and a part of a core as long as they run."""
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the work (tools/test.sh), one takes a module as a whole, or a folder."""
    for item in items:
        place = item.path.relative_to(_HERE) if item.path.is_relative_to(_HERE) else item.path
        together = place.parts[0] in _TOGETHER
        item.add_marker(pytest.mark.xdist_group(place.parts[0] if together else str(place)))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Set up first and torn down last; each process of a run that is spread over several looks after its own."""
    mark = os.environ[leftovers.VARIABLE] = f"{_OUTER}.{os.getpid()}"
    yield
    found = leftovers.settled(mark)
    leftovers.end(found)
    if found:
        told = "\n".join(map(str, found))
        pytest.fail(f"processes that these tests started still live after them:\n{told}", pytrace=False)
