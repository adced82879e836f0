"""Dataset versions in a store: written once, named by their content, verified whenever they are read.

The step prepare writes them; trainings create views of them. The files are specified in docs/design/0001: other code may read
them, but only this module writes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.dataset import Change
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.metadata import Taxon
from pelagos_contract.preprocessing import Preprocessing, Statistics
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import Lineage, TaxonomyRecord, ToldTaxonomy
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.linking import Blobs, file_of
from pelagos_pipelines.annotations.model import Collection, ImageRecord, Part, SourceFiles
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.tasks.strategy import Strategy
from pelagos_pipelines.preparation import blobs, ledger, verifying
from pelagos_pipelines.preparation.balancing import Plan
from pelagos_pipelines.preparation.integrity import Inspection
from pelagos_pipelines.preparation.locks import PARTIAL, read_below

SCHEMA_VERSION = 1
MARKER = ".pelagos-view"
HELD = ".held.json"
"""In a version that was downloaded from object storage: the splits whose images were downloaded."""
EXCLUDED = "excluded.jsonl"
"""The files that are not in the version, and why. Versions of earlier releases do not have it."""
TAXONOMY = "taxonomy.json"
"""The answers of a register of names about the classes, if one was asked: which register, when, and the taxa above each."""
OPTIONAL = frozenset({EXCLUDED, TAXONOMY})
LARGEST = {"manifest.json": 512 * 1024**2, "annotations.json": 1024**3, EXCLUDED: 512 * 1024**2, TAXONOMY: 32 * 1024**2}
"""The most bytes per file: enough for a million images with long names, and for several million boxes."""
MOST_PIXELS = 2**31
"""The limit of an image's side, more than any supported format can have."""
_READABLE = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True)
class Version:
    """A version on disk. ``collection`` has sizes and splits; ``blobs`` has the file of every image by path."""

    digest: str
    folder: Path
    collection: Collection
    blobs: Mapping[str, Path]
    held: frozenset[str] | None = None
    """The splits whose blobs are here; None if all are."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """The recipe's changes of pixels before a model sees them; colour correction and normalisation are not applied to blobs."""
    statistics: Statistics | None = None
    """Statistics of the training split, if the recipe declares that inputs are normalised by them."""
    balance: Plan | None = None
    """How often an epoch shows each training image, and the weights of classes, if the recipe declares a balance."""
    augmentation: Augmentation | None = None
    """The augmentation of training images, if the recipe declares one."""

    def holds(self, image: ImageRecord) -> bool:
        """Whether the image's blob must be here."""
        return self.held is None or image.split in self.held


@dataclass(frozen=True)
class Derived:
    """Values that a preparation computes for trainings if the recipe declares them; see the fields of `Version`."""

    statistics: Statistics | None = None
    balance: Plan | None = None

    def written(self) -> dict[str, Any]:
        """The entries for a manifest."""
        found: dict[str, Any] = {}
        if self.statistics is not None:
            found["statistics"] = self.statistics.model_dump()
        if self.balance is not None:
            found["balance"] = self.balance.written()
        return found


def source_digest(collection: Collection, inspections: Mapping[str, Inspection]) -> str:
    """The digest of all images in the source and of their annotations, before cleaning."""
    found = {image.path: inspections[image.path].sha256 for image in collection.images}
    digest = hashlib.sha256(b"[" + _canonical(found) + b",[")
    _feed(digest, _lines(collection.task, collection.images))
    digest.update(b"]]")
    return digest.hexdigest()


