"""A refresh with one new image in a hundred, compared with the first version and with an unchanged source. Called by run.py."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import measuring, preparing
from bench.plan import Plan
from bench.results import Cell, Section, middle

SIDE = 320
FIRST, NOTHING, ONE_PERCENT = "first version", "nothing is new", "1 % is new"


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(5000, 500), plan.size(3, 2)
    images, away = plan.folder / "data" / "images", plan.folder / "away"
    drawing = [plan.python("pipelines"), plan.program("draw_images"), images, str(number + number // 100), str(SIDE)]
    measuring.run(drawing, plan.log("draw"))
    files = sorted(images.rglob("*.jpg"))
    late = files[:: len(files) // (number // 100)][: number // 100]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (FIRST, NOTHING, ONE_PERCENT)}
    for repeat in range(repeats):
        store = plan.folder / f"store-{repeat}"
        _move(late, away)
        for name in (FIRST, NOTHING, ONE_PERCENT):
            if name == ONE_PERCENT:
                _move([away / file.name for file in late], *(file.parent for file in late))
            before = _size(store)
            report = plan.folder / f"report-{repeat}-{name.replace(' ', '-').replace('%', 'percent')}"
            once = preparing.work(plan, "prepare", ("images", plan.folder / "data"), store, report)
            found[name].append({**once, "bytes": _size(store) - before})
            plan.say(f"{name}: {once['cpu']:.2f} s of CPU")
        shutil.rmtree(store)
    first = {key: middle([once[key] for once in found[FIRST]]) for key in ("cpu", "wall", "bytes")}
    new = sum(file.stat().st_size for file in late)
    return Section(
        title="Refresh",
        reading=plan.reading(number=number, new=len(late), side=SIDE, kilobytes=new / 1000),
        columns=["", "CPU s", "s, wall", "CPU, ratio to the first", "kB written to the store", "ratio to the first"],
        rows=[_row(name, found[name], first) for name in found],
        details={"number": number, "found": found, "new": new},
    )


def _row(name: str, found: list[dict[str, float]], first: dict[str, float]) -> list[Cell]:
    cpu, wall, size = ([once[key] for once in found] for key in ("cpu", "wall", "bytes"))
    return [
        name,
        cpu,
        wall,
        middle(cpu) / first["cpu"],
        middle(size) / 1000,
        middle(size) / first["bytes"],
    ]


def _move(files: list[Path], *folders: Path) -> None:
    for number, file in enumerate(files):
        folder = folders[number % len(folders)]
        folder.mkdir(exist_ok=True)
        file.rename(folder / file.name)


def _size(store: Path) -> int:
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
