"""Distinguishes classes with the same name in a label tree, such as ``sp. 1`` of two genera, by the labels above them.

Tools with label trees only show the last name of a label. Called by drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

SEPARATOR = ">"


def names(paths: Mapping[str, Set[str]]) -> dict[tuple[str, str], str]:
    """New names for labels that share one, by name and whole path: as much of the path's end as makes them distinct."""
    found: dict[tuple[str, str], str] = {}
    for name, places in paths.items():
        if len(places) < 2:
            continue
        parts = {place: [part.strip() for part in place.split(SEPARATOR)] for place in places}
        depth = 1
        while len(ends := {place: tuple(parts[place][-depth:]) for place in places}) > len(set(ends.values())):
            depth += 1
            if depth > max(map(len, parts.values())):
                break
        found |= {(name, place): " > ".join(end) for place, end in ends.items()}
    return found
