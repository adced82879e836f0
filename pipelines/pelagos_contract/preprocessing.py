"""Preprocessing of every image before a model sees it: declared with the dataset, recorded in every package."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pelagos_contract.base import Strict

Color = Literal["GrayWorld", "Clahe"]
Normalization = Literal["DatasetStatistics"]


Share = Annotated[float, Field(ge=0, le=1)]


class Statistics(Strict):
    """Mean and deviation of the training split after colour correction, for red, green and blue, in [0, 1]."""

    mean: Annotated[list[Share], Field(min_length=3, max_length=3)]
    deviation: Annotated[list[Share], Field(min_length=3, max_length=3)]


class ToldStatistics(Strict):
    """The same statistics in a status, which cannot contain floats."""

    mean: Annotated[list[str], Field(description="Of red, green and blue, from 0 to 1.")]
    deviation: Annotated[list[str], Field(description="Standard deviation, likewise.")]

    @classmethod
    def of(cls, found: Statistics) -> ToldStatistics:
        """The statistics as text with at most six digits."""
        return cls(mean=[f"{one:g}" for one in found.mean], deviation=[f"{one:g}" for one in found.deviation])


LEAST_SHARE = 50
"""Default of Tile.min_share: the percentage of an object that a tile must show."""


class Tile(Strict):
    """How images that are larger than a tile are cut into tiles, at preparation and by those who ask a model later."""

    size: Annotated[
        int, Field(ge=128, le=4096, description="Side of a tile in pixels. Images that fit in one stay whole.")
    ]
    overlap: Annotated[
        int,
        Field(
            ge=0,
            le=2048,
            description="Pixels that neighbours have in common, at most half of size: as many as the objects have that should "
            "be whole in one of them.",
        ),
    ]
    min_share: Annotated[
        int | None,
        Field(
            ge=1,
            le=100,
            description="Percent of an object that a tile must show to include it; the object is cut at the tile's edge. "
            "Default: 50, and any part for SemanticSegmentation and PanopticSegmentation.",
        ),
    ] = None
    empty: Annotated[
        Literal["Keep", "Drop"] | None,
        Field(
            description="Tiles without annotations. Keep: they are backgrounds, as images without annotations are. Drop: they "
            "are left out, and counted. Default: Keep."
        ),
    ] = None

    @field_validator("empty")
    @classmethod
    def _of_default(cls, empty: Literal["Keep", "Drop"] | None) -> Literal["Keep", "Drop"] | None:
        """An explicit default has the same digest as an absent value."""
        return None if empty == "Keep" else empty


class Resize(Strict):
    """How images are reduced, at preparation and on their way to a model."""

    longest: Annotated[
        int,
        Field(
            ge=64,
            le=16384,
            description="Longest side of an image in pixels. Larger images are reduced to it, none is enlarged.",
        ),
    ]


class Preprocessing(Strict):
    """A part of the recipe of a version. Colours and values are changed on the way to a model, by training, evaluation and
    serving alike; images are reduced, or cut into tiles, once, by the preparation.
    """

    color: Annotated[
        Color | None,
        Field(
            description="GrayWorld: the colour cast of water is removed, by scaling red, green and blue to one mean. Clahe: "
            "contrast is raised within parts of the image. Training, evaluation and serving do the same. Default: neither."
        ),
    ] = None
    normalization: Annotated[
        Normalization | None,
        Field(
            description="DatasetStatistics: the input of networks has the mean 0 and the standard deviation 1 in the training "
            "split, channel by channel; version and model have both. Default: the usual scale of the family."
        ),
    ] = None
    resize: Annotated[
        Resize | None,
        Field(
            description="Large images are reduced, with their annotations, and stored like that in the version; a server does "
            "the same. Default: images keep their size."
        ),
    ] = None
    tile: Annotated[
        Tile | None,
        Field(
            description="Images larger than a tile are cut into tiles, which are the images of the version; all of one image are "
            "in one split. Images of up to PELAGOS_MAX_SCAN_MEGAPIXELS are then read. Default: images stay whole."
        ),
    ] = None
