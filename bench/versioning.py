"""Queries on versions by number of images: report, difference, excluded files. Called by run.py."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section

LIMIT_SECONDS, LIMIT_BYTES = 60.0, 10**9
_LISTING = """
import sys
from pelagos.cli import version_files
from pelagos.settings import Settings
told = version_files.entries("excluded.jsonl", Settings(), "bench", {"uri": sys.argv[1]}, required="path", absent="")
print(sum(1 for _ in told))
"""


@dataclass(frozen=True)
class Done:
    """Wall and processor seconds, children included, and the peak resident bytes of one process."""

    wall: float
    cpu: float
    memory: int


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    sizes = [plan.size(number, number // 50) for number in (5_000, 25_000, 100_000)]
    found = {number: _observe(plan, number) for number in sizes}
    few, many = sizes[-2:]
    rows: list[list[Cell]] = []
    for what in found[many]:
        each = [found[number][what] for number in sizes]
        growth = (each[-1].cpu / each[-2].cpu) / (many / few)
        most = each[-1]
        rows.append([
            what, *(done.cpu for done in each), growth, most.cpu / LIMIT_SECONDS, most.wall, most.memory / LIMIT_BYTES,
        ])  # fmt: skip
    return Section(
        title="Large versions",
        reading=plan.reading(few=f"{few:,}", many=f"{many:,}", seconds=LIMIT_SECONDS),
        columns=[
            "",
            *(f"{number:,} images, CPU s" for number in sizes),
            "ratio of growth to linear",
            "ratio to the limit of time",
            "wall s of the largest",
            "ratio to the limit of memory",
        ],
        rows=rows,
        details={str(number): {what: asdict(done) for what, done in each.items()} for number, each in found.items()},
    )


def _observe(plan: Plan, number: int) -> dict[str, Done]:
    plan.say(f"{number} images: two versions are written")
    data, folder = plan.python("pipelines"), plan.folder / str(number)
    versions, _ = _run([data, plan.program("write_versions"), number, folder])
    was, now = json.loads(versions)
    comparing = [data, "-m", "pelagos_pipelines.preparation.comparing"]
    ways: dict[str, tuple[list[object], Callable[[str], bool]]] = {
        "difference": (
            [*comparing, was, now],
            lambda told: len(json.loads(told)["images"]["removed"]) == number // 100,
        ),
        "what was left out": (
            [plan.python("control-plane"), "-c", _LISTING, was],
            lambda told: int(told) == number // 10,
        ),
        "report": (
            [data, plan.program("make_report"), number, 320, plan.folder / "report"],
            lambda told: json.loads(told.splitlines()[-1])["page"] > 0,
        ),
    }
    found = {}
    for what, (command, is_right) in ways.items():
        plan.say(f"{number} images: {what}")
        told, found[what] = _run(command)
        if not is_right(told):
            raise measuring.MeasurementError(f"{what} of {number} images is not what it should be: {told[:500]}")
    return found


def _run(command: list[object]) -> tuple[str, Done]:
    began = time.monotonic()
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise measuring.MeasurementError(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return told, Done(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
