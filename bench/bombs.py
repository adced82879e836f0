"""What hostile images take of the child that decodes them, against the ceilings. Called by run.py."""

from __future__ import annotations

from typing import Any

from bench import measuring
from bench.plan import Plan
from bench.results import Section


def measure(plan: Plan) -> Section:
    """See the module."""
    command = [plan.python("pipelines"), plan.program("decode_bombs")]
    found: dict[str, dict[str, Any]] = measuring.printed(command, {"PYTHONPATH": str(plan.root / "tests")})
    return Section(
        title="Hostile images",
        reading=plan.reading(),
        columns=["", "file, kB", "peak memory of the child, MiB", "CPU s", "what became of it"],
        rows=[
            [name, item["bytes"] / 1000, item["peak"], item["cpu"], item["problem"] or "decoded"]
            for name, item in found.items()
        ],
        details={"found": found},
    )