def write(
    store: Path,
    tree: SourceFiles,
    collection: Collection,
    inspections: Mapping[str, Inspection],
    recipe: Mapping[str, Any],
    derived: Derived | None = None,
) -> Version:
    """Store a version, or find it in the store. The caller must hold the store.

    Files beside the data in the source are not part of a version's identity, nor is the time of a taxonomy lookup or the taxa
    above its classes. For a version that exists already, these records are updated.

    ``recipe`` must hold all settings that decide the content, and nothing that names a machine, a path or a time.

    Raises:
        SourceChangedError: an image has changed since it was inspected.
        OSError: a file could not be written; no incomplete version has the version's name.
    """
    images = sorted(collection.images, key=lambda image: image.path)
    manifest = {
        "schemaVersion": SCHEMA_VERSION,
        "task": collection.task.value,
        "recipe": recipe,
        "classes": list(collection.classes),
        "images": [
            {
                "path": image.path,
                **_described(inspections[image.path], image),
                "width": image.width,
                "height": image.height,
                "split": image.split,
                "group": image.group,
                **({} if image.capture is None else {"capture": image.capture.document()}),
            }
            for image in images
        ],
        "excluded": ledger.digest(ledger.lines(collection.excluded)),
    }
    if derived is not None:
        manifest |= derived.written()
    if collection.taxonomy is not None:
        manifest["taxa"] = {name: taxon.written() for name, taxon in collection.taxonomy.taxa().items()}
    digest = _digest(manifest, _lines(collection.task, images))
    folder = store / "versions" / digest
    # Blobs are written first, so that a version with its final name has all of them, whenever this process ends. A killed process
    # leaves blobs that no version names; the next preparation finds and uses them.
    blobs.write(store / "blobs", tree, {inspections[image.path].blob: image.path for image in images}, inspections)
    beside = {EXCLUDED: b"".join(ledger.lines(collection.excluded))}
    if collection.taxonomy is not None:
        beside[TAXONOMY] = orjson.dumps(collection.taxonomy.written(), option=_READABLE)
    if not _is_intact(folder):
        # A damaged or partly removed version can be replaced without loss, because its name determines its content.
        shutil.rmtree(folder, ignore_errors=True)
        named = orjson.dumps({**manifest, "digest": f"sha256:{digest}"}, option=_READABLE)
        content = {
            "manifest.json": [named],
            "annotations.json": _pieces(_lines(collection.task, images)),
            **{name: [found] for name, found in beside.items()},
        }
        _write_folder(folder, content)
    for name, there in beside.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != there:
            disk.write_atomically(folder / name, there)
    # Read back as its readers will do, so that no version is reported that they would refuse.
    return read(folder)


def _described(inspection: Inspection, image: ImageRecord) -> dict[str, Any]:
    """A manifest's entries about an image's file, about its original if that differs, and about the place of a tile."""
    described: dict[str, Any] = {"sha256": inspection.blob.sha256, "size": inspection.blob.size}
    if inspection.converted is not None:
        described["original"] = {"sha256": inspection.sha256, "size": inspection.size}
    if inspection.reduced is not None:
        described["original"] |= {"width": inspection.width, "height": inspection.height}
    if image.part is not None:
        described["tile"] = asdict(image.part)
    return described


