"""Dataset versions: the recipe, which the Dataset's spec and the preparation request share, and the result of a preparation."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.balancing import Balance, Balanced
from pelagos_contract.base import Strict
from pelagos_contract.capture import GROUP_FIELDS, Captured, CaptureSource, GroupField
from pelagos_contract.durations import Duration
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.formats import AUTO, FormatName
from pelagos_contract.judgement import Leakage, SliceFigures
from pelagos_contract.labels import Labels
from pelagos_contract.measures import Measured
from pelagos_contract.preprocessing import Preprocessing, ToldStatistics
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import Source
from pelagos_contract.splits import Split
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import ToldTaxonomy

ClassFolder = Literal["First", "Last"]
"""Which folder names the class in an ImageFolder with nested folders."""


class Duplicates(Strict):
    """How exact and near duplicates are treated; ``max_distance`` is that of preparation.alike."""

    max_distance: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="Near duplicates within this distance are treated as duplicates: copies that were saved again, resized, "
            "cut by a few pixels, mirrored or turned. 4 finds nearly all of them and few others; a larger distance finds more "
            "of both. 0: those within a distance of 4 are counted and kept.",
        ),
    ] = 0
    action: Annotated[
        Literal["KeepFirst", "Keep", "Fail"],
        Field(description="KeepFirst drops all but the first; Keep keeps them in one split; Fail refuses the dataset."),
    ] = "KeepFirst"


def _sorted(values: list[str]) -> list[str]:
    return sorted(set(values))


Outside = Literal["Clip", "Drop", "Fail"]
"""What to do with annotations outside of their image."""


class Cleaning(Strict):
    """What is dropped before splitting."""

    corrupt: Annotated[
        Literal["Drop", "Fail"],
        Field(description="Unreadable or truncated images are dropped, or cause the dataset to be refused."),
    ] = "Drop"
    unreadable_types: Annotated[
        Literal["Drop", "Fail"],
        Field(
            description="Images of kinds that neither training nor serving reads (TIFF, raw files of cameras, ...) are dropped, "
            "or cause the dataset to be refused."
        ),
    ] = "Fail"
    duplicates: Annotated[Duplicates, Field(description="Exact and near duplicates.")] = Duplicates()
    min_side: Annotated[
        int, Field(ge=1, le=4096, description="Images with a side shorter than this, in pixels, are dropped.")
    ] = 16
    max_aspect: Annotated[
        int | None,
        Field(ge=1, le=1000, description="Images whose ratio of longer to shorter side is higher are dropped."),
    ] = None
    min_brightness: Annotated[
        int | None,
        Field(ge=1, le=255, description="Images whose mean grey level, from 0 to 255, is lower are dropped."),
    ] = None
    max_brightness: Annotated[
        int | None,
        Field(ge=0, le=254, description="Images whose mean grey level, from 0 to 255, is higher are dropped."),
    ] = None
    max_clipped: Annotated[
        int | None,
        Field(ge=0, le=99, description="Images with a higher percentage of black or white pixels are dropped."),
    ] = None
    min_contrast: Annotated[
        int | None,
        Field(ge=1, le=127, description="Images whose grey levels have a lower standard deviation are dropped."),
    ] = None
    min_sharpness: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000000,
            description="Images are dropped, as blurred, when the Laplacian of their grey levels has a lower variance. "
            "status.measured shows what images have; none of these limits applies unless it is set.",
        ),
    ] = None
    outside: Annotated[
        Outside | None,
        Field(
            description="Annotations that exceed their image by more than a pixel. Clip: they are cut at its edge, and those "
            "with less than a pixel left are dropped. Drop: all of them are dropped. Fail: the dataset is refused. Images that "
            "lose all annotations this way are left out, as OutsideImage. Default: Fail."
        ),
    ] = None

    @field_validator("outside")
    @classmethod
    def _of_default(cls, outside: Outside | None) -> Outside | None:
        """An explicit default has the same digest as an absent value."""
        return None if outside == "Fail" else outside


class Ratios(Strict):
    """Percentages that add up to 100."""

    train: Annotated[int, Field(ge=1, le=100, description="Percent of the images in the training split.")] = 70
    validation: Annotated[int, Field(ge=0, le=100, description="Percent of the images in the validation split.")] = 15
    test: Annotated[int, Field(ge=0, le=100, description="Percent of the images in the test split.")] = 15


HoldoutValue = Annotated[str, Field(min_length=1, max_length=200)]
HoldoutValues = Annotated[list[HoldoutValue], Field(min_length=1, max_length=100), AfterValidator(_sorted)]


class Holdout(Strict):
    """The groups that go to the test split as a whole, and make up all of it."""

    group: Annotated[HoldoutValues | None, Field(description="Groups, as the source names them.")] = None
    site: Annotated[HoldoutValues | None, Field(description="Sites.")] = None
    deployment: Annotated[HoldoutValues | None, Field(description="Deployments.")] = None
    platform: Annotated[HoldoutValues | None, Field(description="Platforms.")] = None
    day: Annotated[HoldoutValues | None, Field(description="Days, such as 2024-05-31, by local time.")] = None


class SplitPolicy(Strict):
    """How images are divided between training, validation and test."""

    policy: Annotated[
        Literal["Random", "Stratified", "Grouped", "GroupedTemporal", "Provided"],
        Field(
            description="Stratified keeps the share of every class; Grouped keeps groups (for example organisms, hauls, sites) "
            "whole, so that nothing leaks, and the share of every class as far as groups allow: no split gets more than its "
            "share and the largest group, but train shows every class; GroupedTemporal also keeps groups whole, and puts the "
            "earliest into train and the latest into test; Provided takes the splits that the source comes with."
        ),
    ] = "Stratified"
    ratios: Annotated[Ratios, Field(description="Percentages that add up to 100.")] = Ratios()
    seed: Annotated[
        int, Field(ge=0, le=2147483647, description="The same seed and content give the same split on every machine.")
    ] = 0
    group_by: Annotated[
        list[GroupField] | None,
        Field(
            min_length=1,
            max_length=4,
            description="What makes a group, for Grouped and GroupedTemporal: images that have all of these in common, by "
            "spec.capture; of site, deployment, platform and day, which is local. Default: the groups that the source has.",
        ),
    ] = None
    gap: Annotated[
        Duration | None,
        Field(
            description="For GroupedTemporal: images of different splits are at least this far apart in time; images in between "
            "are left out, as WithinGap. Default: 0s."
        ),
    ] = None
    holdout: Annotated[
        Holdout | None,
        Field(
            description="What goes entirely to test, and nothing else does: the rest is divided into train and validation in the "
            "proportion of their ratios. Not for Provided."
        ),
    ] = None

    @field_validator("group_by")
    @classmethod
    def _in_order(cls, fields: list[GroupField] | None) -> list[GroupField] | None:
        """The order of groups does not matter for the digest."""
        return None if fields is None else [field for field in GROUP_FIELDS if field in fields]

    @field_validator("holdout")
    @classmethod
    def _of_nothing(cls, holdout: Holdout | None) -> Holdout | None:
        """An empty object has the same digest as an absent one."""
        return None if holdout is None or holdout == type(holdout)() else holdout


class Recipe(Strict):
    """Everything that decides the content of a version, besides the source's own content."""

    source: Annotated[Source, Field(description="Where images and labels come from; exactly one field is set.")]
    format: Annotated[FormatName, Field(description="Layout of the source; Auto recognises it.")] = AUTO
    class_folder: Annotated[
        ClassFolder | None,
        Field(
            description="For ImageFolder with nested folders. First: the upper folder is the class, those below it are groups, "
            "such as stations. Last: the folder that an image lies in, apart from folders of splits, is its class, as in a tree "
            "of taxa. Default: First, unless several classes have subfolders that may be classes as well, or that are named "
            "like splits, which is refused."
        ),
    ] = None
    task: Annotated[Task, Field(description="What models trained on it do.")]
    labels: Annotated[
        Labels | None, Field(description="Which classes of the source a version has, and their names there.")
    ] = None
    capture: Annotated[
        CaptureSource | None, Field(description="What says when and where images were taken, and by what.")
    ] = None
    cleaning: Annotated[Cleaning, Field(description="What is dropped before splitting.")] = Cleaning()
    preprocessing: Annotated[
        Preprocessing | None, Field(description="What is done to the pixels of every image before a model sees them.")
    ] = None
    split: Annotated[
        SplitPolicy, Field(description="How images are divided between training, validation and test.")
    ] = SplitPolicy()
    balance: Annotated[
        Balance | None,
        Field(description="How trainings compensate for uneven classes in the training split. Default: not at all."),
    ] = None
    augmentation: Annotated[
        Augmentation | None,
        Field(
            description="How much trainings alter their images, at random and differently in each epoch. What is not set is as "
            "the family of models has it."
        ),
    ] = None

    @field_validator("labels")
    @classmethod
    def _of_defaults(cls, labels: Labels | None) -> Labels | None:
        """Explicit defaults have the same digest as absent values."""
        return None if labels is None or labels == type(labels)() else labels

    @field_validator("preprocessing")
    @classmethod
    def _of_nothing(cls, preprocessing: Preprocessing | None) -> Preprocessing | None:
        """An empty object has the same digest as an absent one."""
        return None if preprocessing == Preprocessing() else preprocessing

    @field_validator("balance")
    @classmethod
    def _of_none(cls, balance: Balance | None) -> Balance | None:
        """The strategy None has the same digest as an absent balance."""
        return None if balance is None or balance.strategy == "None" else balance

    @field_validator("augmentation")
    @classmethod
    def _of_nothing_set(cls, augmentation: Augmentation | None) -> Augmentation | None:
        """An augmentation without any setting has the same digest as an absent one."""
        return None if augmentation is None else augmentation.settled


