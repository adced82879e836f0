"""Classes that have one name and stand in several places of a tree, such as ``sp. 1`` of two genera: told apart by what is above.

Tools with trees of labels show a label by its last name alone. Called by drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

SEPARATOR = ">"


def names(paths: Mapping[str, Set[str]]) -> dict[tuple[str, str], str]:
    """The names of those that share theirs, by the name and the whole path: as much of the path's end as tells them apart."""
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
