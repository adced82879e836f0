"""Pascal VOC: an XML file per image, beside it or in ``Annotations/``, with the corners of boxes. The layouts of the challenge
itself, labelImg, CVAT and Roboflow.

``ImageSets/Main/<split>.txt`` lists the images of a split; without it the image's folders determine the split. Corners are edge
coordinates from 0, as present tools write them. Files of the challenge itself (``The VOC2012 Database``) instead have pixel
numbers that begin at 1 and include the last pixel. Source: Everingham et al., The PASCAL Visual Object Classes Challenge 2012
Development Kit, section 8.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.formats import COCO, PASCAL_VOC, YOLO
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations import kinds, linking, naming, placing, reading, untrusted_input
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import (
    Asked,
    Boxes,
    Collection,
    Exclusion,
    Format,
    ImageRecord,
    Sizes,
    SourceFiles,
    declared,
    only_split,
    split_of,
    splits_above,
    suffix,
)
from pelagos_pipelines.annotations.untrusted_input import format_names, invalid, printable

_SETS = "imagesets"
_MAIN = frozenset({"main", _SETS})
"""The folders with lists for detection; their siblings are for segmentation and person layout."""
_LOOKED_AT = 5
"""Least number of XML files that are examined; one match suffices."""
_IMAGES = kinds.READABLE | kinds.OTHER
_FLAG = re.compile(r"\s+-?[01]$")
"""The flag in a list of one class: whether an image shows that class."""
_WRITTEN: Mapping[Split, str] = {"train": "train", "validation": "val", "test": "test"}
_SAID: Mapping[str, str] = {
    "boxless": "objects without a bndbox are left out",
    "rotated": "objects have only a rotated box (robndbox), and are left out",
    "polygons": "objects have an outline in addition to their box; only the box is read",
    "parts": "parts of objects are left out",
    "attributes": "objects have attributes, which are left out",
    "difficult": "objects are marked as difficult, and are kept",
    "truncated": "objects are marked as truncated, and are kept",
    "occluded": "objects are marked as occluded, and are kept",
    "repeated": "objects repeat another with the same image, class and box; one of each is kept",
    "doubted": "boxes are given for two or more classes; all are kept: check them",
}
_LEFT_OUT = ("boxless", "rotated")


@dataclass
class _Tally:
    """The findings in all files."""

    counts: Counter[str] = field(default_factory=Counter)
    renamed: list[str] = field(default_factory=list)
    challenge: int = 0
    """Files of the challenge itself."""
    orphans: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """XML of another kind, and files with faults; they are not reported if there are faults."""
    unlabelled: list[str] = field(default_factory=list)
    """Images all of whose objects were left out, which therefore do not count as backgrounds."""


def recognises(tree: SourceFiles) -> bool:
    """Whether there are XML files of Pascal VOC; CVAT's own and others have another root element."""
    return bool(tree.images) and next(_annotations(tree), None) is not None


