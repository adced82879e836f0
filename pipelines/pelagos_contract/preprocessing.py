"""What is done to the pixels of every image before a model sees them: declared with the dataset, kept by every package."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pelagos_contract.base import Strict

Color = Literal["GrayWorld", "Clahe"]


class Preprocessing(Strict):
    """A part of the recipe of a version, whose images stay as they are; training, evaluation and serving all do it alike."""

    color: Annotated[
        Color | None,
        Field(
            description="GrayWorld: the cast of water is taken out, by scaling red, green and blue to one mean. Clahe: contrast "
            "is raised within parts of the image. Training, evaluation and serving do it alike. Default: neither."
        ),
    ] = None
