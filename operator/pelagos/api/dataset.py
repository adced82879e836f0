"""Dataset: mutable intent, immutable versions. A version is the digest of its content and of the recipe that made it."""

from __future__ import annotations

import functools
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override

from pelagos.api import capture_rules
from pelagos.api.judgement import BiasBounds, QualityGates
from pelagos.api.meta import (
    RESOURCE_RULES,
    BaseSpec,
    BaseStatus,
    Column,
    Cpu,
    Duration,
    Name,
    PlacementSpec,
    Priority,
    Rule,
    stays_below_root,
)
from pelagos.api.queueing import QueueStatus
from pelagos.api.stages import StageProgress
from pelagos.api.versions import History
from pelagos_contract import sources
from pelagos_contract.balancing import Balanced
from pelagos_contract.base import Strict
from pelagos_contract.capture import Captured
from pelagos_contract.dataset import Alteration, ClassCount, Corrections, Excluded, Files, Quality, Recipe, SplitCount
from pelagos_contract.judgement import Leakage, SliceFigures
from pelagos_contract.measures import Measured
from pelagos_contract.metadata import Metadata
from pelagos_contract.preprocessing import ToldStatistics
from pelagos_contract.publication import Publish
from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import SourceDescription
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import Taxonomy, ToldTaxonomy


class PreparationResources(PlacementSpec):
    """Resources that the preparation requests."""

    cpu: Annotated[
        Cpu, Field(description='Processor cores, for example 2, "1.5" or 500m: both the request and the limit.')
    ] = 2
    queue: Annotated[
        Name | None, Field(description="Kueue LocalQueue. Default: the one that the platform sets for the namespace.")
    ] = None


@functools.lru_cache(maxsize=4)
def _of_places(places: tuple[SourceDescription, ...]) -> tuple[Rule, ...]:
    """The places' own rules. Cached, because every pass needs them and they only change when a place is registered."""
    return (*filter(None, map(_below_root, places)), *filter(None, map(_one_of, places)))


def _below_root(place: SourceDescription) -> Rule | None:
    field = sources.path_field(place)
    if field is None:
        return None
    path = field.replace("spec", "self", 1)
    relative = f"!{path}.startsWith('/') && !{path}.split('/').exists(p, p == '..')"
    # A single place is always set; of several, exactly one is.
    is_there = "" if len(sources.SOURCES.names) == 1 else f"!has(self.source.{place.name}) || "
    return Rule(
        cel=f"{is_there}{relative}",
        message=f"{field} must be relative to the data volume and must not contain '..'",
        field=field,
        holds=lambda spec: spec.source.field != field or stays_below_root(spec.source.path),
    )


def _one_of(place: SourceDescription) -> Rule | None:
    if not place.one_of:
        return None
    where, fields = f"source.{place.name}", sources.aliases(place)
    listed = ", ".join(f"has(self.{where}.{field})" for field in fields)
    return Rule(
        cel=f"!has(self.{where}) || [{listed}].exists_one(each, each)",
        message=f"spec.{where}: exactly one of {', '.join(fields)} must be set",
        field=f"spec.{where}",
        holds=lambda spec: (
            spec.source.place != place.name or sources.is_chosen(place, getattr(spec.source, place.name))
        ),
    )


class FairGate(Strict):
    """How FAIR a version must be before it is published."""

    min_score: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="Lowest score of the built-in evaluation, from 0 to 100, that is enough. A version with a lower "
            "score can be trained on like any other, but FairPassed is False and the version is not published.",
        ),
    ]


def _taxonomy(spec: Recipe) -> Taxonomy | None:
    return spec.labels.taxonomy if spec.labels is not None else None


