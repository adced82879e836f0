"""The only step of dataset-preparation: turns a source into an immutable version and a report. Called by its component."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pelagos_contract import algorithms, disk, history, looks, reports, sealing
from pelagos_contract.capture import Captured
from pelagos_contract.dataset import ClassCount, PreparationRequest, PreparationResult, Quality, SplitCount, Tiles
from pelagos_contract.failures import RefusedError
from pelagos_contract.judgement import FOLDER, SliceFigures
from pelagos_contract.labels import Labels
from pelagos_contract.preprocessing import Preprocessing, Statistics, Tile, ToldStatistics
from pelagos_contract.progress import Stage
from pelagos_contract.remote_sources import Origin
from pelagos_contract.splits import SPLITS
from pelagos_pipelines import storage
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.acyclic import rarely_collected
from pelagos_pipelines.annotations.model import Asked, Collection, Exclusion, SourceFiles
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.preparation import (
    balancing,
    blobs,
    cleaning,
    emptied,
    integrity,
    labelling,
    leakage,
    ledger,
    published,
    resizing,
    splitting,
    statistics,
    tiling,
    versions,
)
from pelagos_pipelines.preparation.capturing import applying as capturing
from pelagos_pipelines.preparation.judging import making as judging
from pelagos_pipelines.preparation.judging.page import AlteredExamples
from pelagos_pipelines.preparation.scanner import scanner_for
from pelagos_pipelines.preparation.statistics import Wanted
from pelagos_pipelines.preparation.versions import Derived
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.sources import fetched
from pelagos_pipelines.sources import kept as kept_images
from pelagos_pipelines.sources import registry as sources
from pelagos_pipelines.sources.kept import Kept
from pelagos_pipelines.steps import collect, publish, runs
from pelagos_pipelines.steps.holding import held
from pelagos_pipelines.steps.telling import Telling
from pelagos_pipelines.storage import Place
from pelagos_pipelines.taxonomy import answers, naming

REQUEST = ".request.json"
"""The file with the request, beside the result that answers it."""
CAPTURE = "capture.jsonl"
"""The file beside a version's report with all missing values of capture data; not part of its digest."""
INSPECTIONS = looks.FILE
"""The file in the store with findings about images, by their content."""
FETCHED = kept_images.FILE
"""The file in the store with the images that were fetched from the source."""
_MEMORIES = frozenset({INSPECTIONS, FETCHED, answers.FILE})
"""Files in the store that only save work."""

_NOT_TOLD = frozenset({"source", "classFolder", "retry"})
"""Fields of the request that are not part of a version's recipe: they say where it comes from, and how that is read."""


def prepare(request: str, data_root: str, store: str, report: str) -> None:
    """Create a version of the source below ``store``, and write ``result.json`` or ``failure.json`` into ``report``.

    Args:
        request: JSON of dataset.PreparationRequest.
        data_root: the data volume, in which the source's path is resolved.
        store: the folder of the Dataset's versions and blobs.
        report: the folder of this run; an existing result is kept.

    Raises:
        RefusedError: the author of the Dataset must change something; ``failure.json`` says what.
    """
    if collect.is_asked(request):
        collect.collect(request, store, report)
        return
    if publish.is_asked(request):
        publish.publish(request, report)
        return
    with rarely_collected(), runs.scratch_for(report) as scratch, runs.reporting(report, scratch) as place:
        parsed = runs.understood(PreparationRequest, request)
        asked = parsed.model_dump_json(by_alias=True)
        place.pull()
        finished = _finished(place.folder, asked, scratch)
        if finished is not None:
            runs.confirm(place, finished)
            return
        before = _before(place.folder, parsed, scratch)
        # An old result is of another request, or of a version that no longer exists. Readers must not take it for the answer.
        place.remove(reports.RESULT)
        kept = Place(store, scratch / "store")
        telling = Telling(place)
        with held(kept) as confirm:
            kept.pull(lambda path: path in _MEMORIES)
            telling.enter(Stage.FETCHING)
            images = Kept(kept.folder, kept.bucket, store)
            tree, origin = _fetched(parsed, data_root, scratch / "data", telling, before, images)
            if before is not None and tree is None:
                result = before.model_copy(update={"origin": origin})
            else:
                assert tree is not None
                result = _prepare(parsed, tree, kept, telling, confirm, images).model_copy(update={"origin": origin})
            # Written before the result, which counts only beside the request that it answers.
            disk.write_atomically(place.folder / REQUEST, asked, parents=True)
            telling.close()
            runs.leave(place, result)


