"""Tiling a scan of 352 megapixels: memory compared with its decoded pixels, and time with one full decode. Called by run.py."""

from __future__ import annotations

import shutil

from bench.large import Done, do
from bench.plan import Plan
from bench.results import Cell, Section

_MEBIBYTE = 2**20
_SIZE = (22_000, 16_000)
_KINDS = {"png": "PNG", "tif": "TIFF, deflate in strips"}


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    width, height = (side // plan.size(1, 4) for side in _SIZE)
    pixels = width * height

    def run(what: str, kind: str) -> Done:
        folder = plan.folder / kind
        folder.mkdir(exist_ok=True)
        (folder / ".memory").unlink(missing_ok=True)
        return do(plan, what, folder / f"scan.{kind}", width, height, program="tile_scan")

    rest = run("nothing", "png").memory
    rows: list[list[Cell]] = []
    details: dict[str, object] = {}
    for kind, name in _KINDS.items():
        run("draw", kind)
        found: dict[str, list[Done]] = {"decode": [], "cut": []}
        for number in range(plan.size(2, 1)):
            for what, done in found.items():
                plan.say(f"{what} of a {name}, {number + 1}")
                done.append(run(what, kind))
        whole, cut = found["decode"], found["cut"]
        size = (plan.folder / kind / f"scan.{kind}").stat().st_size
        rows.append(
            [
                f"{name}, {size / 1e6:.0f} MB",
                [each.cpu for each in whole],
                [each.cpu for each in cut],
                [one.cpu / other.cpu for one, other in zip(cut, whole, strict=True)],
                [one.wall / other.wall for one, other in zip(cut, whole, strict=True)],
                [(each.memory - rest) / _MEBIBYTE for each in cut],
                [(each.memory - rest) / pixels for each in cut],
            ]
        )
        details[kind] = {what: [vars(each) for each in done] for what, done in found.items()}
        shutil.rmtree(plan.folder / kind)
    return Section(
        title="Tiles of a large image",
        reading=plan.reading(width=f"{width:,}", height=f"{height:,}", pixels=pixels / 1e6, rest=rest / _MEBIBYTE),
        columns=[
            "",
            "decode, CPU s",
            "look and cut, CPU s",
            "ratio of CPU seconds",
            "ratio of seconds",
            "memory, MiB",
            "memory to decoded pixels",
        ],
        rows=rows,
        details=details | {"rest": rest},
    )
