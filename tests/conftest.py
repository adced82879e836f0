"""For all tests: what runs in one process, and that no process which they start outlives them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import leftovers

_OUTER = os.environ.get(leftovers.VARIABLE, "by-hand").split(".")[0]
_TOGETHER = frozenset({"embedded", "handlers", "integration", "leadership", "main_job", "monitoring", "tenancy"})
"""Folders whose tests share servers that take seconds to start, and a part of a core as long as they run."""
_SLOW = ("mlflow_uri",)
"""Fixtures of a session that take so long that all modules with them run in one process."""
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the work (tools/test.sh), one takes a module as a whole, or all that share a server.

    With PELAGOS_TEST_SHUFFLE=NUMBER, folders, modules, and tests within a module come in an order of that number.
    """
    modules: dict[Path, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.path, []).append(item)
    for path, found in modules.items():
        group = _group(path, found)
        for item in found:
            item.add_marker(pytest.mark.xdist_group(group))
    if seed := os.environ.get("PELAGOS_TEST_SHUFFLE"):
        _shuffle(items, random.Random(int(seed)))


def _group(path: Path, items: list[pytest.Item]) -> str:
    place = path.relative_to(_HERE) if path.is_relative_to(_HERE) else path
    if place.parts[0] in _TOGETHER:
        return place.parts[0]
    names = {name for item in items for name in getattr(item, "fixturenames", ())}
    return next((name for name in _SLOW if name in names), str(place))


def _shuffle(items: list[pytest.Item], numbers: random.Random) -> None:
    """Tests that must follow each other are marked so by their module: ``IN_ORDER = True``."""
    places = {path: (numbers.random(), numbers.random()) for path in dict.fromkeys(item.path.parent for item in items)}
    modules = {path: (places[path.parent], numbers.random()) for path in dict.fromkeys(item.path for item in items)}
    within = {
        item: 0.0 if getattr(getattr(item, "module", None), "IN_ORDER", False) else numbers.random() for item in items
    }
    items.sort(key=lambda item: (modules[item.path], within[item]))


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
