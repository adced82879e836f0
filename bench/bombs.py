"""Resources that hostile images use in the child that decodes them, compared with its ceilings. Called by run.py."""

from __future__ import annotations

from typing import Any

from bench import measuring
from bench.plan import Plan
from bench.results import Section


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
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
