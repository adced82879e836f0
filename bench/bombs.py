"""What hostile images take of the child that decodes them, against the ceilings. Called by run.py."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from bench import measuring
from bench.plan import Plan
from bench.results import Section


def measure(plan: Plan) -> Section:
    """See the module."""
    command = [str(plan.python("pipelines")), str(plan.program("decode_bombs"))]
    environment = os.environ | {"PYTHONPATH": str(plan.root / "tests")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise measuring.MeasurementError(done.stderr[-2000:])
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
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
