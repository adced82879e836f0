"""Dataset: mutable intent, immutable versions. A version is the digest of its content and of the recipe that made it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pelagos.api.meta import (
    ApiModel,
    BaseSpec,
    BaseStatus,
    Column,
    Duration,
    Name,
    PlacementSpec,
    RelativePath,
    Rule,
    stays_below_root,
)


class VolumeSource(ApiModel):
    """A folder on the data volume."""

    path: Annotated[RelativePath, Field(description="Folder on the data volume, relative to its root.")]


class Source(ApiModel):
    """Where images and labels come from; exactly one field is set."""

    volume: Annotated[VolumeSource, Field(description="A folder on the data volume.")]


class Duplicates(ApiModel):
    """How exact and near duplicates are treated."""

    max_distance: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="Near duplicates within this distance are treated as duplicates are: copies that were saved again, "
            "resized, cut by a few pixels, mirrored or turned. 4 finds nearly all of them and few others, more finds more of "
            "both. 0: they are counted, within a distance of 4, and kept.",
        ),
    ] = 0
    action: Annotated[
        Literal["KeepFirst", "Keep", "Fail"],
        Field(description="KeepFirst drops all but the first; Keep keeps them in one split; Fail refuses the dataset."),
    ] = "KeepFirst"


class Cleaning(ApiModel):
    """What is dropped before splitting."""

    corrupt: Annotated[
        Literal["Drop", "Fail"],
        Field(description="Unreadable or truncated images are dropped, or refuse the dataset."),
    ] = "Drop"
    unreadable_types: Annotated[
        Literal["Drop", "Fail"],
        Field(
            description="Images of kinds that neither training nor serving reads (TIFF, raw files of cameras, ...) are dropped, "
            "or refuse the dataset."
        ),
    ] = "Fail"
    duplicates: Annotated[Duplicates, Field(description="Exact and near duplicates.")] = Duplicates()
    min_side: Annotated[
        int, Field(ge=1, le=4096, description="Images with a shorter side, in pixels, are dropped.")
    ] = 16


class Ratios(ApiModel):
    """Percentages that add up to 100."""

    train: Annotated[int, Field(ge=1, le=100, description="Percent of the images in the training split.")] = 70
    validation: Annotated[int, Field(ge=0, le=100, description="Percent of the images in the validation split.")] = 15
    test: Annotated[int, Field(ge=0, le=100, description="Percent of the images in the test split.")] = 15


class Split(ApiModel):
    """How images are divided between training, validation and test."""

    policy: Annotated[
        Literal["Random", "Stratified", "Grouped", "Provided"],
        Field(
            description="Stratified keeps the share of every class; Grouped keeps groups (for example organisms, hauls, sites) "
            "whole, so that nothing leaks, and the share of every class as far as they allow: no split gets more than its share "
            "and the largest group, but train shows every class; Provided takes the splits that the source comes with."
        ),
    ] = "Stratified"
    ratios: Annotated[Ratios, Field(description="Percentages that add up to 100.")] = Ratios()
    seed: Annotated[
        int, Field(ge=0, le=2147483647, description="Same seed and content, same split, on every machine.")
    ] = 0


class PreparationResources(PlacementSpec):
    """What the preparation asks for."""

    cpu: Annotated[int, Field(ge=1, le=1024, description="Processor cores.")] = 2
    queue: Annotated[
        Name | None, Field(description="Kueue LocalQueue. Default: that which the platform gives the namespace.")
    ] = None


class DatasetSpec(BaseSpec):
    """An image collection and how to make versions of it that can be trained on."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!self.source.volume.path.startsWith('/') && !self.source.volume.path.split('/').exists(p, p == '..')",
            message="spec.source.volume.path must be relative to the data volume and must not contain '..'",
            field="spec.source.volume.path",
            holds=lambda spec: stays_below_root(spec.source.volume.path),
        ),
        Rule(
            cel="self.split.ratios.train + self.split.ratios.validation + self.split.ratios.test == 100",
            message="spec.split.ratios: train, validation and test must add up to 100",
            field="spec.split.ratios",
            holds=lambda spec: spec.split.ratios.train + spec.split.ratios.validation + spec.split.ratios.test == 100,
        ),
    )

    source: Annotated[Source, Field(description="Where images and labels come from; exactly one field is set.")]
    refresh: Annotated[
        Duration, Field(description="How often to look at the source again; new content is a new version.")
    ] = "10m"
    format: Annotated[
        Literal["Auto", "ImageFolder", "Coco", "Yolo"],
        Field(description="Layout of the source; Auto recognises it."),
    ] = "Auto"
    class_folder: Annotated[
        Literal["First", "Last"] | None,
        Field(
            description="For ImageFolder with folders in folders. First: the upper folder is the class, those below it are "
            "groups, such as stations. Last: the folder in which an image lies, splits apart, is its class, as in a tree of "
            "taxa. Default: First, unless several classes have folders below that may be classes as well, or names like splits, "
            "which is refused."
        ),
    ] = None
    task: Annotated[Literal["Classification", "Detection"], Field(description="What models trained on it do.")]
    cleaning: Annotated[Cleaning, Field(description="What is dropped before splitting.")] = Cleaning()
    split: Annotated[Split, Field(description="How images are divided between training, validation and test.")] = (
        Split()
    )
    resources: Annotated[
        PreparationResources, Field(description="What the preparation asks for; no part of a version's digest.")
    ] = PreparationResources()


