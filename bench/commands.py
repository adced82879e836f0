"""Start-up time of commands, compared with the start of the interpreter. Called by run.py."""

from __future__ import annotations

import os
from functools import partial

from bench import measuring
from bench.measuring import Usage
from bench.plan import Plan
from bench.results import Section, middle

LIMITS = {"pelagos --help": 0.3, "pelagos status": 0.6}
"""Goals in seconds of wall time."""
NOT_RUNNING = 3
_BARE, _LIBRARIES = "the interpreter alone", "import of typer and rich"


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    python = plan.python("control-plane")
    pelagos = python.with_name("pelagos")
    environment = os.environ | {"PELAGOS_HOME": str(plan.folder / "home")}
    ways = {
        _BARE: ([python, "-c", "pass"], 0),
        _LIBRARIES: ([python, "-c", "import typer, typer.rich_utils"], 0),
        "pelagos --help": ([pelagos, "--help"], 0),
        "pelagos status": ([pelagos, "status"], NOT_RUNNING),
    }
    candidates = {
        name: partial(measuring.run, command, plan.log("commands"), environment, ends_with=code)
        for name, (command, code) in ways.items()
    }
    for once in candidates.values():
        once()  # compiles bytecode, and fills the page cache
    found: dict[str, list[Usage]] = measuring.alternate(candidates, plan.size(15, 3), plan.say)
    cpu = {name: [usage.cpu for usage in usages] for name, usages in found.items()}
    return Section(
        title="Commands",
        reading=plan.reading(limits=", ".join(f"{limit} s for `{name}`" for name, limit in LIMITS.items())),
        columns=["", "CPU ms", "ratio to the interpreter", "ratio to the libraries", "ratio to the goal", "wall ms"],
        rows=[
            [
                name,
                [seconds * 1000 for seconds in cpu[name]],
                middle(cpu[name]) / middle(cpu[_BARE]),
                middle(cpu[name]) / middle(cpu[_LIBRARIES]),
                [seconds / LIMITS[name] for seconds in cpu[name]] if name in LIMITS else None,
                [usage.wall * 1000 for usage in usages],
            ]
            for name, usages in found.items()
        ],
        details={name: [vars(usage) for usage in usages] for name, usages in found.items()},
    )