def read(uri: str | Path, *, are_verified: bool = False) -> Version:
    """Read the version at ``uri``. Its files must match its digest, and its blobs must exist in full size.

    With ``are_verified`` blobs are not checked here, because the caller reads them afterwards (`verify`).

    Raises:
        RefusedError: DATASET_NOT_READABLE.
    """
    folder = Path(uri)
    try:
        _require_plausible(folder)
        manifest = orjson.loads((folder / "manifest.json").read_bytes())
        stated = manifest.pop("digest").removeprefix("sha256:")
        marks = _Marks(TASKS.named(manifest["task"]), manifest["classes"])
        with (folder / "annotations.json").open("rb") as file:
            digest = _digest(manifest, map(marks.take, _annotations_in(file)))
        if digest != stated or folder.resolve().name != stated:
            raise _unreadable(folder, "its content does not match its digest")
        # Versions of earlier releases have no list of exclusions.
        if (excluded := manifest.get("excluded")) is not None:
            with (folder / EXCLUDED).open("rb") as file:
                if ledger.digest(file) != excluded:
                    raise _unreadable(folder, f"{EXCLUDED} does not match its digest")
        there, held = folder.resolve().parent.parent / "blobs", folder / HELD
        collection = Collection(
            Task(manifest["task"]),
            tuple(manifest["classes"]),
            tuple(map(marks.record, manifest["images"])),
            taxonomy=_named(folder, manifest),
        )
        plan, altered = manifest.get("balance"), manifest["recipe"].get("augmentation")
        version = Version(
            digest=stated,
            folder=folder,
            collection=collection,
            blobs=Blobs(there, {entry["path"]: entry["sha256"] for entry in manifest["images"]}),
            held=frozenset(orjson.loads(held.read_bytes())) if held.exists() else None,
            preprocessing=_preprocessing(manifest["recipe"]),
            statistics=None if (found := manifest.get("statistics")) is None else Statistics.model_validate(found),
            balance=None if plan is None else Plan.restored(plan, collection.images, collection.classes),
            augmentation=None if altered is None else Augmentation.model_validate(altered),
        )
        # Only sizes are checked: reading every blob takes minutes, and is for callers that use the pixels (`verify`).
        sizes = {image["path"]: image["size"] for image in manifest["images"]}
        for image in () if are_verified else filter(version.holds, version.collection.images):
            size = os.stat(file_of(version.blobs, image.path)).st_size  # noqa: PTH116 - creating a Path takes longer
            if size != sizes[image.path]:
                raise _unreadable(folder, f"the image {image.path} has {size} bytes instead of {sizes[image.path]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(
            folder, f"its files are not there, or not those of a version ({type(error).__name__})"
        ) from error
    return version


def _named(folder: Path, manifest: Mapping[str, Any]) -> TaxonomyRecord | None:
    """The taxa of the classes, from the manifest; the taxa above them and the register, from the file beside it if it exists."""
    if manifest.get("taxa") is None:
        return None
    taxa = {name: Taxon.model_validate(taxon) for name, taxon in manifest["taxa"].items()}
    beside = TaxonomyRecord(told=ToldTaxonomy(authority="WoRMS", source="", taxa=len(taxa)))
    with contextlib.suppress(OSError, ValueError):
        beside = TaxonomyRecord.model_validate_json((folder / TAXONOMY).read_bytes())
    above = {each.name: each.above for each in beside.classes if taxa.get(each.name) == each.taxon}
    classes = [Lineage(name=name, taxon=taxon, above=above.get(name, [])) for name, taxon in taxa.items()]
    return beside.model_copy(update={"classes": classes})


def verify(version: Version) -> None:
    """Read every blob and compare it with its name, unless this process has done so and none was written or linked since.

    Raises:
        RefusedError: DATASET_NOT_READABLE when a blob is damaged or cannot be read.
    """
    files = sorted({file_of(version.blobs, image.path) for image in version.collection.images if version.holds(image)})
    try:
        before = verifying.state(files)
        if verifying.verified.get(version.digest) == before:
            return
        if (damaged := verifying.first_damaged(files)) is not None:
            raise _unreadable(version.folder, f"the image {damaged} is damaged")
    except OSError as error:
        raise _unreadable(version.folder, f"an image cannot be read ({type(error).__name__})") from error
    verifying.verified[version.digest] = before


def materialise(version_uri: str | Path, view: str, target: Path) -> Altered:
    """Create a view, such as ``yolo`` or ``coco``, in ``target``: hard links to verified blobs, with annotations beside them.

    Returns at once when the view exists already. Starts from scratch when it is of another version, or was interrupted. The
    result counts the annotations that the view does not hold completely.

    Raises:
        RefusedError: DATASET_NOT_READABLE; TASK_MISMATCH when the view cannot hold the version's annotations.
        FileExistsError: ``target`` holds other files.
        FullError: there was too little space; no part of the view remains.
        ValueError: there is no such view.
    """
    with read_below(version_uri):
        return _materialise(version_uri, view, target)


