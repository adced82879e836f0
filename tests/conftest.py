"""Settings of all tests: what runs in one process, and a check that no process started by a test outlives it."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

import orphans
from object_storage import bucket, object_storage
from real_label_studio import label_studio

__all__ = ["bucket", "label_studio", "object_storage"]

# Example durations depend on the machine, which may be busy, so there is no deadline. A usual run always takes the same examples,
# so that a failure points at the change under test; a thorough run looks for new ones.
_THOROUGH = os.environ.get("PELAGOS_TEST_THOROUGH") == "1"
hypothesis.settings.register_profile("pelagos", deadline=None, derandomize=not _THOROUGH)
hypothesis.settings.load_profile("pelagos")

# Tests of the embedded mode that are not about the gateway start none.
os.environ.setdefault("PELAGOS_EMBEDDED_GATEWAY", "false")
# Tests of the embedded mode that are not about the hub start none.
os.environ.setdefault("PELAGOS_EMBEDDED_HUB", "false")
_OUTER = os.environ.get(orphans.VARIABLE, "by-hand").split(".")[0]
# As in the pod of every step (engines/kubeflow/placement.py): OpenMP threads that spin while they wait for each other take time
# from the tests that run beside them. This must be set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_TOGETHER = frozenset(
    {
        "deepaas",
        "embedded",
        "engines/mlflow",
        "handlers",
        "integration",
        "leadership",
        "main_job",
        "monitoring",
        "tenancy",
    }
)
"""Folders whose tests share servers that take seconds to start and use part of a core while they run."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers (tools/test.sh), one worker takes a whole module, or all modules that share a server."""
    if config.getvalue("dist") != "loadscope":
        return None
    made = importlib.import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    made._split_scope = _scope
    return made


def _scope(nodeid: str) -> str:
    module = nodeid.partition("::")[0]
    folders = module.split("/")[1:-1]
    above = ("/".join(folders[:length]) for length in range(1, len(folders) + 1))
    return next((folder for folder in above if folder in _TOGETHER), module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With PELAGOS_TEST_SHUFFLE=NUMBER, shuffle folders, modules, and the tests within a module, with NUMBER as the seed."""
    if seed := os.environ.get("PELAGOS_TEST_SHUFFLE"):
        _shuffle(items, random.Random(int(seed)))


def _shuffle(items: list[pytest.Item], numbers: random.Random) -> None:
    """Shuffle ``items``, except within modules whose tests must run in order, which say so: ``IN_ORDER = True``."""
    places = {path: (numbers.random(), numbers.random()) for path in dict.fromkeys(item.path.parent for item in items)}
    modules = {path: (places[path.parent], numbers.random()) for path in dict.fromkeys(item.path for item in items)}
    within = {
        item: 0.0 if getattr(getattr(item, "module", None), "IN_ORDER", False) else numbers.random() for item in items
    }
    items.sort(key=lambda item: (modules[item.path], within[item]))


@pytest.fixture(scope="session", autouse=True)
def _ports_of_this_process() -> None:
    """Give each worker its own range of ports: a port looks free to all workers until its server listens, seconds later."""
    try:
        from pelagos.embedded import addresses
    except ImportError:  # the environment of the data plane
        return
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw7").removeprefix("gw")
    addresses.RANGE = addresses.RANGE[int(worker) % 8 :: 8]


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Set up first and torn down last. Each worker of a distributed run checks its own processes."""
    mark = os.environ[orphans.VARIABLE] = f"{_OUTER}.{os.getpid()}"
    yield
    found = orphans.settled(mark)
    # Before the failure is reported: nothing else would end them.
    orphans.end(found)
    if found:
        told = "\n".join(map(str, found))
        pytest.fail(f"processes that these tests started still live after them:\n{told}", pytrace=False)