def _annotations(tree: SourceFiles) -> Iterator[str]:
    """The annotation files among a few examined ones."""
    documents = _documents(tree)
    # Evenly spread, since files of other programs may be in a folder of their own.
    return (path for path in documents[:: max(1, len(documents) // _LOOKED_AT)] if _is_annotation(tree, path))


def read(tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """Read the boxes of all files. An image whose file has no object is a background; one without a file is left out."""
    documents = _documents(tree)
    if not documents:
        raise invalid(f"there is no XML file; {PASCAL_VOC.name} expects {PASCAL_VOC.layout}")
    faults, tally, images = Faults(), _Tally(), naming.Names(tree.images)
    stems, known = naming.Names(tree.images, stems=True), frozenset(tree.images)
    records: dict[str, ImageRecord] = {}
    of: dict[str, str] = {}
    lists = _lists(tree)
    splits = _listed(tree, lists, stems, faults)
    for path, found in zip(documents, reading.voc(tree, documents, faults), strict=True):
        with faults.noting():
            if found is None:
                tally.others.append(path)
                continue
            image = _image_of(known, path, found.file_name, stems, images)
            if image is None:
                nearest = stems.nearest(path)
                tally.orphans.append(untrusted_input.with_nearest(printable(path), (), nearest))
                continue
            if image in of:
                both = " and ".join(map(printable, sorted((path, of[image]))))
                raise invalid(f"{both} are both of {printable(image)}: keep one")
            of[image] = path
            if PurePosixPath(image).stem != PurePosixPath(path).stem:
                tally.renamed.append(path)
            _take(image, found, splits.get(image) or splits_above(image), records, tally)
    if tally.orphans:
        faults.add(untrusted_input.missing_images(tally.orphans))
    placing.refuse_any(faults, records.values(), sizes)
    names = sorted({label for record in records.values() for label in record.labels})
    classes, _ = declared(names, tuple(records.values()))
    if not classes:
        raise untrusted_input.unannotated(PASCAL_VOC.layout, list(_counted(tally.counts)))
    bare = [path for path in tree.images if path not in of]
    overlapping = tuple(sorted(path for path in records if len(splits.get(path) or splits_above(path)) > 1))
    return Collection(
        asked.task,
        classes,
        tuple(records[path] for path in sorted(records)),
        tuple(_warnings(tally, bare, overlapping, by_list=bool(splits))),
        (
            *Exclusion.of(bare, ExclusionReason.UNLABELLED),
            *Exclusion.of(tally.unlabelled, ExclusionReason.UNLABELLED),
        ),
        (*sorted(of.values()), *lists),
        overlapping,
    )


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """Write ``JPEGImages/``, ``Annotations/`` and ``ImageSets/Main/<split>.txt``; corners are edge coordinates from 0."""
    names = linking.numbered(collection.images)
    folders = [target / "JPEGImages", target / "Annotations", target / "ImageSets" / "Main"]
    for folder in folders:
        folder.mkdir(parents=True)
    for image in collection.images:
        name = names[image.path]
        linking.show(blobs, image.path, folders[0] / name)
        document = ElementTree.ElementTree(_element(image, name))
        ElementTree.indent(document)
        document.write(folders[1] / f"{PurePosixPath(name).stem}.xml", encoding="utf-8", xml_declaration=True)
    for split in SPLITS:
        stems = [PurePosixPath(names[image.path]).stem for image in collection.images if image.split == split]
        text = "".join(f"{stem}\n" for stem in stems)
        (folders[2] / f"{_WRITTEN[split]}.txt").write_text(text, encoding="ascii")


def _element(image: ImageRecord, name: str) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    _add(ElementTree.SubElement(root, "source"), "image", printable(image.path))  # XML has no control characters
    size = ElementTree.SubElement(root, "size")
    for side, pixels in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, side, str(pixels or 0))
    _add(root, "segmented", "0")
    for box in image.boxes:
        found = ElementTree.SubElement(root, "object")
        for tag, value in (("name", box.label), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _add(found, tag, value)
        corners = {"xmin": box.x, "ymin": box.y, "xmax": box.x + box.width, "ymax": box.y + box.height}
        sides = ElementTree.SubElement(found, "bndbox")
        for tag, corner in corners.items():
            _add(sides, tag, f"{corner:.0f}" if corner == int(corner) else repr(corner))
    return root


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _documents(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".xml"]


def _is_annotation(tree: SourceFiles, path: str) -> bool:
    try:
        return reading.is_voc(tree, path)
    except RefusedError:
        return False


def _lists(tree: SourceFiles) -> dict[str, Split]:
    """The lists of splits, such as ``ImageSets/Main/train.txt``.

    Without them, lists of one class (``cat_train.txt``) have the same information; VoTT writes no others.
    """
    whole, of_classes = dict[str, Split](), dict[str, Split]()
    for path in tree.files:
        folders = [part.lower() for part in path.split("/")[:-1]]
        if suffix(path) != ".txt" or _SETS not in folders or folders[-1] not in _MAIN:
            continue
        stem = PurePosixPath(path).stem
        if (split := split_of(stem)) is not None:
            whole[path] = split
        elif (split := split_of(stem.rpartition("_")[2])) is not None:
            of_classes[path] = split
    return whole or of_classes


def _listed(
    tree: SourceFiles, lists: Mapping[str, Split], images: naming.Names, faults: Faults
) -> dict[str, frozenset[Split]]:
    """The splits of each image according to the lists, by the image's path."""
    found: dict[str, frozenset[Split]] = {}
    for path, split in lists.items():
        lost = []
        parts = path.split("/")
        root = "/".join(parts[: [part.lower() for part in parts].index(_SETS)])
        for number, line in reading.lines(tree, path, reading.MAX_LABELS):
            candidates = [images.alike(f"{root}/{name}") for name in _names(line)]
            meant = next((some for some in candidates if len(some) == 1), max(candidates, key=len))
            if len(meant) == 1:
                found[meant[0]] = found.get(meant[0], frozenset()) | {split}
            else:
                lost.append(untrusted_input.with_nearest(f"{printable(path)}: line {number}", meant, ()))
        if lost:
            faults.add(untrusted_input.missing_images(lost))
    return found


def _names(line: str) -> Iterator[str]:
    """The possible file names in a line of a list: CVAT quotes names with spaces, VoTT and others add the suffix."""
    quoted = line.split('"')
    for name in [quoted[1]] if len(quoted) == 3 else [line, _FLAG.sub("", line), line.split(maxsplit=1)[0]]:
        yield f"{name}.jpg"
        if suffix(name) in _IMAGES:
            yield name


def _image_of(known: Set[str], path: str, file_name: str, stems: naming.Names, images: naming.Names) -> str | None:
    """The image of an annotation file among the ``known`` ones: that with its own name, else the one that it names, else None.

    Raises:
        RefusedError: FORMAT_INVALID when both exist and differ.
    """
    named: Sequence[str] = ()
    if file_name:
        here = PurePosixPath(path).parent
        inner = PurePosixPath(file_name.replace("\\", "/")).name
        exact = str(here / inner)
        named = [exact] if exact in known else images.alike(f"{here}/{inner}")
    same = stems.alike(path)
    if len(same) == 1 and len(named) == 1 and same[0] != named[0]:
        raise invalid(
            f"{printable(path)} has the name of {printable(same[0])}, but its filename says {printable(named[0])}: correct the "
            "filename, or rename the file"
        )
    # Masks in another folder can also have the name of their image.
    chosen = same if len(same) == 1 else named
    return chosen[0] if len(chosen) == 1 else None


def _take(
    image: str, found: reading.Voc, splits: frozenset[Split], records: dict[str, ImageRecord], tally: _Tally
) -> None:
    tally.counts.update(found.counted)
    tally.counts["repeated"] += found.repeated
    tally.counts["doubted"] += found.doubted
    tally.challenge += found.is_of_the_challenge
    if not len(found.classes) and any(found.counted.get(what) for what in _LEFT_OUT):
        tally.unlabelled.append(image)
        return
    import numpy as np

    sides = found.sides
    if found.is_of_the_challenge:
        sides = sides + np.array((-1.0, -1.0, 1.0, 1.0))
    records[image] = ImageRecord(
        path=image,
        width=found.width,
        height=found.height,
        group=untrusted_input.original_of(image),
        split=only_split(splits),
        boxes=Boxes.packed(found.names, found.classes, sides),
    )


def _counted(counts: Mapping[str, int]) -> Iterator[str]:
    return (f"{counts[what]} {words}" for what, words in _SAID.items() if counts[what])


def _warnings(tally: _Tally, bare: Sequence[str], overlapping: Sequence[str], *, by_list: bool) -> Iterator[str]:
    yield from untrusted_input.matched(tally.renamed, "XML files are not named like their image, or differ from it")
    if tally.challenge:
        yield (
            f"{tally.challenge} XML files belong to the challenge itself (source.database): their corners are pixel numbers that "
            "begin at 1 and include the last pixel, and are read as such"
        )
    if tally.others:
        yield f"{len(tally.others)} XML files are of another kind and are not read: {format_names(tally.others)}"
    if bare:
        yield (
            f"{len(bare)} images have no XML file and are left out: {format_names(bare)};"
            " a background, which shows nothing, needs one without an object"
        )
    yield from _counted(tally.counts)
    if tally.unlabelled:
        yield (
            f"{len(tally.unlabelled)} images have only objects that are left out, and are left out themselves: "
            f"{format_names(tally.unlabelled)}"
        )
    if overlapping and by_list:
        yield f"{len(overlapping)} images are in more than one list of ImageSets, and count as in none"
    elif overlapping:
        yield untrusted_input.torn(overlapping)


def _hint(tree: SourceFiles) -> str | None:
    """A hint about XML of other kinds, such as CVAT's own."""
    documents = _documents(tree)
    if not documents:
        return None
    kind = f"{format_names(documents)} is not XML of {PASCAL_VOC.name}"
    return f"{kind}: export it as {COCO.name}, {YOLO.name} or {PASCAL_VOC.name}."


def _evidence(tree: SourceFiles) -> str | None:
    path = next(_annotations(tree), None)
    return None if path is None else f"{printable(path)} is XML that begins with <annotation>"


FORMAT = Format(PASCAL_VOC, recognises, read, write, hint=_hint, evidence=_evidence)
