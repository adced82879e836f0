"""What images of a source measure, as the status of a Dataset shows it: what thresholds of cleaning are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict


def shown(value: float) -> str:
    """A measured value as a text: a status holds no floats. At most six digits."""
    return f"{value:g}"


class Measured(Strict):
    """One measure over all images that can be decoded."""

    # Shown by control planes that know fewer measures, too.
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
        """Five values, in ascending order."""
        least, low, median, high, most = map(shown, picked)
        return cls(measure=measure, least=least, low=low, median=median, high=high, most=most)
