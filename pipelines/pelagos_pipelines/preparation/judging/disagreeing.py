"""Images that look alike and show other classes: one of the two labels is likely wrong. Identical ones are contradictions.py's.

Cleaning warns of them by name; here they are found once more for their pictures, by their places among the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pelagos_pipelines.annotations.model import ImageRecord

MOST = 24
"""Pairs of which there are pictures."""
_NAMED = 3
"""Classes of an image that are told."""


@dataclass(frozen=True)
class Pair:
    """Two images, as their places in the list, with the classes of each in words."""

    first: int
    second: int
    told: tuple[str, str]


def pairs(images: Sequence[ImageRecord], alike: Mapping[str, Sequence[str]]) -> list[Pair]:
    """Each image beside the first of those that it looks like and whose classes are others. Sorted by path.

    ``alike`` has by path the earlier images that one looks like; what is not among the images is left out.
    """
    places = {image.path: place for place, image in enumerate(images)}
    found = []
    for path in sorted(alike.keys() & places.keys()):
        one = images[places[path]]
        others = (places[other] for other in alike[path] if other in places)
        differing = next((place for place in others if images[place].labels != one.labels), None)
        if differing is not None:
            found.append(Pair(places[path], differing, (_told(one), _told(images[differing]))))
    return found


def _told(image: ImageRecord) -> str:
    labels = sorted(image.labels)
    rest = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return (", ".join(labels[:_NAMED]) or "nothing") + rest