def _fetched(
    request: PreparationRequest,
    data_root: str,
    scratch: Path,
    telling: Telling,
    before: PreparationResult | None,
    kept: Kept,
) -> tuple[SourceFiles | None, Origin | None]:
    """The files of the source, and their origin. No files if the source is still as when ``before`` was created from it."""
    source = request.source
    place = sources.remote(source)
    if place is None:
        return sources.obtain(source, data_root, scratch), None
    scratch.mkdir(parents=True, exist_ok=True)
    with fetched.errand(source, scratch, telling.count_bytes, kept) as errand:
        fields = getattr(source, source.place)
        origin = place.look(fields, errand)
        known = before.origin if before is not None else None
        if known is not None and known.state and known.state == origin.state:
            return None, known
        return place.fetch(fields, errand, origin)


def _before(report: Path, request: PreparationRequest, scratch: Path) -> PreparationResult | None:
    """The result of an earlier preparation of the same source by the same recipe, if there is one."""
    try:
        asked = PreparationRequest.model_validate_json((report / REQUEST).read_bytes())
    except (OSError, ValueError):
        return None
    same = asked.model_copy(update={"retry": request.retry}) == request
    return _finished(report, asked.model_dump_json(by_alias=True), scratch) if same else None


def _finished(report: Path, asked: str, scratch: Path) -> PreparationResult | None:
    """The result of this request if an attempt of this run has left one, and the version that it names still exists."""
    try:
        if (report / REQUEST).read_text(encoding="utf-8") != asked:
            return None
        told = sealing.opened(sealing.document(report / reports.RESULT))
        result = PreparationResult.model_validate(told)
        if storage.is_remote(result.uri):
            published.require_complete(result.uri, scratch / "finished")
        else:
            versions.read(result.uri)
    except (OSError, ValueError, RefusedError):
        return None
    return result


def _prepare(
    request: PreparationRequest,
    tree: SourceFiles,
    kept: Place,
    telling: Telling,
    confirm: Callable[[], None],
    images: Kept,
) -> PreparationResult:
    gathered = _gathered(request, tree, kept, telling)
    inspections = gathered.inspections
    divided = _divided(request, gathered)
    plan = _planned(request, gathered, divided)
    balance = ledger.balance(
        tree,
        {image.file for image in divided.images},
        gathered.taken.collection.annotation_files,
        (*tree.excluded, *gathered.excluded, *divided.excluded),
    )
    telling.enter(Stage.WRITING)
    version = versions.write(
        kept.folder,
        tree,
        _collection(gathered, divided, balance),
        inspections,
        _recipe(request, gathered.format) | {"sourceDigest": versions.source_digest(gathered.read, inspections)},
        Derived(gathered.statistics(divided), plan),
    )
    # Only unchanged images are listed as fetched: tiles and converted images are not as in the source.
    as_they_are = (one.path for one in divided.images if one.part is None and inspections[one.path].converted is None)
    images.write({path: (inspections[path].sha256, inspections[path].size) for path in as_they_are})
    judged = _judged(version, tree, gathered, divided, plan)
    uri = str(version.folder.resolve())
    if kept.bucket is not None:
        uri = published.publish(version, kept.bucket, confirm)
        # After the version, because these only save work: without them, the next preparation fetches and inspects all images
        # again.
        kept.push(lambda path: path in _MEMORIES or path.startswith(f"versions/{version.digest}/{FOLDER}/"))
    result = _result(version, uri, gathered.cleaned, divided, balance, judged.warnings)
    told = {
        "report": f"{uri}/{judged.report}" if judged.report else None,
        "slices": judged.slices,
        "leakage": judged.known.leaks and judged.known.leaks.figures,
        "balance": judged.known.balanced,
        "files": result.files.model_copy(update={"tiles": gathered.tiles}),
        "capture": judged.captured,
    }
    return result.model_copy(update=told)


@dataclass(frozen=True)
class _Gathered:
    """The content of a version before it is divided.

    ``read`` has the annotations as in the files; ``cleaned`` has the remaining images and annotations, with the Dataset's
    classes.
    """

    format: str
    read: Collection
    taken: capturing.Taken
    cleaned: cleaning.Cleaned
    inspections: Mapping[str, integrity.Inspection]
    tiles: Tiles | None
    wanted: Wanted | None

    @property
    def excluded(self) -> tuple[Exclusion, ...]:
        """The images that reading and cleaning have left out."""
        return (*self.taken.collection.excluded, *self.cleaned.excluded)

    @property
    def digests(self) -> Mapping[str, str]:
        """The sha256 of the remaining images, by path."""
        return {image.path: self.inspections[image.path].sha256 for image in self.cleaned.collection.images}

    def statistics(self, divided: splitting.Divided) -> Statistics | None:
        """The statistics of the training split, which is never empty; None if they are not requested."""
        if self.wanted is None:
            return None
        seen = [self.inspections[image.path] for image in divided.images if image.split == "train"]
        return statistics.of((one.channels, one.shown[0] * one.shown[1]) for one in seen if one.channels is not None)