class ClassCount(ApiModel):
    """One class of a version."""

    name: Annotated[str, Field(description="Name of the class.")]
    images: Annotated[int, Field(description="Images that show it.")]
    annotations: Annotated[int, Field(description="Annotations of it.")]


class SplitCount(ApiModel):
    """One split of a version."""

    images: Annotated[int, Field(description="Images in the split.")]


class Splits(ApiModel):
    """The splits of a version."""

    train: Annotated[SplitCount | None, Field(description="Training split.")] = None
    validation: Annotated[SplitCount | None, Field(description="Validation split.")] = None
    test: Annotated[SplitCount | None, Field(description="Test split.")] = None


class Quality(ApiModel):
    """What cleaning found."""

    found: Annotated[int, Field(description="Image files in the source, of whatever kind.")]
    corrupt: Annotated[int, Field(description="Unreadable or truncated images.")]
    duplicates: Annotated[int, Field(description="Images with the same content as an earlier one.")]
    near_duplicates: Annotated[
        int, Field(description="Images that look like an earlier one, though mirrored or turned.")
    ]
    too_small: Annotated[int, Field(description="Images below cleaning.minSide.")]
    leakage: Annotated[int, Field(description="Groups, kept duplicates and near duplicates in more than one split.")]


class Files(ApiModel):
    """All files of the source: found is the sum of the others."""

    found: Annotated[int, Field(description="Files in the source, whatever they are.")]
    images: Annotated[int, Field(description="Images in the version.")]
    annotations: Annotated[int, Field(description="Files that were read for what they say of images.")]
    excluded: Annotated[int, Field(description="Files that are not in the version.")]


class Excluded(ApiModel):
    """The files that are not in the version for one reason."""

    reason: Annotated[
        str,
        Field(
            description="Corrupt, TooSmall, Duplicate, NearDuplicate, UnreadableType, Unlisted, Unlabelled, "
            "LabelWithoutImage, Hidden, NotAnImage or NotAFile."
        ),
    ]
    files: Annotated[int, Field(description="How many.")]
    first: Annotated[list[str], Field(description="The first names; `pelagos dataset excluded` lists all.")]


