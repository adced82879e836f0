"""A Dataset's requirements on its versions before anything is trained on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.values import Decimal


class BiasBounds(Strict):
    """Expectations on the slices of a version; one that is not met is a warning and stops nothing."""

    slices: Annotated[
        list[Annotated[str, Field(max_length=100)]] | None,
        Field(
            max_length=20,
            description="Slices that are checked, by their names in status.slices: group, folder, image size and, by "
            "spec.capture, site, deployment, platform, month, hour and depth band (or depthBand). Default: "
            "all.",
        ),
    ] = None
    min_share: Annotated[
        Decimal | None,
        Field(
            description="Every value of a slice should have at least this share, from 0 to 1, of the images whose value is "
            'known. Default: "0.05".'
        ),
    ] = None


class QualityGates(Strict):
    """Bounds for the figures of a version. They are not part of it: changing one judges the same figures again."""

    min_images_per_class: Annotated[
        int | None, Field(ge=1, le=1000000, description="Every class must be shown by at least this many images.")
    ] = None
    max_imbalance: Annotated[
        Decimal | None,
        Field(
            description="Largest allowed ratio of the images of the largest class to those of the smallest; for example "
            '"50".'
        ),
    ] = None
    max_duplicates: Annotated[
        Decimal | None,
        Field(
            description="Largest share of the source's image files that may repeat an earlier one or look like it, from 0 "
            'to 1; for example "0.1".'
        ),
    ] = None
    max_leakage: Annotated[
        Decimal | None,
        Field(
            description="Largest share of the images of validation and test that may share a group with, repeat, or look "
            "like an image of train or, for images of test, of validation; from 0 to 1 (status.leakage). "
            "Default: any, but with split.policy Provided no group may be in more than one split."
        ),
    ] = None
    on_fail: Annotated[
        Literal["Block", "Warn"] | None,
        Field(
            description="Block: the Dataset is not Ready, and no TrainingRun starts on the version. Warn: only the "
            "condition QualityPassed says so. Default: Block."
        ),
    ] = None
