"""Distributions of image measures of a source, as shown in the status of a Dataset to choose cleaning thresholds by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict


def shown(value: float) -> str:
    """A measured value as text with at most six digits, since a status holds no floats."""
    return f"{value:g}"


class Measured(Strict):
    """One measure over all images that can be decoded."""

    # Not the enumeration, so that older control planes, which know fewer measures, can show it.
    measure: Annotated[
        str,
        Field(
            description="sharpness: variance of the Laplacian of the grey levels. brightness, contrast: mean and standard "
            "deviation of the grey levels, 0 to 255. clipped: percent of pixels that are black or white. aspect: longer side by "
            "shorter side."
        ),
    ]
    least: Annotated[str, Field(description="Of the image with the least.")]
    low: Annotated[str, Field(description="1 percent of the images have no more.")]
    median: Annotated[str, Field(description="One half of the images has no more.")]
    high: Annotated[str, Field(description="1 percent of the images have no less.")]
    most: Annotated[str, Field(description="Of the image with the most.")]

    @classmethod
    def of(cls, measure: str, picked: Sequence[float]) -> Measured:
        """From five values in ascending order: least, low, median, high, most."""
        least, low, median, high, most = map(shown, picked)
        return cls(measure=measure, least=least, low=low, median=median, high=high, most=most)
