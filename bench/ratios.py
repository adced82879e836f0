"""Selects the ratios in the results that must not get worse, with their better direction and the samples that give their scatter.

A ratio relates a figure to a peer or limit that was measured in the same run, so it can be compared across machines.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Better(enum.Enum):
    """The direction in which a ratio improves."""

    LESS = "less"
    MORE = "more"


@dataclass(frozen=True)
class Judged:
    """A column of ratios, and the rows in which it is judged.

    ``rows``: prefixes of row names; empty selects all. ``but``: prefixes of excluded names, such as the peers'.
    ``scatter``: the columns whose samples a single-figure ratio was computed from; empty means the ratio's own samples, if any.
    """

    column: str
    better: Better = Better.LESS
    rows: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    scatter: tuple[str, ...] = ()

    def takes(self, row: str) -> bool:
        """Whether the row with this name is judged."""
        return (not self.rows or row.startswith(self.rows)) and not (self.but and row.startswith(self.but))


def _loops(bare: str) -> tuple[Judged, ...]:
    return (Judged("ratio", scatter=("step train, CPU s", f"{bare}, CPU s")),)


_FLEETS = ("100", "1000", "5000", "10000")
_PER_IMAGE = "images/s, ratio"
JUDGED: dict[str, tuple[Judged, ...]] = {
    "operator": (
        Judged("ratio", but=("Datasets/s",), scatter=("Pelagos", "kopf alone")),
        Judged("ratio", Better.MORE, rows=("Datasets/s",), scatter=("Pelagos", "kopf alone")),
        Judged("ratio to these", but=("Datasets/s",), scatter=("Pelagos", "the same requests")),
        Judged("ratio to these", Better.MORE, rows=("Datasets/s",), scatter=("Pelagos", "the same requests")),
    ),
    "scale": tuple(
        rule
        for fleet in _FLEETS
        for rule in (
            Judged(fleet, Better.MORE, rows=("Datasets/s to Ready, ratio",)),
            Judged(fleet, rows=("seconds from start to having looked at all, ratio",)),
        )
    ),
    "queue": (Judged("median, or all", rows=("seconds until all are Ready, ratio",)),),
    "training": _loops("yolo train"),
    "starting": (Judged("ratio to its framework", scatter=("CPU s",)), Judged("ratio to torch", scatter=("CPU s",))),
    "classifiers": _loops("plain torch"),
    "segmenters": _loops("plain transformers"),
    "serving": (Judged(_PER_IMAGE, Better.MORE, but=("in process",), scatter=("images/s",)),),
    "loading": (
        Judged("ratio to in process", rows=("server",)),
        Judged("ratio of memory", rows=("server",)),
    ),
    "gateway": (Judged(_PER_IMAGE, Better.MORE, scatter=("images/s",)),),
    "preparation": (Judged("CPU, ratio to the limit", but=("read + sha256 + decode",), scatter=("CPU ms per image",)),),
    "refresh": (
        Judged("CPU, ratio to the first", but=("first version",), scatter=("CPU s",)),
        Judged("ratio to the first", but=("first version",)),
    ),
    "conversion": (Judged("CPU, ratio to Pelagos", Better.MORE, but=("pelagos",), scatter=("CPU s",)),),
    "duplicates": (
        Judged("both, ratio to Pelagos", Better.MORE, rows=("imagededup",)),
        Judged("recall", Better.MORE, rows=("pelagos",)),
    ),
    "alike": (Judged("looks, distance 4", rows=("both, ratio",)),),
    "judging": (Judged("ratio to the limit"),),
    "versioning": (
        Judged("ratio of growth to linear"),
        Judged("ratio to the limit of time"),
        Judged("ratio to the limit of memory"),
    ),
    "evaluation": (
        Judged(
            "ratio to hotcoco",
            rows=("5,000 images of 10 objects: Pelagos", "6 images of 3,000 objects: Pelagos"),
            scatter=("CPU seconds",),
        ),
    ),
    "decoding": (Judged("ratio", scatter=("CPU ms per image, in the same process", "in children")),),
    "large": (Judged("ratio of CPU seconds"), Judged("ratio of memory")),
    "views": (
        Judged("times less than a copy", Better.MORE, but=("copy", "links alone"), scatter=("CPU µs per image",)),
    ),
    "tiling": (Judged("ratio of CPU seconds"), Judged("ratio of seconds"), Judged("memory to decoded pixels")),
    "commands": (
        Judged("ratio to the libraries", rows=("pelagos",), scatter=("CPU ms",)),
        Judged("ratio to the interpreter", rows=("pelagos",), scatter=("CPU ms",)),
        Judged("ratio to the goal"),
    ),
    "pods": tuple(Judged(kind, rows=("... of the goal",)) for kind in ("Dataset, s", "TrainingRun, s")),
    "catalogue": (Judged("ratio to the limit"),),
}
"""Judged columns by part; a part that is missing has no ratio."""