class DatasetSpec(Recipe, BaseSpec):
    """An image collection, and how versions that can be trained on are made from it."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.split.ratios.train + self.split.ratios.validation + self.split.ratios.test == 100",
            message="spec.split.ratios: train, validation and test must add up to 100",
            field="spec.split.ratios",
            holds=lambda spec: spec.split.ratios.train + spec.split.ratios.validation + spec.split.ratios.test == 100,
        ),
        Rule(
            cel="!has(self.cleaning.minBrightness) || !has(self.cleaning.maxBrightness) || "
            "self.cleaning.minBrightness <= self.cleaning.maxBrightness",
            message="spec.cleaning.minBrightness must not be above spec.cleaning.maxBrightness",
            field="spec.cleaning.minBrightness",
            holds=lambda spec: (
                spec.cleaning.min_brightness is None
                or spec.cleaning.max_brightness is None
                or spec.cleaning.min_brightness <= spec.cleaning.max_brightness
            ),
        ),
        Rule(
            cel="!has(self.labels) || self.labels.include.all(name, !(name in self.labels.exclude))",
            message="spec.labels.exclude must not name a class that spec.labels.include names",
            field="spec.labels.exclude",
            holds=lambda spec: spec.labels is None or not {*spec.labels.include} & {*spec.labels.exclude},
        ),
        Rule(
            cel="!has(self.labels) || self.labels.rename.all(name, !(self.labels.rename[name] in self.labels.rename) && "
            "self.labels.rename.exists_one(other, self.labels.rename[other] == self.labels.rename[name]))",
            message="spec.labels.rename must use each new name once, and none that is also an old name; spec.labels.merge "
            "makes one class of several",
            field="spec.labels.rename",
            holds=lambda spec: (
                spec.labels is None
                or (
                    not {*spec.labels.rename} & {*spec.labels.rename.values()}
                    and len({*spec.labels.rename.values()}) == len(spec.labels.rename)
                )
            ),
        ),
        Rule(
            cel="!has(self.labels) || self.labels.merge.all(name, !(name in self.labels.rename) && "
            "self.labels.merge[name].all(old, !(old in self.labels.rename)))",
            message="spec.labels.merge must not name classes that spec.labels.rename names",
            field="spec.labels.merge",
            holds=lambda spec: (
                spec.labels is None
                or not {*spec.labels.rename} & {*spec.labels.merge}.union(*spec.labels.merge.values())
            ),
        ),
        Rule(
            cel="!has(self.labels) || !has(self.labels.taxonomy) || !has(self.labels.taxonomy.table) || "
            "!has(self.labels.taxonomy.url)",
            message="spec.labels.taxonomy.url must not be set together with table: the table is read instead of asking a "
            "server",
            field="spec.labels.taxonomy.url",
            holds=lambda spec: (taxonomy := _taxonomy(spec)) is None or taxonomy.table is None or taxonomy.url is None,
        ),
        Rule(
            cel="!has(self.labels) || !has(self.labels.taxonomy) || !has(self.labels.taxonomy.above) || "
            "has(self.labels.taxonomy.rank)",
            message="spec.labels.taxonomy.above says what happens to classes above rank; set rank as well",
            field="spec.labels.taxonomy.above",
            holds=lambda spec: (
                (taxonomy := _taxonomy(spec)) is None or taxonomy.above is None or taxonomy.rank is not None
            ),
        ),
        Rule(
            cel="!has(self.classFolder) || !has(self.labels) || !has(self.labels.level)",
            message="spec.labels.level and spec.classFolder mean the same; set only one of them",
            field="spec.labels.level",
            holds=lambda spec: spec.class_folder is None or spec.labels is None or spec.labels.level is None,
        ),
        Rule(
            cel="!has(self.balance) || !has(self.balance.target) || self.balance.strategy == 'None' || "
            "type(self.balance.target) == int || "
            "self.balance.target != (self.balance.strategy == 'Undersample' ? 'Largest' : 'Smallest')",
            message="spec.balance.target: Smallest leaves all classes as they are, and so does Largest with Undersample; "
            "use Median, a number, or the other one",
            field="spec.balance.target",
            holds=lambda spec: spec.balance is None or not spec.balance.is_idle,
        ),
        Rule(
            cel="!has(self.preprocessing) || !has(self.preprocessing.tile) || "
            "self.preprocessing.tile.overlap * 2 <= self.preprocessing.tile.size",
            message="spec.preprocessing.tile.overlap must be at most half of spec.preprocessing.tile.size",
            field="spec.preprocessing.tile.overlap",
            holds=lambda spec: (
                spec.preprocessing is None
                or spec.preprocessing.tile is None
                or spec.preprocessing.tile.overlap * 2 <= spec.preprocessing.tile.size
            ),
        ),
        Rule(
            cel="!has(self.preprocessing) || !has(self.preprocessing.tile) || !has(self.preprocessing.resize)",
            message="spec.preprocessing.resize: a resized image is not cut into tiles; set either resize or tile",
            field="spec.preprocessing.resize",
            holds=lambda spec: (
                spec.preprocessing is None or spec.preprocessing.tile is None or spec.preprocessing.resize is None
            ),
        ),
        Rule(
            cel="!has(self.preprocessing) || !has(self.preprocessing.tile) || self.task != 'Classification'",
            message="spec.preprocessing.tile is for tasks whose annotations have positions: the class of a whole image "
            "need not be that of its parts",
            field="spec.preprocessing.tile",
            holds=lambda spec: (
                spec.preprocessing is None or spec.preprocessing.tile is None or spec.task is not Task.CLASSIFICATION
            ),
        ),
        Rule(
            cel="self.task != 'Classification' || !has(self.augmentation) || !has(self.augmentation.mosaic) || "
            "self.augmentation.mosaic == 0",
            message="spec.augmentation.mosaic combines images of several classes, which does not work for Classification; "
            "leave it out",
            field="spec.augmentation.mosaic",
            holds=lambda spec: (
                spec.task != "Classification" or spec.augmentation is None or not spec.augmentation.mosaic
            ),
        ),
        *capture_rules.RULES,
        *RESOURCE_RULES,
    )

    @classmethod
    @override
    def rules(cls) -> tuple[Rule, ...]:
        """The rules across fields, including those of the places."""
        return (*_of_places(tuple(sources.SOURCES)), *cls.RULES)

    refresh: Annotated[
        Duration | None,
        Field(
            description="How often to check the source again; new content becomes a new version. Default: 10m; 24h for a "
            "source that is fetched, since each check is a run."
        ),
    ] = None
    history: Annotated[
        History | None, Field(description="Which versions are kept; not part of a version's digest.")
    ] = None
    quality: Annotated[
        QualityGates | None,
        Field(
            description="Bounds that a version must meet before it is trained on. Default: only that the splits made by "
            "the source do not divide groups."
        ),
    ] = None
    bias: Annotated[
        BiasBounds | None,
        Field(
            description="Expectations on slices of the images, such as sites. Default: none, so that there are no "
            "warnings about them."
        ),
    ] = None
    resources: Annotated[
        PreparationResources,
        Field(description="Resources that the preparation requests; not part of a version's digest."),
    ] = PreparationResources()
    priority: Priority = None
    metadata: Annotated[
        Metadata | None,
        Field(
            description="What people say about it: creators, licence, coverage and so on; exports and publications include "
            "it. Not part of a version's digest."
        ),
    ] = None
    fair: Annotated[
        FairGate | None,
        Field(description="How FAIR a version must be before it is published. Default: any score is enough."),
    ] = None
    publish: Annotated[
        Publish | None,
        Field(
            description="Where the newest version is published, once QualityPassed does not block and FairPassed is True; "
            "not part of a version's digest. Default: nowhere."
        ),
    ] = None


class Splits(Strict):
    """The splits of a version."""

    train: Annotated[SplitCount | None, Field(description="Training split.")] = None
    validation: Annotated[SplitCount | None, Field(description="Validation split.")] = None
    test: Annotated[SplitCount | None, Field(description="Test split.")] = None


class Truncated(Strict):
    """A list that is too long for a status."""

    field: Annotated[str, Field(description="Field of status.")]
    shown: Annotated[int, Field(description="Number of entries shown, from the first one on.")]
    total: Annotated[int, Field(description="Number of entries in the whole list.")]
    full: Annotated[str, Field(description="Where the whole list is, in the member result.")]


class DatasetVersion(Strict):
    """One immutable version."""

    version: Annotated[str, Field(description="Digest of content and recipe.")]
    created_at: Annotated[
        str, Field(description="When the operator first saw it.", json_schema_extra={"format": "date-time"})
    ]
    images: Annotated[int | None, Field(description="Images in it.")]
    uri: Annotated[str, Field(description="Its folder.")]
    task: Annotated[str, Field(description="Its task.")]
    reason: Annotated[str, Field(description="Why it was made.")]
    blocked: Annotated[
        str | None,
        Field(
            description="Why no TrainingRun starts on it: what spec.quality, with onFail Block, found when it was the newest."
        ),
    ] = None
    doi: Annotated[str | None, Field(description="DOI under which it is published.")] = None


class Removals(Strict):
    """Versions that were removed from the store, and those that are being removed."""

    removing: Annotated[
        list[DatasetVersion] | None,
        Field(description="Versions that are being removed. Nothing begins to use them any more."),
    ] = None
    since: Annotated[
        str | None,
        Field(description="When these versions began to be removed.", json_schema_extra={"format": "date-time"}),
    ] = None
    message: Annotated[
        str | None,
        Field(description="State of the removal, or which versions beyond spec.history.keep stay, and why."),
    ] = None
    runs: Annotated[int | None, Field(description="Number of completed removals.")] = None
    versions: Annotated[int | None, Field(description="Number of versions that they removed.")] = None
    images: Annotated[int | None, Field(description="Number of image files that they removed.")] = None
    freed_bytes: Annotated[int | None, Field(description="Number of bytes that they freed.")] = None
    kept_versions: Annotated[
        int | None, Field(description="Number of versions in the store after the last removal.")
    ] = None
    kept_images: Annotated[
        int | None, Field(description="Number of image files in the store after the last removal.")
    ] = None
    kept_bytes: Annotated[int | None, Field(description="Size of these image files in bytes.")] = None


class PipelineRunStatus(Strict):
    """The pipeline run that works, or worked, for this resource."""

    id: Annotated[str, Field(description="Name of the run in the pipeline engine.")]
    url: Annotated[str, Field(description="Where to see it: a page, or the path of its log.")]
    state: Annotated[str | None, Field(description="How it ended; absent while it is in progress.")] = None
    attempt: Annotated[int | None, Field(description="Its last attempt.")] = None
    attempts_with_key: Annotated[int | None, Field(description="Attempts since retryKey changed.")] = None
    retry_key: Annotated[
        str | None, Field(description="What last asked for another attempt, such as the annotation pelagos.dev/retry.")
    ] = None
    message: Annotated[str | None, Field(description="What the pipeline engine said about its end.")] = None


class MadeFrom(Strict):
    """What a version is made from, in addition to the source's content, as it was when its run was started."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    generation: Annotated[int, Field(description="metadata.generation of the spec that was followed.")]
    recipe: Annotated[
        dict[str, object],
        Field(
            description="The fields of spec that decide the content of a version, with the defaults of that time.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ]
    algorithms: Annotated[dict[str, int], Field(description="Versions of the algorithms that make it.")]
    reason: Annotated[
        str | None, Field(description="Why it was made, where an upgrade of Pelagos contributed to that.")
    ] = None


class Progress(StageProgress):
    """How far the preparation is."""

    images_done: Annotated[int | None, Field(description="Images that the stage has finished.")] = None
    images_total: Annotated[int | None, Field(description="Images that the stage has to process.")] = None
    bytes_done: Annotated[int | None, Field(description="Bytes of the source that have been fetched.")] = None
    bytes_total: Annotated[int | None, Field(description="Bytes of the source in total.")] = None


class Fair(Strict):
    """How findable, accessible, interoperable and reusable the newest version is, by the built-in evaluation."""

    score: Annotated[int, Field(description="0 to 100: the mean of 41 indicators by their weights, rounded down.")]
    findable: Annotated[int, Field(description="Score of the indicators F1 to F4.")]
    accessible: Annotated[int, Field(description="Score of the indicators A1 to A2.")]
    interoperable: Annotated[int, Field(description="Score of the indicators I1 to I3.")]
    reusable: Annotated[int, Field(description="Score of the indicators R1 to R1.3.")]
    failed: Annotated[
        list[str],
        Field(description="Indicators of the RDA with at most 50 points; `pelagos fair` says what would give more."),
    ]


class Publication(Strict):
    """What is in the repository that spec.publish names."""

    version: Annotated[str | None, Field(description="Digest of the version that is there.")] = None
    state: Annotated[
        str | None, Field(description="Draft: for people to look at, with a DOI that is reserved; or Published.")
    ] = None
    doi: Annotated[str | None, Field(description="DOI of exactly this version.")] = None
    concept_doi: Annotated[str | None, Field(description="DOI of all versions, which leads to the newest.")] = None
    url: Annotated[str | None, Field(description="Page of the record or draft.")] = None
    record: Annotated[str | None, Field(description="Its number.")] = None
    server: Annotated[str | None, Field(description="Address of the repository.")] = None
    at: Annotated[
        str | None, Field(description="When it was made there.", json_schema_extra={"format": "date-time"})
    ] = None
    note: Annotated[str | None, Field(description="What a person should know about it.")] = None
    run: Annotated[str | None, Field(description="Name of the run that publishes.")] = None
    stuck_since: Annotated[
        str | None,
        Field(
            description="Since when the publication that spec.publish asks for has been stuck: a person must act, or "
            "something is awaited.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None


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
    capture: Annotated[
        Captured | None,
        Field(description="What is known about when and where its images were taken, where spec.capture is set."),
    ] = None
    leakage: Annotated[
        Leakage | None, Field(description="Images of different splits that belong together, and why.")
    ] = None
    slices: Annotated[
        list[SliceFigures] | None,
        Field(
            description="Attributes by which its images can be told apart, and how evenly the images and the classes are "
            "spread over each."
        ),
    ] = None
    report: Annotated[
        str | None, Field(description="Its report, a page of figures and samples: pelagos report NAME shows it.")
    ] = None
    fair: Annotated[Fair | None, Field(description="How FAIR it is, by the built-in evaluation.")] = None
    publication: Annotated[
        Publication | None, Field(description="What is published of it, or of an earlier version.")
    ] = None
    source: Annotated[
        Origin | None, Field(description="The content of a fetched source that the newest version is made from.")
    ] = None
    files: Annotated[Files | None, Field(description="What happened to the files of the source.")] = None
    excluded: Annotated[list[Excluded] | None, Field(description="What the version leaves out, by reason.")] = None
    altered: Annotated[
        list[Alteration] | None,
        Field(description="Annotations that the version does not contain as they were drawn, by kind and reason."),
    ] = None
    corrections: Annotated[
        list[Corrections] | None,
        Field(
            description="What people did with the suggestions of models, by model, at most 10: how good the models are in "
            "the field."
        ),
    ] = None
    taxonomy: Annotated[
        ToldTaxonomy | None,
        Field(
            description="What a register of names said about its classes, where spec.labels.taxonomy asks for it; at most "
            "50 names of each kind."
        ),
    ] = None
    statistics: Annotated[
        ToldStatistics | None,
        Field(
            description="Statistics of the training images, by which inputs are normalised where spec.preprocessing asks "
            "for it."
        ),
    ] = None
    balance: Annotated[
        Balanced | None, Field(description="What spec.balance does to its training split, before and after.")
    ] = None
    measured: Annotated[
        list[Measured] | None,
        Field(description="Measurements of the source's images, for choosing the thresholds of spec.cleaning."),
    ] = None
    warnings: Annotated[list[str] | None, Field(description="What a careful reader should know about it.")] = None
    truncated: Annotated[list[Truncated] | None, Field(description="Lists that are cut short here.")] = None
    versions: Annotated[
        list[DatasetVersion] | None, Field(description="The versions that are kept, newest first, at most 50.")
    ] = None
    removals: Annotated[
        Removals | None, Field(description="Versions that were removed, and those that are being removed.")
    ] = None
    inputs_digest: Annotated[
        str | None, Field(description="Digest of the source's content and of the recipe, as last checked.")
    ] = None
    made_from: Annotated[
        MadeFrom | None,
        Field(description="What the run was made from; an upgrade does not change what was already made that way."),
    ] = None
    pipeline_run: Annotated[PipelineRunStatus | None, Field(description="The preparation run.")] = None
    queue: Annotated[
        QueueStatus | None, Field(description="State of its step in the queue, while the run is in progress.")
    ] = None
    progress: Annotated[Progress | None, Field(description="Progress of the preparation.")] = None
    store: Annotated[str | None, Field(description="Folder of all versions.")] = None
    record: Annotated[
        str | None,
        Field(description="Where the newest version is recorded, so that a rebuilt cluster finds it again."),
    ] = None
    metadata_digest: Annotated[
        str | None, Field(description="Digest of the metadata that is recorded with the newest version.")
    ] = None
    storage_prefix: Annotated[
        str | None,
        Field(
            description="Folder below the roots of data and objects, as the platform set it when work began; it never "
            "changes.",
            # An API server of 1.20 treats an empty string as null.
            json_schema_extra={"nullable": True},
        ),
    ] = None
    storage_seal: Annotated[
        str | None,
        Field(
            description="The operator's seal over storagePrefix; without it only the platform's present prefix counts."
        ),
    ] = None


COLUMNS = (
    Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    Column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
    Column("Task", ".spec.task"),
    Column("Images", ".status.images", "integer"),
    Column(
        "Quality",
        ".status.conditions[?(@.type=='QualityPassed')].status",
        priority=1,
        description="Whether the newest version meets spec.quality.",
    ),
    Column("Stage", ".status.progress.stage", priority=1, description="What the preparation is doing."),
    Column("Source", ".status.source.version", priority=1, description="Version of a source that is fetched."),
    Column("Excluded", ".status.files.excluded", "integer", priority=1),
    Column("FAIR", ".status.fair.score", "integer", priority=1, description="Score of the built-in evaluation."),
    Column(
        "DOI",
        ".status.publication.doi",
        priority=1,
        description="DOI of the published version, or the one reserved for a draft.",
    ),
    Column("Version", ".status.version", priority=1),
    Column("Position", ".status.queue.position", "integer", priority=1, description="Place in the queue; 1 is next."),
    Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
