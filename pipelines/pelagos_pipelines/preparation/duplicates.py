"""Images that show the same: the same pixels, or nearly the same by their looks.

Duplicates matter because a copy in the test split is an exam question that was given away. Called by cleaning. Near duplicates
are always looked for, within ``USUAL``, and counted; dropped they are only within the ``maxDistance`` that somebody asks for,
because organisms on a plain background look alike to any coarse measure. bench/alike.py shows what is found at which distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pelagos_pipelines.preparation.integrity import Inspection

USUAL = 4
"""Of 105 real crops one pair of different organisms is within it, and all but a few copies that were cut at the edge."""


@dataclass(frozen=True)
class Found:
    """The first image, by path, that each later one repeats. ``near`` are alike but not the same."""

    exact: Mapping[str, str]
    near: Mapping[str, str]

    @property
    def first_of(self) -> dict[str, str]:
        """Both kinds."""
        return {**self.near, **self.exact}


def find(inspections: Mapping[str, Inspection], max_distance: int) -> Found:
    """Compare readable images in the order of their paths; the answer does not depend on the order in which files were listed.

    An image is a near duplicate of the first *kept* one within ``max_distance``, so a slowly changing series of frames keeps one
    frame per step instead of collapsing into its first.
    """
    exact: dict[str, str] = {}
    first: dict[str, str] = {}
    distinct: list[str] = []
    for path in sorted(inspections):
        identity = inspections[path].pixels
        if identity in first:
            exact[path] = first[identity]
        else:
            first[identity] = path
            distinct.append(path)
    near = _near(distinct, inspections, max_distance) if max_distance > 0 else {}
    return Found({path: near.get(original, original) for path, original in exact.items()}, near)


def _near(paths: Sequence[str], inspections: Mapping[str, Inspection], max_distance: int) -> dict[str, str]:
    from pelagos_pipelines.preparation import alike

    looks = [(path, inspections[path].look) for path in paths]
    comparable = [(path, look) for path, look in looks if look is not None]
    earlier = alike.pairs([look for _, look in comparable], max_distance)
    near: dict[str, str] = {}
    for index, (path, _) in enumerate(comparable):
        original = next(
            (comparable[other][0] for other in earlier.get(index, ()) if comparable[other][0] not in near), None
        )
        if original is not None:
            near[path] = original
    return near
