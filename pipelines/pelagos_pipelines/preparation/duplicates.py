"""Finds images that show the same: the same pixels, or nearly the same by their looks.

Duplicates matter because a copy in the test split is an exam question that was given away. Called by cleaning. Near duplicates
within ``USUAL`` are always searched for and counted. They are dropped only within the requested ``maxDistance``, because
organisms on a plain background look alike to any coarse measure. bench/alike.py shows what is found at which distance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pelagos_pipelines.preparation.integrity import Inspection

USUAL = 4
"""Among 105 real crops, one pair of different organisms is within this distance, and all but a few copies cut at the edge."""


@dataclass(frozen=True)
class Found:
    """The first image, by path, that each later one repeats. In ``near``, they look alike but are not identical.

    ``alike`` has all earlier images that one looks like. ``near`` leaves out those that are near duplicates themselves, which is
    right for dropping, but too few for finding leakage.
    """

    exact: Mapping[str, str]
    near: Mapping[str, str]
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def first_of(self) -> dict[str, str]:
        """Exact and near duplicates together."""
        return {**self.near, **self.exact}

    @property
    def first_of_chain(self) -> dict[str, str]:
        """Both kinds, each with the first image of its chain: images of which each looks like the next all belong together."""
        first: dict[str, str] = {}
        later = {**{path: (original,) for path, original in self.exact.items()}, **self.alike}
        for path in sorted(later):
            ends = {_end(first, one) for one in (path, *later[path])}
            for end in ends - {min(ends)}:
                first[end] = min(ends)
        return {path: end for path in {*first, *later} if (end := _end(first, path)) != path}


def find(inspections: Mapping[str, Inspection], max_distance: int) -> Found:
    """Compare readable images in order of their paths, so that the result does not depend on the order of listing.

    An image is a near duplicate of the first *kept* one within ``max_distance``, so a slowly changing series of frames keeps one
    frame per step instead of collapsing into its first.
    """
    exact: dict[str, str] = {}
    first: dict[str, str] = {}
    distinct: list[str] = []
    for path in sorted(inspections):
        identity = inspections[path].identity
        if identity in first:
            exact[path] = first[identity]
        else:
            first[identity] = path
            distinct.append(path)
    similar: dict[str, tuple[str, ...]] = {}
    if max_distance > 0:
        from pelagos_pipelines.preparation import alike

        looks = [(path, inspections[path].look) for path in distinct]
        comparable = [(path, look) for path, look in looks if look is not None]
        for index, earlier in sorted(alike.pairs([look for _, look in comparable], max_distance).items()):
            similar[comparable[index][0]] = tuple(comparable[other][0] for other in earlier)
    near: dict[str, str] = {}
    # In order of paths, so that it is known of each earlier image whether it is kept.
    for path, others in similar.items():
        original = next((other for other in others if other not in near), None)
        if original is not None:
            near[path] = original
    return Found({path: near.get(original, original) for path, original in exact.items()}, near, similar)


def among(repeats: Mapping[str, str], left: Iterable[str]) -> dict[str, str]:
    """``repeats`` among the images that are ``left``: if the first of a chain is not left, the next one takes its place."""
    first: dict[str, str] = {}
    # In order of paths, because the first of a chain has the smallest path.
    found = {path: first.setdefault(repeats.get(path, path), path) for path in sorted(left)}
    return {path: one for path, one in found.items() if one != path}


def _end(first: Mapping[str, str], path: str) -> str:
    while path in first:
        path = first[path]
    return path
