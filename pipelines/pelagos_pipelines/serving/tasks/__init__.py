"""What differs by task when a model serves: one module each, with a class of `strategy.Strategy`. A new one is a line in MODULES.

The standard library alone, until a strategy is asked for: whoever reads packages knows the names of tasks, and needs no numpy.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pelagos_pipelines.serving.tasks.strategy import Strategy

MODULES = {"Detection": "detection", "Classification": "classification"}
"""By the name of the task in packages."""


@cache
def named(task: str) -> Strategy:
    """The strategy of a task. Raises ValueError when it is none that is served."""
    if task not in MODULES:
        raise ValueError(f"there is no task {task!r} that is served; there are {', '.join(MODULES)}")
    found: Strategy = import_module(f"{__name__}.{MODULES[task]}").STRATEGY
    return found


def load() -> None:
    """Load all strategies, for a process whose children may load nothing later."""
    for task in MODULES:
        named(task)