class PreparationRequest(Recipe):
    """The frozen recipe of one dataset version.

    ``retry`` is not part of it: a person changes it to have the source checked again. A result for another value of it is
    not accepted as an answer.
    """

    retry: str = ""


class ClassCount(Strict):
    """One class of a version."""

    name: Annotated[str, Field(description="Name of the class.")]
    images: Annotated[int, Field(description="Images that show it.")]
    annotations: Annotated[int, Field(description="Annotations of it.")]
    aphia_id: Annotated[
        int | None, Field(description="AphiaID of its taxon, where labels.taxonomy says which it is.")
    ] = None


class SplitCount(Strict):
    """One split of a version."""

    images: Annotated[int, Field(description="Images in the split.")]


class Quality(Strict):
    """What cleaning found."""

    found: Annotated[int, Field(description="Image files in the source, of any kind.")]
    corrupt: Annotated[int, Field(description="Unreadable or truncated images.")]
    duplicates: Annotated[int, Field(description="Images with the same content as an earlier one.")]
    near_duplicates: Annotated[
        int, Field(description="Images that look like an earlier one, possibly mirrored or turned.")
    ]
    too_small: Annotated[int, Field(description="Images below cleaning.minSide.")]
    leakage: Annotated[int, Field(description="Groups, kept duplicates and near duplicates in more than one split.")]


