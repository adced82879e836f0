"""Calls one step of the pipelines as its component does. Started by training.py.

Run with the interpreter of the environment ``pipelines``: ``call_step.py STEP ARGUMENTS [FUNCTION FILE]``. ARGUMENTS is a JSON
file; the seconds that FUNCTION of the step's module took are written to FILE.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any


def time_calls(module: ModuleType, function: str, file: Path) -> None:
    """Wrap the function so that its seconds are written to ``file``."""
    original = getattr(module, function)

    def timed(*arguments: Any) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        try:
            return original(*arguments)
        finally:
            seconds = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
            file.write_text(json.dumps(seconds), encoding="utf-8")

    setattr(module, function, timed)


def main() -> None:
    """Call the step."""
    name, arguments, *rest = sys.argv[1:]
    module = importlib.import_module(f"pelagos_pipelines.steps.{name}")
    if rest:
        time_calls(module, rest[0], Path(rest[1]))
    getattr(module, name)(**json.loads(Path(arguments).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