@dataclass(frozen=True)
class _Judged:
    """Information about a version for people: its report, if there is one, warnings and figures."""

    known: judging.Known
    warnings: Sequence[str]
    captured: Captured | None
    report: str
    slices: Sequence[SliceFigures]


def _gathered(request: PreparationRequest, tree: SourceFiles, kept: Place, telling: Telling) -> _Gathered:
    store = kept.folder
    reader, readable = capturing.choose(request.format, tree, request.task, request.capture)
    telling.enter(Stage.CHECKING_IMAGES)
    wanted = Wanted.by(request.preprocessing)
    declared = request.preprocessing or Preprocessing()
    tile, longest = declared.tile, None if declared.resize is None else declared.resize.longest
    inspections: Mapping[str, integrity.Inspection] = integrity.inspect_tree(
        tree, store / INSPECTIONS, telling.count, partial(blobs.keep, store), wanted, tile=tile, longest=longest
    )

    def size(path: str) -> tuple[int, int] | None:
        seen = inspections[path]
        return None if seen.problem is not None else (seen.width, seen.height)

    telling.enter(Stage.READING_ANNOTATIONS)
    # Images were inspected before annotations are read, because relative coordinates need the real sizes.
    labels = request.labels or Labels()
    read = registry.read(reader, readable, size, Asked(request.task, request.class_folder, labels.level))
    taken = capturing.applied(
        _labelled(read, labels, tree, kept), tree, request.capture, lambda path: size(path) is not None
    )
    telling.enter(Stage.DIVIDING)
    cleaned = resizing.scaled(cleaning.clean(taken.collection, inspections, request.cleaning), inspections)
    tiles = None
    if tile is not None:
        telling.enter(Stage.TILING)
        keep = partial(blobs.keep, store)
        tiled = tiling.cut(cleaned, inspections, tile, _cutter(tree, inspections, tile, keep, wanted), telling.count)
        cleaned, inspections, tiles = tiled.cleaned, tiled.inspections, tiled.tiles
    cleaned = emptied.without(taken.collection, cleaned)
    return _Gathered(reader.name, read, taken, cleaned, inspections, tiles, wanted)


def _divided(request: PreparationRequest, gathered: _Gathered) -> splitting.Divided:
    cleaned, overlapping = gathered.cleaned, gathered.taken.collection.overlapping
    try:
        return splitting.divide(
            cleaned.collection.images, gathered.digests, cleaned.repeats, request.split, overlapping, cleaned.alike
        )
    except RefusedError as error:
        raise ledger.reminded(error, gathered.excluded) from error


def _planned(request: PreparationRequest, gathered: _Gathered, divided: splitting.Divided) -> balancing.Plan | None:
    """The plan of how often trainings show each image; None if no balance is declared."""
    if request.balance is None:
        return None
    order = balancing.chance(request.split.seed, gathered.digests)
    classes, task = gathered.cleaned.collection.classes, gathered.taken.collection.task
    return balancing.plan(divided.images, classes, task, request.balance, order)


def _collection(gathered: _Gathered, divided: splitting.Divided, balance: ledger.Balance) -> Collection:
    found, classes = gathered.taken.collection, gathered.cleaned.collection.classes
    return Collection(
        found.task,
        classes,
        divided.images,
        excluded=tuple(balance.excluded),
        taxonomy=found.taxonomy and found.taxonomy.within(classes),
    )


def _cutter(
    tree: SourceFiles,
    inspections: Mapping[str, integrity.Inspection],
    tile: Tile,
    keep: integrity.Keep,
    wanted: Wanted | None,
) -> tiling.Cutter:
    """Creates tiles; if statistics are requested, each tile is inspected as well."""
    ceilings = Ceilings.read()
    inspector = integrity.inspector_for(ceilings)
    look = None if wanted is None else partial(inspector.inspect, wanted=wanted)
    return tiling.Cutter(tree, inspections, scanner_for(ceilings), tile, keep, look)


def _labelled(read: Collection, labels: Labels, tree: SourceFiles, kept: Place) -> Collection:
    """The collection with the requested classes, and the taxa that a register of names has for them."""
    asked = labels.taxonomy
    if asked is None:
        return labelling.applied(read, labels)
    try:
        with naming.register_of(asked, tree, kept.folder) as register:
            found = labelling.applied(read, labels, lambda classes: naming.named(classes, asked, register, read.unused))
    except RefusedError:
        # Keep the answers that a service gave before it failed, so that they need not be requested again on the next machine.
        if kept.bucket is not None and (kept.folder / answers.FILE).exists():
            kept.write(answers.FILE, (kept.folder / answers.FILE).read_bytes())
        raise
    if asked.table is None or asked.table in found.annotation_files:
        return found
    return replace(found, annotation_files=(*found.annotation_files, asked.table))