class Tiles(Strict):
    """Numbers of images that were cut into tiles, and of the tiles."""

    images: Annotated[int, Field(description="Images of the source that were cut.")]
    tiles: Annotated[int, Field(description="Tiles of them in the version.")]
    empty: Annotated[int, Field(description="Tiles without annotations that were left out.")]
    repeated: Annotated[int, Field(description="Annotations in more than one tile.")]
    lost: Annotated[int, Field(description="Annotations of which no tile shows enough.")]


class Files(Strict):
    """All files of the source: found is the sum of images, annotations and excluded."""

    found: Annotated[int, Field(description="Files in the source, of any kind.")]
    images: Annotated[int, Field(description="Images in the version, whole or as tiles.")]
    annotations: Annotated[int, Field(description="Files that were read for what they say about images.")]
    excluded: Annotated[int, Field(description="Files that are not in the version.")]
    tiles: Annotated[
        Tiles | None, Field(description="For the images that preprocessing.tile cut, where it is set.")
    ] = None


_EXCLUSIONS = [reason.value for reason in ExclusionReason]


class Excluded(Strict):
    """The files that are not in the version for one reason."""

    # Not the enumeration, so that older control planes, which know fewer reasons, can show it.
    reason: Annotated[str, Field(description=f"{', '.join(_EXCLUSIONS[:-1])} or {_EXCLUSIONS[-1]}.")]
    files: Annotated[int, Field(description="How many.")]
    first: Annotated[list[str], Field(description="The first names; `pelagos dataset excluded` lists all.")]
    measured: Annotated[
        str | None,
        Field(description="Of images beyond a threshold of cleaning: the least and the most that was measured."),
    ] = None


