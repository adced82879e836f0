"""Warnings about a version's slices, by the bounds in spec.bias. Like gates, the bounds are not part of the version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pelagos.api.judgement import BiasBounds

USUAL_SHARE = "0.05"
MOST_NAMED = 5


def warnings(bounds: BiasBounds | None, slices: Sequence[Mapping[str, Any]]) -> list[str]:
    """A message for each bound that does not hold; none if spec.bias is not set. ``slices`` are those of the result."""
    if bounds is None:
        return []
    known = [str(one["name"]) for one in slices]
    wanted = None if bounds.slices is None else {_plain(name) for name in bounds.slices}
    said = [
        f'spec.bias.slices: this version has no slice "{name}"; it has {", ".join(known) or "none"}'
        for name in bounds.slices or ()
        if _plain(name) not in map(_plain, known)
    ]
    share = Decimal(bounds.min_share or USUAL_SHARE)
    for one in slices:
        if wanted is None or _plain(one["name"]) in wanted:
            said += _said(one, share)
    return said


def _plain(name: object) -> str:
    """The name without spaces and case, so that ``depthBand``, as specs spell it, matches the slice ``depth band``."""
    return "".join(str(name).split()).lower()


def _said(one: Mapping[str, Any], share: Decimal) -> Iterator[str]:
    name, images, smallest = one["name"], int(one["images"]), one.get("smallest") or []
    few = [entry for entry in smallest if int(entry["images"]) < share * images]
    if few:
        told = ", ".join(f"{entry['value']} ({entry['images']})" for entry in few[:MOST_NAMED])
        # A result lists only the smallest values, so there may be more that are too small.
        more = "at least " if len(few) == len(smallest) < int(one["values"]) else ""
        yield (
            f"spec.bias.minShare: {more}{len(few)} of {one['values']} values of {name} have less than {share} of the {images}"
            f" images: {told}; a model may fail there unnoticed: add images with these values"
        )
    if one["missing"]:
        yield (
            f"spec.bias: {one['missing']} of {one['combinations']} combinations of class and {name} have no image; see the "
            "version's report"
        )
    if one["unknown"]:
        yield f"spec.bias: {name} is not known for {one['unknown']} of {images + int(one['unknown'])} images"
