"""Measures Pelagos and writes docs/benchmarks.md and bench/results.json. Run by `make bench`, with the control plane's Python.

Options: ``--only NAME`` (may be repeated) measures one part and keeps the others' results; ``--quick`` takes small
sizes, ends in about three minutes and writes to build/bench.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

# The tests lend their API server.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import (
    alike,
    bombs,
    browsing,
    classifying,
    commands,
    converting,
    decoding,
    evaluating,
    gateway,
    installation,
    judging,
    large,
    machine,
    operators,
    pods,
    preparing,
    queueing,
    refreshing,
    rendering,
    results,
    scale,
    segmenting,
    serving,
    tiling,
    training,
    viewing,
)
from bench.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
MEASUREMENTS = {
    "operator": operators.measure,
    "scale": scale.measure,
    "queue": queueing.measure,
    "training": training.measure,
    "classifiers": classifying.measure,
    "segmenters": segmenting.measure,
    "serving": serving.measure,
    "gateway": gateway.measure,
    "preparation": preparing.measure,
    "refresh": refreshing.measure,
    "conversion": converting.measure,
    "alike": alike.measure,
    "judging": judging.measure,
    "evaluation": evaluating.measure,
    "decoding": decoding.measure,
    "bombs": bombs.measure,
    "large": large.measure,
    "views": viewing.measure,
    "tiling": tiling.measure,
    "installation": installation.measure,
    "commands": commands.measure,
    "pods": pods.measure,
    "catalogue": browsing.measure,
}


def main() -> int:
    """Measure, and write the page anew after each part: what is done is not lost when a later part fails."""
    options = _options()
    into = ROOT / "build" / "bench" if options.quick else None
    page = into / "benchmarks.md" if into else ROOT / "docs" / "benchmarks.md"
    store = into / "results.json" if into else ROOT / "bench" / "results.json"
    before = results.read(store)
    records = dict(before.records) if before is not None else {}
    failed = []
    for name in options.only or MEASUREMENTS:
        try:
            records[name] = _measure(name, quick=options.quick)
        except Exception as error:  # the other parts are worth having
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        found = results.Results(records)
        results.write(store, found)
        page.write_text(rendering.render(found, MEASUREMENTS), encoding="utf-8")
    print(f"{page}\n{store}")
    return 1 if failed else 0


def _measure(name: str, *, quick: bool) -> results.Record:
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pelagos-bench-") as folder:
        section = MEASUREMENTS[name](Plan.make(ROOT, Path(folder), name, quick=quick))
    return results.Record(
        machine=machine.fingerprint(),
        section=section,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        command="bench/run.py --quick" if quick else "bench/run.py",
        load=load,
        seconds=time.monotonic() - began,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure Pelagos.")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS), help="measure this part only")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes to build/bench")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
