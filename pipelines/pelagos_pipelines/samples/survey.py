"""A survey with sites and hauls: crops of composed frames in folders of classes, and a table that says where each was taken.

Each organism was caught in one haul and is in several of its images, as one animal, colony or dive is in a real survey:
the dependence that a random split hides, and that slices, groups and leaving out one site show.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pelagos_pipelines.samples import frames
from pelagos_pipelines.samples.frames import Frame, Placed
from pelagos_pipelines.samples.organisms import Organism

SITES, HAULS, IMAGES = 5, 5, 32
"""The number of sites, hauls per site, and images per haul."""
TABLE = "survey.csv"
MARGIN = 6
"""Pixels of water around an organism."""
SEED = 0


def write(folder: Path, cut: Sequence[Organism], images: int = IMAGES, sites: int = SITES) -> int:
    """Compose and write ``images`` images of each haul. Returns the total number of images."""
    generator = np.random.default_rng(SEED)
    rows = []
    for haul, members in enumerate(_hauls(cut, sites * HAULS, generator)):
        for number, (frame, placed) in enumerate(_organisms(members, images, generator)):
            left, top, width, height = placed.box
            rows_seen = slice(max(0, top - MARGIN), top + height + MARGIN)
            crop = frame.pixels[rows_seen, max(0, left - MARGIN) : left + width + MARGIN]
            path = f"{placed.label}/haul-{haul + 1:02d}-{number:03d}.png"
            (folder / placed.label).mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(cv2.imencode(".png", crop)[1].tobytes())
            rows.append((path, f"site-{haul % sites + 1}", f"haul-{haul + 1:02d}", placed.name))
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([("path", "site", "deployment", "organism"), *rows])
    return len(rows)


def _hauls(cut: Sequence[Organism], count: int, generator: np.random.Generator) -> list[list[Organism]]:
    """Assign each organism to one haul; classes are spread over the hauls as evenly as possible."""
    divided: list[list[Organism]] = [[] for _ in range(count)]
    order = [cut[place] for place in generator.permutation(len(cut))]
    for place, organism in enumerate(sorted(order, key=lambda each: each.label)):
        divided[place % len(divided)].append(organism)
    return divided


def _organisms(
    members: Sequence[Organism], count: int, generator: np.random.Generator
) -> Iterator[tuple[Frame, Placed]]:
    """``count`` organisms with the frames that they are in. Each of the several organisms of a frame becomes an image."""
    found = 0
    for frame in frames.compose(members, count, generator, turned=True):
        for placed in frame.placed:
            yield frame, placed
            found += 1
            if found == count:
                return
