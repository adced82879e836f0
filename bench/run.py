"""Measures Pelagos and writes docs/benchmarks.md and bench/results.json. Run by `make bench`, with the control plane's Python.

Options: ``--only NAME`` (may be repeated) measures one part and keeps the others' results; ``--quick`` takes small
sizes, ends in about three minutes and writes to build/bench. ``--check`` leaves the committed files unchanged: it writes to
build/bench/check, and lists the ratios that are worse than the committed ones by more than their spread.

Exit codes: 0; 1 when a part could not be measured or, with ``--check``, when a ratio is worse or was not measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

# The API server is started by modules of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import (
    alike,
    bombs,
    browsing,
    checking,
    classifying,
    commands,
    converting,
    crowding,
    decoding,
    duplicating,
    evaluating,
    gateway,
    installation,
    judging,
    large,
    loading,
    machine,
    operators,
    pods,
    preparing,
    queueing,
    ratios,
    refreshing,
    rendering,
    results,
    scale,
    segmenting,
    serving,
    starting,
    tiling,
    training,
    versioning,
    viewing,
)
from bench.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = ROOT / "bench" / "results.json"
MEASUREMENTS = {
    "operator": operators.measure,
    "scale": scale.measure,
    "crowds": crowding.measure,
    "queue": queueing.measure,
    "training": training.measure,
    "starting": starting.measure,
    "classifiers": classifying.measure,
    "segmenters": segmenting.measure,
    "serving": serving.measure,
    "loading": loading.measure,
    "gateway": gateway.measure,
    "preparation": preparing.measure,
    "refresh": refreshing.measure,
    "conversion": converting.measure,
    "alike": alike.measure,
    "duplicates": duplicating.measure,
    "judging": judging.measure,
    "versioning": versioning.measure,
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
    """Measure, and rewrite the page after each part, so that a later failure does not lose earlier parts."""
    options = _options()
    into = ROOT / "build" / "bench" / ("check" if options.check else "") if options.quick or options.check else None
    page = into / "benchmarks.md" if into else ROOT / "docs" / "benchmarks.md"
    store = into / "results.json" if into else COMMITTED
    before = None if options.check else results.read(store)
    records = dict(before.records) if before is not None else {}
    parts, failed = options.only or list(MEASUREMENTS), []
    for name in parts:
        try:
            records[name] = _measure(name, quick=options.quick)
        except Exception as error:  # the other parts are still useful
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        found = results.Results(records)
        results.write(store, found)
        page.write_text(rendering.render(found, MEASUREMENTS), encoding="utf-8")
    print(f"{page}\n{store}")
    return 1 if failed or (options.check and not _holds(records, parts)) else 0


def _holds(records: Mapping[str, results.Record], parts: Sequence[str]) -> bool:
    """Whether no ratio is worse than the committed one or missing; prints all that differ."""
    committed = results.read(COMMITTED)
    before = committed.records if committed is not None else {}
    found = checking.compared(before, records, ratios.JUDGED, parts)
    print(checking.told(found))
    return not any(each.verdict in checking.FAILURES for each in found)


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
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="small sizes; writes to build/bench")
    how.add_argument(
        "--check", action="store_true", help="compare with the committed ratios; writes to build/bench/check"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
