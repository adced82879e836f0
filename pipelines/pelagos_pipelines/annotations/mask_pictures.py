"""Label masks: for each image a picture whose pixels have the colour or number of a class, as in CVAT's "Segmentation mask".

``labelmap.txt`` has the colours (``name:red,green,blue::``), or ``classes.txt`` the numbers: that of a class is its line number,
counted from 0, and the first line is the background. A picture in ``SegmentationObject/`` distinguishes objects. Without it, a
class is one mask per image, which is not an object: a piece may be part of an object, or several touching ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.formats import MASKS
from pelagos_contract.splits import Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import mask_pictures_document, naming, reading
from pelagos_pipelines.annotations.coco_panoptic import THING
from pelagos_pipelines.annotations.drawings import Drawings, Drawn
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import (
    Asked,
    Collection,
    Format,
    Sizes,
    SourceFiles,
    only_split,
    split_of,
    suffix,
)
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import format_names, invalid, printable

_PICTURES = "pelagos_pipelines.annotations.label_pictures_document"
_CLASSES = frozenset({"segmentationclass", "masks", "mask"})
_OBJECTS = "segmentationobject"
_END = "_mask"
_LISTS = ("imagesets", "segmentation")
_VOID_COLOUR = 224 + 256 * 224 + 65536 * 192
_VOID_NUMBER = 255
_OF_OBJECTS = frozenset({Task.DETECTION, Task.ORIENTED_DETECTION, Task.INSTANCE_SEGMENTATION})


def _files(tree: SourceFiles) -> list[str]:
    found = {PurePosixPath(path).name.lower(): path for path in reversed(tree.files)}
    return [found[name] for name in ("labelmap.txt", "classes.txt") if name in found][:1]


def _pictures(tree: SourceFiles) -> list[str]:
    """The pictures of classes and of objects."""
    return [path for path in tree.images if suffix(path) == ".png" and (_is_of_classes(path) or _is_of_objects(path))]


def _is_of_classes(path: str) -> bool:
    return PurePosixPath(path).stem.lower().endswith(_END) or not _CLASSES.isdisjoint(_folders(path))


def _is_of_objects(path: str) -> bool:
    return _OBJECTS in _folders(path)


def _folders(path: str) -> list[str]:
    return path.lower().split("/")[:-1]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are pictures, and a file with the classes of their pixels."""
    return bool(_files(tree)) and any(map(_is_of_classes, _pictures(tree))) and TOOL.recognised(tree, _files(tree))


def read(tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """Read the masks. Refused for a task with objects if the pictures do not distinguish them."""
    pictures = _pictures(tree)
    if asked.task in _OF_OBJECTS:
        objects = {_key(path) for path in pictures if _is_of_objects(path)}
        bare = [path for path in pictures if not _is_of_objects(path) and _key(path) not in objects]
        if bare:
            raise RefusedError(
                Reason.TASK_MISMATCH,
                f"task is {asked.task.value}, but {len(bare)} pictures show only classes, and do not distinguish objects: "
                f"{format_names(bare)}; add those of SegmentationObject/, or set task to SemanticSegmentation",
                "task",
            )
    found = TOOL.read(tree, sizes, asked)
    return replace(found, annotation_files=(*found.annotation_files, *_lists(tree)))


def _key(path: str) -> tuple[str, ...]:
    """The meaningful folders of a picture and its name, which an image and both of its pictures share."""
    whole = PurePosixPath(path)
    stem = whole.stem.lower().removesuffix(_END)
    return (*(part for part in _folders(path) if part not in _CLASSES | {_OBJECTS}), stem)


def _fill(tree: SourceFiles, path: str, drawings: Drawings, faults: Faults) -> None:
    """Add the masks of the pictures to the drawings."""
    (legend,) = drawings.images
    drawings.images.clear()
    pictures = _pictures(tree)
    known = frozenset(pictures)
    images = naming.Names([image for image in tree.images if image not in known], stems=True)
    objects = {_key(picture): picture for picture in pictures if _is_of_objects(picture)}
    splits = _splits(tree)
    for picture in pictures:
        if _is_of_objects(picture):
            continue
        with faults.noting():
            key = _key(picture)
            name = f"{'/'.join(key)}.png"
            alike = images.alike(name)
            image = Drawn((alike[0] if len(alike) == 1 else name,), f"the picture {printable(picture)}")
            image.split = only_split(splits.get(key[-1], frozenset()))
            _draw(tree, [picture, *([objects[key]] if key in objects else [])], image, legend, drawings)
            drawings.images.append(image)


def _draw(tree: SourceFiles, paths: list[str], image: Drawn, legend: Drawn, drawings: Drawings) -> None:
    labels = {segment.number: segment.label for segment in legend.segments}
    by_colour = legend.picture == mask_pictures_document.COLOURS
    told = {
        "numbers": list(labels),
        "colours": by_colour,
        "ignored": [one for one in ((_VOID_COLOUR,) if by_colour else (_VOID_NUMBER,)) if one not in labels],
    }
    document, found = reading.objects(_PICTURES, tree, paths, told)
    if document["mixed"]:
        raise invalid(
            f"{printable(paths[1])} has {document['mixed']} objects whose pixels belong to several classes, or to none, in "
            f"{printable(paths[0])}: export both again"
        )
    drawings.counted["unknown"] += bool(document["others"])
    image.width, image.height = document["width"], document["height"]
    image.left = int(bool(document["others"]))
    for number, coordinates in found:
        attributes = {THING: str(len(paths) > 1).lower()}
        image.shapes.append(Shape(labels[number], Kind.MASK, tuple(coordinates), attributes=attributes))


def _splits(tree: SourceFiles) -> Mapping[str, frozenset[Split]]:
    """The splits from ``ImageSets/Segmentation/<split>.txt``, by the name of an image without its suffix."""
    found: dict[str, frozenset[Split]] = {}
    for path, split in _lists(tree).items():
        for stem in _listed(tree, path):
            found[stem] = found.get(stem, frozenset()) | {split}
    return found


def _lists(tree: SourceFiles) -> dict[str, Split]:
    """The files that list the images of a split."""
    lists = (path for path in tree.files if suffix(path) == ".txt" and tuple(_folders(path)[-2:]) == _LISTS)
    splits = ((path, split_of(PurePosixPath(path).stem)) for path in lists)
    return {path: split for path, split in splits if split is not None}


def _listed(tree: SourceFiles, path: str) -> Iterator[str]:
    for _, line in reading.lines(tree, path, reading.MAX_LABELS):
        yield PurePosixPath(line.strip().strip('"')).name.lower()


TOOL = Tool(
    MASKS,
    _files,
    "pelagos_pipelines.annotations.mask_pictures_document",
    said={"unknown": "pictures have pixels of no declared class, about which they say nothing"},
    pictures=_pictures,
    fill=_fill,
)
FORMAT = Format(MASKS, recognises, read, evidence=TOOL.evidence)
