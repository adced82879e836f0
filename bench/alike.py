"""How many planted copies the preparation finds, how many false pairs it reports, and the cost of both. Called by run.py."""

from __future__ import annotations

from typing import Any

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    sizes = [plan.size(full, quick) for full, quick in ((1_000, 600), (4_000, 1_200), (16_000, 2_400))]
    command = [plan.python("pipelines"), plan.program("find_copies"), plan.data / "samples", *sizes]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    found: dict[str, Any] = measuring.printed(command, one_thread)
    return Section(
        title="Near duplicates",
        reading=plan.reading(crops=found["crops"]),
        columns=["", "looks, distance 2", "looks, distance 4", "looks, distance 6", "hashes, 4 bits"],
        rows=[*_told(found), *_costs(found)],
        details={"found": found},
    )


def _told(found: dict[str, Any]) -> list[list[Cell]]:
    ways = ("2", "4", "6", "hashes")
    copies = [[f"found: {name}", *(counts[way] for way in ways)] for name, counts in found["found"].items()]
    apart = [[f"false pairs of {name}", *(counts[way] for way in ways)] for name, counts in found["apart"].items()]
    return copies + apart


def _costs(found: dict[str, Any]) -> list[list[Cell]]:
    """Rows of costs in microseconds per image."""
    hashing = found["hashing"]
    rows: list[list[Cell]] = [["CPU µs per image, hashing", None, *_each(hashing, 1), hashing["hashes"] * 1e6]]
    for size, seconds in found["searches"].items():
        once = seconds["hashes"] / int(size) * 1e6
        rows.append([f"CPU µs per image, search of {size}", None, *_each(seconds, int(size)), once])
        both = [seconds[way] / int(size) + hashing[way] for way in ("looks", "hashes")]
        rows.append([f"both, ratio, {size}", None, both[0] / both[1], None, 1])
    return rows


def _each(seconds: dict[str, float], count: int) -> list[Cell]:
    return [seconds["looks"] / count * 1e6, None]