class Change(StrEnum):
    """How annotations were changed that a task or a format cannot represent as they were drawn."""

    BOX_AROUND = "BoxAround"
    BOX_BESIDE = "BoxBeside"
    OUTLINE = "Outline"
    LEFT_OUT = "LeftOut"
    REPEATED = "Repeated"
    WITHOUT_EXTRAS = "WithoutExtras"
    CUT = "Cut"
    OUTSIDE = "Outside"
    EXCLUDED_CLASS = "ExcludedClass"
    COVERED = "Covered"
    PIXELS = "Pixels"
    TILE_EDGE = "TileEdge"
    SEVERAL_TILES = "SeveralTiles"
    NO_TILE = "NoTile"
    CROWD = "Crowd"


class Alteration(Strict):
    """Annotations that are not in the version as they were drawn."""

    kind: Annotated[str, Field(description="What they were: a polygon, a point, attributes and so on.")]
    # Not the enumeration, so that older control planes, which know fewer reasons, can show it.
    reason: Annotated[
        str,
        Field(
            description="BoxAround: the box around them was taken. BoxBeside: the box given with them was taken. Outline: their "
            "outline was taken, as a polygon. LeftOut: the task, or the format, cannot hold them. Repeated: they repeat "
            "another. WithoutExtras: additional data of theirs was not kept. Cut: they exceeded the image. Outside: they do not "
            "lie on their image. ExcludedClass: labels leaves out their class. Covered: others cover a part of them. Pixels: "
            "their pixels were taken, as a mask. TileEdge: they were cut at the edge of a tile. SeveralTiles: they are in more "
            "than one tile. NoTile: no tile shows enough of them. Crowd: they are regions of crowds, and their class has no "
            "objects, or the format cannot hold them."
        ),
    ]
    annotations: Annotated[int, Field(description="How many.")]


SUGGESTED_BY = "pelagos/"
"""Prefix of our models' names in annotation tools that receive their predictions."""


class Corrections(Strict):
    """What people made of the suggestions of one model: how good it is in the field."""

    model: Annotated[
        str, Field(description="The model that made them, as it was pushed: its ModelService and version.")
    ]
    images: Annotated[int, Field(description="Images with suggestions that a person reviewed.")]
    predicted: Annotated[int, Field(description="Suggestions.")]
    accepted: Annotated[int, Field(description="Suggestions that were left unchanged.")]
    moved: Annotated[int, Field(description="Suggestions of the right class whose edges were moved.")]
    relabelled: Annotated[int, Field(description="Suggestions that got another class.")]
    added: Annotated[int, Field(description="Annotations that the model had missed.")]
    removed: Annotated[int, Field(description="Suggestions that showed nothing.")]


class PreparationResult(Strict):
    """One immutable dataset version."""

    version: str
    uri: str
    images: int
    annotations: int
    classes: list[ClassCount]
    splits: dict[Split, SplitCount]
    quality: Quality
    files: Files
    excluded: list[Excluded] = []
    altered: list[Alteration] = []
    corrections: list[Corrections] = []
    warnings: list[str] = []
    measured: list[Measured] = []
    statistics: ToldStatistics | None = None
    """Statistics of the training split, if preprocessing.normalization requires them."""
    balance: Balanced | None = None
    """The plan for the training split, if balance is declared."""
    origin: Origin | None = None
    """What was fetched, for sources that are not on the data volume."""
    capture: Captured | None = None
    """Coverage of capture fields, if spec.capture is set."""
    taxonomy: ToldTaxonomy | None = None
    """The resolved taxonomy, if labels.taxonomy requests it."""
    slices: list[SliceFigures] = []
    leakage: Leakage | None = None
    """None for versions that were prepared before leakage was measured."""
    report: str | None = None
    """The location of the report page for people; None when it could not be written."""
