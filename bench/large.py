"""Time and memory of large sources by number of images, and of a large file. Called by run.py; `do` also by viewing.py."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section

_MEBIBYTE = 2**20
_PAUSE = 0.1
_FEW, _MANY = 25_000, 100_000
_COCO = 150 * 10**6


@dataclass(frozen=True)
class Done:
    """Wall and processor time of a task in seconds, children included, and the peak memory of its processes together.

    Memory is in bytes, with shared pages counted once.
    """

    wall: float
    cpu: float
    memory: int


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    few, many = plan.size(_FEW, _FEW // 50), plan.size(_MANY, _MANY // 50)
    rest = do(plan, "nothing").memory
    found: dict[str, Done] = {}
    for number in (few, many):
        data = plan.folder / f"data-{number}"
        do(plan, "draw", number, data / "crops")
        for kind, path in (("folder", "crops"), ("archive", "crops.tar")):
            plan.say(f"{number} images from {kind}")
            store, report = (plan.folder / f"{what}-{kind}-{number}" for what in ("store", "report"))
            found[f"{kind} {number}"] = do(plan, "prepare", path, data, store, report)
    size = plan.size(_COCO, _COCO // 10)
    do(plan, "coco", size, plan.folder / "coco")
    plan.say("a large COCO file")
    found["coco"] = do(plan, "read", plan.folder / "coco")
    rows = [_growth(kind, few, many, found, rest) for kind in ("folder", "archive")]
    rows.append(_large(f"COCO file of {size / 1e6:.0f} MB", found["coco"], size, rest))
    return Section(
        title="Large sources",
        reading=plan.reading(few=f"{few:,}", many=f"{many:,}", rest=rest / _MEBIBYTE),
        columns=["", "seconds", "CPU seconds", "ratio of CPU seconds", "peak memory, MiB", "ratio of memory"],
        rows=rows,
        details={name: vars(done) for name, done in found.items()} | {"rest": rest},
    )


def _growth(kind: str, few: int, many: int, found: dict[str, Done], rest: int) -> list[Cell]:
    """A row with the ratios of the large source's figures to the small one's."""
    small, large = found[f"{kind} {few}"], found[f"{kind} {many}"]
    memory = (large.memory - rest) / max(small.memory - rest, 1)
    what = f"{many:,} images from {kind}"
    return [what, large.wall, large.cpu, large.cpu / small.cpu, large.memory / _MEBIBYTE, memory]


def _large(what: str, done: Done, size: int, rest: int) -> list[Cell]:
    """A row with the cost of reading a file, without the memory of the libraries, and its ratio to the file's size."""
    return [what, done.wall, done.cpu, None, (done.memory - rest) / _MEBIBYTE, (done.memory - rest) / size]


def do(plan: Plan, *arguments: object, program: str = "large_sources") -> Done:
    """Run a program that prints its own times as JSON, and observe its memory."""
    command = [str(part) for part in (plan.python("pipelines"), plan.program(program), *arguments)]
    with plan.log("large").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    ended = threading.Event()
    peak, children = 0, 0.0

    def watch() -> None:
        nonlocal peak, children
        while not ended.wait(_PAUSE):
            peak = max(peak, sum(map(proportional, measuring.tree(process.pid))))
            both, alone = measuring.cpu_seconds(process.pid), measuring.cpu_seconds(process.pid, alone=True)
            children = max(children, both - alone)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        told, _ = process.communicate()
    finally:
        ended.set()
        watching.join()
    if process.returncode:
        said = plan.log("large").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise measuring.MeasurementError(f"{' '.join(command)} failed:\n{said}")
    found = json.loads(told.splitlines()[-1])
    return Done(found["wall"], found["cpu"] + (0.0 if found.get("children") else children), peak)


def proportional(pid: int) -> int:
    """Proportional set size of a process in bytes: shared pages count in part. 0 when the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