def _materialise(version_uri: str | Path, view: str, target: Path) -> Altered:
    kind = registry.of_view(view)
    wanted = f"{view} {Path(version_uri).resolve().name}\n"
    marker = target / MARKER
    if marker.exists():
        if marker.read_text(encoding="utf-8") == wanted and Path(version_uri, "manifest.json").exists():
            return Altered()
        shutil.rmtree(target)
    elif target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} holds other files; name a folder that is empty or does not exist")
    version = read(version_uri, are_verified=True)
    if kind.write is None or not kind.carries(version.collection.task):
        raise RefusedError(
            Reason.TASK_MISMATCH,
            f"the view {view} is for {kind.tasks}, the version for {version.collection.task.value}; choose another view",
            "dataset.uri",
        )
    # Blobs are verified before they are linked under other names, which can no longer be compared with a digest.
    verify(version)
    images = tuple(image for image in version.collection.images if version.holds(image))
    with disk.written(target):
        target.mkdir(parents=True, exist_ok=True)
        # Written first, so that an interrupted view is recognised as one of ours, and replaced.
        marker.write_text("interrupted\n", encoding="utf-8")
        altered = kind.write(target, replace(version.collection, images=images), version.blobs)
        disk.write_atomically(marker, wanted, parents=True)
    altered = altered or Altered()
    for crowd in () if kind.description.holds_crowds else (each for image in images for each in image.crowds):
        altered.add(crowd, Change.CROWD)
    return altered


# --- content


def _canonical(content: object) -> bytes:
    found: bytes = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return found


def _lines(task: Task, images: Iterable[ImageRecord]) -> Iterator[bytes]:
    """The annotations of each image, one line each. With millions of boxes, they must never all exist as objects at once."""
    strategy = TASKS.named(task)
    for image in images:
        crowds = {"crowds": [crowd.document() for crowd in image.crowds]} if image.crowds else {}
        yield _canonical({"path": image.path, **strategy.stored(image), **crowds})


def _feed(digest: Any, lines: Iterable[bytes]) -> None:
    for number, line in enumerate(lines):
        digest.update(b"," + line if number else line)


def _digest(manifest: Mapping[str, Any], lines: Iterable[bytes]) -> str:
    """The digest of the canonical JSON of manifest and annotations, the latter line by line."""
    digest = hashlib.sha256(b"[" + _canonical(manifest) + b',{"images":[')
    _feed(digest, lines)
    digest.update(b'],"schemaVersion":%d}]' % SCHEMA_VERSION)
    return digest.hexdigest()


def digest_of(folder: Path) -> str:
    """The digest of ``manifest.json`` and ``annotations.json`` in a folder, whether or not the manifest states it.

    Raises:
        OSError: a file does not exist, or cannot be read.
        ValueError, KeyError, TypeError: they are not the files of a version.
    """
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest.pop("digest", None)
    with (folder / "annotations.json").open("rb") as file:
        return _digest(manifest, map(_canonical, _annotations_in(file)))


