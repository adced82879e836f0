"""How trainings compensate for class imbalance in the training split: declared with the dataset, applied by trainings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pelagos_contract.base import Strict

Strategy = Literal["None", "Oversample", "Undersample", "ClassWeights"]
Counted = Literal["Images", "Annotations"]
MOST_REPEATS = 100
"""Most repetitions of an image in an epoch: with more, a model memorizes the image, whatever the target is."""
MOST_WEIGHT = 100
"""Largest ratio between class weights: with more, single images determine a training step."""
LARGEST_TARGET = 999_999
ABOVE_TARGET = "AboveTarget"
"""The reason why an epoch leaves an image out."""
_TARGET = "^(Median|Largest|Smallest|[1-9][0-9]{0,5})$"


def _as_text(value: object) -> object:
    return str(value) if type(value) is int else value


Target = Annotated[
    str,
    Field(pattern=_TARGET),
    BeforeValidator(_as_text),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": LARGEST_TARGET,
            "pattern": _TARGET,
            "maxLength": 8,
        }
    ),
]


class Balance(Strict):
    """How a training compensates for class imbalance in its split; validation and test are unchanged."""

    strategy: Annotated[
        Strategy,
        Field(
            description="Oversample: images of classes below the target are shown several times in an epoch (of several "
            "classes: repeat factor sampling). Undersample: images that show only classes above the target are left out. "
            "ClassWeights: mistakes on classes below the target weigh more. None: nothing is done. Nothing is copied, and no "
            "other split is changed."
        ),
    ]
    target: Annotated[
        Target | None,
        Field(
            description="The target number of images of a class (with ClassWeights, for detection or segmentation: "
            "annotations): the Median of the classes, that of the Largest or the Smallest one, or a number. Default: Median; "
            "Largest with ClassWeights, which is the inverse of their frequency."
        ),
    ] = None

    @property
    def aim(self) -> str:
        """The target, or its default where none is declared."""
        return self.target or ("Largest" if self.strategy == "ClassWeights" else "Median")

    @property
    def is_idle(self) -> bool:
        """Whether the strategy has no effect, since no class can be on the side of the target that it changes."""
        return self.aim == ("Largest" if self.strategy == "Undersample" else "Smallest")


class LeftOut(Strict):
    """Training images that no epoch shows."""

    reason: Annotated[str, Field(description="AboveTarget: all classes that they show have enough other images.")]
    images: Annotated[int, Field(description="How many.")]
    first: Annotated[list[str], Field(description="The first names; `pelagos dataset balance` lists all.")]


class BalancedClass(Strict):
    """One class in training."""

    name: Annotated[str, Field(description="Name of the class.")]
    before: Annotated[int, Field(description="Training images that show it, or its annotations on them.")]
    after: Annotated[
        str, Field(description="As how many they count in an epoch, after repeats, images left out, or weights.")
    ]
    left_out: Annotated[int, Field(description="Images of it that are left out.")]
    weight: Annotated[str | None, Field(description="Its weight in the loss, with ClassWeights; the mean is 1.")] = None


class Balanced(Strict):
    """The effect of spec.balance on the training split of a version."""

    strategy: Annotated[str, Field(description="Oversample, Undersample or ClassWeights.")]
    target: Annotated[int, Field(description="The target number of each class.")]
    counted: Annotated[str, Field(description="What before and after count: Images or Annotations.")]
    images: Annotated[int, Field(description="Images in the training split.")]
    shown: Annotated[int, Field(description="Images that an epoch shows, including repeats.")]
    most_repeats: Annotated[int, Field(description="How often an epoch shows the image that it shows most often.")]
    effective_classes: Annotated[
        list[str],
        Field(
            description="Before and after: this many equally frequent classes would be as diverse (Hill's number of order 2)."
        ),
    ]
    effective: Annotated[
        str,
        Field(
            description="This many different images, or annotations, of equal weight would say as much (Kish): what repeats and "
            "weights cost."
        ),
    ]
    left_out: Annotated[LeftOut | None, Field(description="Training images that no epoch shows.")] = None
    classes: Annotated[list[BalancedClass], Field(description="Its classes, at most the first 100.")]