def _judged(
    version: versions.Version,
    tree: SourceFiles,
    gathered: _Gathered,
    divided: splitting.Divided,
    plan: balancing.Plan | None,
) -> _Judged:
    cleaned, taken = gathered.cleaned, gathered.taken
    balanced = balancing.told(plan, version.collection)
    seen = {image.path: gathered.inspections[image.path].look for image in divided.images}
    leaks = leakage.measure(divided.images, cleaned.repeats, cleaned.alike, seen)
    warnings = (
        *tree.warnings,
        *cleaned.collection.warnings,
        *taken.warnings,
        *divided.warnings,
        *balancing.warnings(balanced),
        *leaks.warnings,
    )
    captured, known = taken.of(version.collection.images), judging.Known(leaks, balanced)
    report, slices = _reported(version, cleaned, warnings, known, captured)
    if taken.wanted is not None:
        lines = b"".join(taken.findings.lines)
        disk.write_atomically(version.folder / FOLDER / CAPTURE, lines, parents=True)
    return _Judged(known, warnings, captured, report, slices)


def _reported(
    version: versions.Version,
    cleaned: cleaning.Cleaned,
    warnings: Sequence[str],
    known: judging.Known,
    captured: Captured | None,
) -> tuple[str, list[SliceFigures]]:
    """Write the report. Returns its path in the version and the figures of slices; both are empty if that fails.

    No version fails for its report.
    """
    counted = {
        "unreadable files": cleaned.corrupt,
        "duplicates": cleaned.duplicates,
        "near duplicates": cleaned.near_duplicates,
        "leaked images": known.leaks.figures.leaked if known.leaks is not None else 0,
    }
    if captured is not None:
        counted |= {f"with a known {each.field}": each.known for each in captured.fields}
    try:
        if version.augmentation is not None:
            known = replace(known, altered=_altered(version))
        alike = {**{path: (first,) for path, first in cleaned.repeats.items()}, **cleaned.alike}
        made = judging.make(version, counted, warnings, alike, known)
    except Exception:  # the report is for people; an error in it must not fail the version, which is already written
        logging.getLogger(__name__).exception("The report of the version %s cannot be made", version.digest)
        return "", []
    return made.page.relative_to(version.folder).as_posix(), list(made.slices)


def _altered(version: versions.Version) -> AlteredExamples | None:
    from pelagos_pipelines.training import augmentation_sheet  # imports OpenCV, which other preparations do not load

    return augmentation_sheet.drawn(version)


def _recipe(request: PreparationRequest, format_name: str) -> dict[str, Any]:
    """Everything besides the source that decides the version's content, in the form that its digest covers."""
    told = history.of_subject("Dataset").canonical(request)
    recipe = {name: value for name, value in told.items() if name not in _NOT_TOLD}
    if request.labels is not None and request.labels.taxonomy is not None:
        # The register that was asked is not part of the recipe; its answers are part of the version.
        named = {name: value for name, value in told["labels"]["taxonomy"].items() if name not in {"table", "url"}}
        recipe |= {"labels": told["labels"] | {"taxonomy": named}}
    made_by = algorithms.canonical(algorithms.of_preparation(format_name, request.task))
    return recipe | {"format": format_name} | ({"algorithms": made_by} if made_by else {})


def _result(
    version: versions.Version,
    uri: str,
    cleaned: cleaning.Cleaned,
    divided: splitting.Divided,
    balance: ledger.Balance,
    warnings: Sequence[str],
) -> PreparationResult:
    images = version.collection.images
    showing = Counter(label for image in images for label in image.labels)
    task = TASKS.named(version.collection.task)
    marks = Counter(label for image in images for label in task.marks(image))
    splits = Counter(image.split for image in images)
    quality: dict[str, Any] = {
        "found": balance.pictures,
        "corrupt": cleaned.corrupt,
        "duplicates": cleaned.duplicates,
        "nearDuplicates": cleaned.near_duplicates,
        "tooSmall": cleaned.too_small,
        "leakage": divided.leakage,
    }
    named = version.collection.taxonomy
    taxa = {} if named is None else named.taxa()
    return PreparationResult(
        version=f"sha256:{version.digest}",
        uri=uri,
        images=len(images),
        annotations=marks.total(),
        classes=[
            ClassCount(
                name=name,
                images=showing[name],
                annotations=marks[name],
                aphia_id=taxa[name].aphia_id if name in taxa else None,
            )
            for name in version.collection.classes
        ],
        splits={split: SplitCount(images=splits[split]) for split in SPLITS},
        quality=Quality.model_validate(quality),
        files=balance.files,
        excluded=balance.by_reason,
        altered=list(cleaned.collection.altered),
        measured=list(cleaned.measured),
        statistics=None if version.statistics is None else ToldStatistics.of(version.statistics),
        corrections=list(cleaned.collection.corrections),
        warnings=list(warnings),
        taxonomy=None if named is None else named.told,
    )