class Truncated(ApiModel):
    """A list that is too long for a status."""

    field: Annotated[str, Field(description="Field of status.")]
    shown: Annotated[int, Field(description="Entries that are shown, the first ones.")]
    total: Annotated[int, Field(description="Entries that there are.")]
    full: Annotated[str, Field(description="Where the whole list is, in the member result.")]


class DatasetVersion(ApiModel):
    """One immutable version."""

    version: Annotated[str, Field(description="Digest of content and recipe.")]
    created_at: Annotated[
        str, Field(description="When the operator first saw it.", json_schema_extra={"format": "date-time"})
    ]
    images: Annotated[int, Field(description="Images in it.")]
    uri: Annotated[str, Field(description="Its folder.")]
    task: Annotated[str, Field(description="Its task.")]
    reason: Annotated[str, Field(description="Why it was made.")]


class PipelineRunStatus(ApiModel):
    """The pipeline run that works, or worked, for this resource."""

    id: Annotated[str, Field(description="Name of the run in the pipeline engine.")]
    url: Annotated[str, Field(description="Where to look at it: a page, or the path of its log.")]
    state: Annotated[str | None, Field(description="How it ended; absent while it goes on.")] = None
    attempt: Annotated[int | None, Field(description="Its last attempt.")] = None
    attempts_with_key: Annotated[int | None, Field(description="Attempts since retryKey changed.")] = None
    retry_key: Annotated[
        str | None, Field(description="What gave reason to try again, such as the annotation pelagos.dev/retry.")
    ] = None
    message: Annotated[str | None, Field(description="What the pipeline engine said of its end.")] = None


class DatasetStatus(BaseStatus):
    """The newest version, and the state of the one in preparation."""

    version: Annotated[str | None, Field(description="Digest of the newest version.")] = None
    uri: Annotated[str | None, Field(description="Folder of the newest version.")] = None
    task: Annotated[str | None, Field(description="Task of the newest version.")] = None
    images: Annotated[int | None, Field(description="Images in it.")] = None
    annotations: Annotated[int | None, Field(description="Annotations in it.")] = None
    class_count: Annotated[int | None, Field(description="Classes in it.")] = None
    classes: Annotated[list[ClassCount] | None, Field(description="Its classes, at most the first 100.")] = None
    splits: Annotated[Splits | None, Field(description="Its splits.")] = None
    quality: Annotated[Quality | None, Field(description="What cleaning found.")] = None
    files: Annotated[Files | None, Field(description="What became of the files of the source.")] = None
    excluded: Annotated[list[Excluded] | None, Field(description="What is not in the version, by reason.")] = None
    warnings: Annotated[list[str] | None, Field(description="What a careful reader should know of it.")] = None
    truncated: Annotated[list[Truncated] | None, Field(description="Lists that are cut short here.")] = None
    versions: Annotated[list[DatasetVersion] | None, Field(description="Newest first, at most 10.")] = None
    inputs_digest: Annotated[str | None, Field(description="Digest of source content and recipe last looked at.")] = (
        None
    )
    pipeline_run: Annotated[PipelineRunStatus | None, Field(description="The preparation run.")] = None
    store: Annotated[str | None, Field(description="Folder of all versions.")] = None
    record: Annotated[
        str | None,
        Field(description="Where the newest version is on record, by which a rebuilt cluster finds it again."),
    ] = None
    storage_prefix: Annotated[
        str | None,
        Field(
            description="Folder below the roots of data and objects, as the platform gave it when work began; "
            "it stays for life.",
            # An API server of 1.20 takes an empty string for null.
            json_schema_extra={"nullable": True},
        ),
    ] = None
    storage_seal: Annotated[
        str | None, Field(description="The operator's seal of storagePrefix: without it only the present one counts.")
    ] = None


COLUMNS = (
    Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    Column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
    Column("Task", ".spec.task"),
    Column("Images", ".status.images", "integer"),
    Column("Excluded", ".status.files.excluded", "integer", priority=1),
    Column("Version", ".status.version", priority=1),
    Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
