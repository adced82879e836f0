"""Random augmentation of training images, declared with the dataset, so that it is the same for all models of a version."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict

SHEET = "report/augmentation.png"
"""Path of a sheet with examples of the declared augmentation, in the folder of its version."""
LARGEST_SHEET = 8 * 1024**2
"""Most bytes of the sheet."""
SHEET_BEGINS = b"\x89PNG\r\n\x1a\n"


class ColorAugmentation(Strict):
    """Largest changes of colours, in both directions."""

    hue: Annotated[
        int | None, Field(ge=0, le=50, description="Percent of the circle of hues; 50 covers all of it.")
    ] = None
    saturation: Annotated[int | None, Field(ge=0, le=100, description="Percent.")] = None
    brightness: Annotated[int | None, Field(ge=0, le=100, description="Percent.")] = None
    contrast: Annotated[int | None, Field(ge=0, le=100, description="Percent.")] = None


class Augmentation(Strict):
    """Random changes to training images, drawn again for each image and epoch. Fields that are not set have the family's
    defaults; 0 and false disable a change."""

    flip_horizontal: Annotated[bool | None, Field(description="Half of the images are mirrored, left and right.")] = (
        None
    )
    flip_vertical: Annotated[
        bool | None,
        Field(description="Half of the images are mirrored, up and down: for images that have no upright direction."),
    ] = None
    rotate: Annotated[
        int | None, Field(ge=0, le=180, description="Degrees by which images are turned at most, in either direction.")
    ] = None
    scale: Annotated[
        int | None, Field(ge=0, le=90, description="Percent by which images are reduced or enlarged at most.")
    ] = None
    translate: Annotated[
        int | None,
        Field(ge=0, le=50, description="Percent of their sides by which images are shifted at most, in any direction."),
    ] = None
    color: Annotated[
        ColorAugmentation | None, Field(description="How much colours are altered. Default: as the family has it.")
    ] = None
    blur: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description="Percent of the images that are blurred: Gaussian, of 0.5 to 2 pixels as the model sees them.",
        ),
    ] = None
    mosaic: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description="Percent of the images that are replaced by four put together; for detection and segmentation only. "
            "hyperparameters.mosaic of a TrainingRun takes precedence.",
        ),
    ] = None

    @property
    def settled(self) -> Augmentation | None:
        """A copy without empty parts, or None if nothing is set, so that such specs have the same digest."""
        colors = self.color
        told = self if colors is None or colors != type(colors)() else self.model_copy(update={"color": None})
        return None if told == type(told)() else told

    def listed(self) -> dict[str, bool | int]:
        """The fields that are set, by their paths."""
        found = self.written()
        return found | {f"color.{name}": value for name, value in found.pop("color", {}).items()}
