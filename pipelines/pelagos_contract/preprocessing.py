"""What is done to the pixels of every image before a model sees them: declared with the dataset, kept by every package."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pelagos_contract.base import Strict

Color = Literal["GrayWorld", "Clahe"]
Normalization = Literal["DatasetStatistics"]


class Statistics(Strict):
    """Of the images of the training split, after the correction of their colours: red, green and blue, in [0, 1]."""

    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    deviation: Annotated[list[float], Field(min_length=3, max_length=3)]


class ToldStatistics(Strict):
    """The same in a status, which holds no floats."""

    mean: Annotated[list[str], Field(description="Of red, green and blue, in 0 to 1.")]
    deviation: Annotated[list[str], Field(description="Standard deviation, likewise.")]

    @classmethod
    def of(cls, found: Statistics) -> ToldStatistics:
        """In at most six digits."""
        return cls(mean=[f"{one:g}" for one in found.mean], deviation=[f"{one:g}" for one in found.deviation])


class Preprocessing(Strict):
    """A part of the recipe of a version, whose images stay as they are; training, evaluation and serving all do it alike."""

    color: Annotated[
        Color | None,
        Field(
            description="GrayWorld: the cast of water is taken out, by scaling red, green and blue to one mean. Clahe: contrast "
            "is raised within parts of the image. Training, evaluation and serving do it alike. Default: neither."
        ),
    ] = None
    normalization: Annotated[
        Normalization | None,
        Field(
            description="DatasetStatistics: what networks are given has the mean 0 and the standard deviation 1 in the training "
            "split, channel by channel; version and model have both. Default: the usual scale of the family."
        ),
    ] = None
