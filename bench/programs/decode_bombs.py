"""Measures the resources that each hostile image uses in the child that decodes it, with the usual ceilings. Started by bombs.py.

Run with the interpreter of the environment ``pipelines`` and the folder ``tests`` on PYTHONPATH. Prints JSON by name.
"""

from __future__ import annotations

import json

import untrusted_images
from child_memory import Watched
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings


def main() -> None:
    """Measure, and print the result as JSON."""
    found = {}
    for name, make in (untrusted_images.BOMBS | untrusted_images.ODD).items():
        content = make()
        inspector = integrity.Inspector(Ceilings())
        inspector.version()
        with Watched(inspector.pool) as watched:
            problem = inspector.inspect(content, name).problem
        inspector.pool.close()
        found[name] = {
            "bytes": len(content),
            "peak": watched.peak() / MEBIBYTE,
            "cpu": watched.seconds(),
            "problem": problem or "",
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
