"""What a preparation reports about a version: slices that are small or lack classes, and leakage between splits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict

FOLDER = "report"
"""Folder for people's reports, in the folder of a version."""
PAGE = f"{FOLDER}/report.html"
"""Path of the report page, in the folder of its version."""
PAGE_BEGINS = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'\">"
)
"""First bytes of every page of ours. The policy forbids browsers to run or fetch anything, whatever follows."""
LARGEST_PAGE = 64 * 1024**2
"""Most bytes of the page."""

CLASSES, SPLITS_OF_CLASSES, POSITIONS, SIZES = "classes.png", "splits.png", "positions.png", "sizes.png"
"""Figures beside the page; each exists only if there is something to show."""
SLICES = ("group", "folder", "site", "deployment", "platform", "month", "hour", "depth band", "image size")
"""Fields by which images can be divided into slices."""


def slice_picture(name: str) -> str:
    """File name of the figure with the classes in each value of a slice."""
    return f"slice-{name.replace(' ', '-')}.png"


PICTURES = (CLASSES, SPLITS_OF_CLASSES, POSITIONS, SIZES, *map(slice_picture, SLICES))
"""All figures that a report can have beside it, except samples."""


class ValueCount(Strict):
    """One value of a slice."""

    value: Annotated[str, Field(description="The value, such as a site.")]
    images: Annotated[int, Field(description="Images that have it.")]


class SliceFigures(Strict):
    """One way to tell images apart: by group, site, hour and so on."""

    name: Annotated[str, Field(description="What divides the images.")]
    values: Annotated[int, Field(description="Different values.")]
    images: Annotated[int, Field(description="Images whose value is known.")]
    unknown: Annotated[int, Field(description="Images for which it is unknown.")]
    effective: Annotated[
        str,
        Field(description="This many equally large values would be as diverse (Hill's number of order 2, Simpson)."),
    ]
    missing: Annotated[int, Field(description="Combinations of class and value without an image.")]
    combinations: Annotated[int, Field(description="All combinations.")]
    association: Annotated[
        str | None, Field(description="How far classes depend on it, from 0 to 1 (Cramer's V, corrected for bias).")
    ] = None
    probability: Annotated[
        str | None, Field(description="How often a dependence as strong arises by chance (permutation test).")
    ] = None
    smallest: Annotated[list[ValueCount], Field(description="The smallest values, at most 10.")] = []


class Link(StrEnum):
    """By what images of two splits belong together."""

    SHARED_GROUP = "SharedGroup"
    DUPLICATE = "Duplicate"
    NEAR_DUPLICATE = "NearDuplicate"
    CLOSE_IN_TIME = "CloseInTime"
    ADJACENT_NAME = "AdjacentName"


HINTS = frozenset({Link.CLOSE_IN_TIME, Link.ADJACENT_NAME})
"""Links that are only hints and do not count as leakage: images taken together can show different things."""


class Leaked(Strict):
    """Images of one split that belong together with some of another."""

    # Not the enumeration, so that older control planes, which know fewer links, can show it.
    kind: Annotated[
        str,
        Field(
            description="SharedGroup: they belong to one group. Duplicate: they have the same pixels, or are alike and kept by "
            "cleaning.duplicates. NearDuplicate: they are alike, within a distance of 4. CloseInTime: they were taken within a "
            "minute at one site, by spec.capture. AdjacentName: their names differ only in consecutive numbers."
        ),
    ]
    split: Annotated[str, Field(description="The split whose images are counted.")]
    other: Annotated[str, Field(description="The split with the others.")]
    images: Annotated[int, Field(description="Images of split that have at least one in other.")]
    groups: Annotated[int | None, Field(description="For SharedGroup: groups that are in both.")] = None


class Leakage(Strict):
    """How well the splits of a version are separated: the leakage between them."""

    evaluated: Annotated[int, Field(description="Images of the splits validation and test.")]
    leaked: Annotated[
        int,
        Field(
            description="Of these, images that share a group with, repeat, or look like one of train, or, in test, of validation."
        ),
    ]
    shared_groups: Annotated[int, Field(description="Groups that are in more than one split.")]
    found: Annotated[list[Leaked], Field(description="What links images of two splits, and how many images.")] = []
    neighbors: Annotated[
        str | None,
        Field(
            description="How often two images with adjacent names look more alike than two others: 0.5 is chance; near 1 they "
            "are frames of recordings."
        ),
    ] = None