_HEAD, _TAIL = b'{"images":[\n', b'],"schemaVersion":%d}\n' % SCHEMA_VERSION


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The content of annotations.json, with one line for each image, so that it can be read in pieces."""
    yield _HEAD
    for number, line in enumerate(lines):
        yield b",\n" + line if number else line
    yield b"\n" + _TAIL


def _annotations_in(file: BinaryIO) -> Iterator[Any]:
    """The entries of annotations.json, one for each image. Files of earlier releases, without lines, are read whole."""
    if file.readline() != _HEAD:
        file.seek(0)
        content = orjson.loads(file.read())
        if content["schemaVersion"] != SCHEMA_VERSION or len(content) != 2:
            raise ValueError("schemaVersion")
        yield from content["images"]
        return
    line = b""
    for line in file:
        if line == _TAIL:
            return
        if line.strip():
            yield orjson.loads(line.rstrip(b",\n"))
    raise ValueError("it has no end")


class _Marks:
    """The annotations of a version by path, in little memory."""

    def __init__(self, task: Strategy, classes: Sequence[str]) -> None:
        self._task = task
        self._classes = tuple(classes)
        self._numbers = {name: number for number, name in enumerate(self._classes)}
        self._found: dict[str, ImageRecord] = {}
        self._crowds: dict[str, tuple[Shape, ...]] = {}

    def take(self, mark: Any) -> bytes:
        """Keep the annotations in ``mark``, and return its canonical JSON for the digest."""
        self._found[mark["path"]] = self._task.restored(mark, self._numbers, self._classes)
        if told := mark.get("crowds"):  # most images have none
            self._crowds[mark["path"]] = crowds = tuple(map(Shape.restored, told))
            if not {crowd.label for crowd in crowds} <= self._numbers.keys():
                raise ValueError("crowds")
        return _canonical(mark)

    def record(self, entry: Any) -> ImageRecord:
        """The image with its annotations and the manifest's ``entry``."""
        known = self._found[entry["path"]]
        width, height, group, split = rest = (entry["width"], entry["height"], entry["group"], entry["split"])
        if not (type(width) is type(height) is int and 0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS):
            raise ValueError("width, height")
        if not (group is None or type(group) is str) or not (split is None or split in SPLITS):
            raise ValueError("group, split")
        told = entry.get("capture")  # most images have none
        capture = None if told is None else Capture.restored(told)
        part = None if (tile := entry.get("tile")) is None else _part(tile)
        # This takes a third of the time of dataclasses.replace.
        crowds = self._crowds.get(known.path, ())
        return ImageRecord(known.path, *rest, known.label, known.boxes, known.shapes, part, capture, crowds)


def _part(tile: Any) -> Part:
    """Parse a tile's place. Raises ValueError, TypeError or KeyError for an invalid one."""
    of, x, y = tile["of"], tile["x"], tile["y"]
    if type(of) is not str or not of or any(type(at) is not int or not 0 <= at < MOST_PIXELS for at in (x, y)):
        raise ValueError("tile")
    return Part(of, x, y)


def _preprocessing(recipe: Mapping[str, Any]) -> Preprocessing:
    """Parse a recipe's preprocessing. Raises ValueError, also for tiles that the schema of a Dataset does not allow."""
    found = Preprocessing.model_validate(recipe.get("preprocessing") or {})
    if found.tile is not None and 2 * found.tile.overlap > found.tile.size:
        raise ValueError("preprocessing.tile.overlap")
    return found


def _require_plausible(folder: Path) -> None:
    """Check the sizes of files before any is read: anyone who can write to the store may have put anything there."""
    for name, limit in LARGEST.items():
        if name in OPTIONAL and not (folder / name).exists():
            continue
        size = (folder / name).stat().st_size
        if size > limit:
            raise _unreadable(folder, f"{name} has {size} bytes, and no version of ours more than {limit}")


def _unreadable(folder: Path, why: str) -> RefusedError:
    return RefusedError(
        Reason.DATASET_NOT_READABLE,
        f"the dataset version at {folder} is missing, incomplete or changed: {why}; prepare the dataset again",
        "dataset.uri",
    )


# --- files


def _is_intact(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        read(folder)
    except RefusedError:
        return False
    return True


def _write_folder(folder: Path, files: Mapping[str, Iterable[bytes]]) -> None:
    partial = folder.with_name(f"{PARTIAL}{folder.name}")  # renaming is atomic only within a file system
    shutil.rmtree(partial, ignore_errors=True)
    with disk.written(partial):
        partial.mkdir(parents=True)
        for name, content in files.items():
            with (partial / name).open("wb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
        # Renamed last, when content and names are on disk, so that after a power cut there is a whole version or none.
        blobs.sync_folder(partial)
        partial.rename(folder)
    blobs.sync_folder(folder.parent)
