"""Determines the splits of a YOLO source's images from entries of its settings, lists and folders. Called by yolo.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pelagos_contract.failures import RefusedError
from pelagos_contract.splits import Split
from pelagos_pipelines.annotations import naming, reading, untrusted_input, yolo_settings
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import SourceFiles, split_of, splits_above, suffix
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.annotations.yolo_settings import Settings


@dataclass
class Listed:
    """The images that data.yaml names, directly or in the files ``listings``; ``renamed`` are entries that match inexactly.

    ``by_folder``: it names none, so the folders of the images determine the splits.
    """

    faults: Faults
    images: frozenset[str]
    names: naming.Names
    by_folder: bool = False
    splits: dict[str, set[Split]] = field(default_factory=dict)
    listings: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)

    @property
    def overlapping(self) -> list[str]:
        """Images in more than one split."""
        return sorted(path for path, splits in self.splits.items() if len(splits) > 1)


def find(tree: SourceFiles, settings: Settings, faults: Faults) -> Listed:
    """Find the images of all splits."""
    found = Listed(faults, frozenset(tree.images), naming.Names(tree.images), by_folder=not settings.splits)
    if found.by_folder:
        found.splits = {path: set(splits) for path in tree.images if (splits := splits_above(path))}
    for key, entries in settings.splits.items():
        split = split_of(key)
        assert split is not None
        for number, entry in enumerate(entries):
            where = f"{settings.where}: {key}" + (f"[{number}]" if len(entries) > 1 else "")
            with faults.noting():
                for path in _images_of(tree, settings, entry, where, found):
                    found.splits.setdefault(path, set()).add(split)
    return found


def _images_of(tree: SourceFiles, settings: Settings, entry: str, where: str, found: Listed) -> Iterable[str]:
    """The images of an entry: an image, those below a folder, or those listed in a text file."""
    place = plain(entry)
    if place in {".", "./"}:
        return tree.images
    try:
        inner = untrusted_input.relative(place, where)
    except RefusedError:  # for example a path on its author's machine
        # Nothing outside of the source is opened, but the end of the path may still identify images of the source.
        meant = (
            found.names.alike(place) if yolo_settings.is_image(place) else _meant(tree, place) or _end_of(tree, place)
        )
        if len(meant) != 1:
            raise
    else:
        for candidate in (settings.base / inner, inner):
            if str(candidate) in found.images:
                return [str(candidate)]
            if str(candidate) in tree.known:
                return _in_list(tree, settings, str(candidate), where, found)
            below = [path for path in tree.images if path.startswith(f"{candidate}/")]
            if below:
                return below
        meant = found.names.alike(str(inner)) if yolo_settings.is_image(str(inner)) else _meant(tree, str(inner))
    if len(meant) == 1:
        found.renamed.append(where)
        return (
            meant
            if yolo_settings.is_image(place)
            else [path for path in tree.images if path.startswith(f"{meant[0]}/")]
        )
    there = f"may be {format_names(meant)}" if meant else f"there are {format_names(_folders(tree))}"
    raise untrusted_input.invalid(f"{where} names a place where there are no images ({there}); correct the path")


def plain(entry: str) -> str:
    """The entry without leading ``../``: Roboflow writes ../train/images for train/images."""
    return re.sub(r"^(?:\.\./)*", "", entry.replace("\\", "/"))


def _meant(tree: SourceFiles, entry: str) -> Sequence[str]:
    """The folders with images that an entry may mean if none has exactly that name."""
    wanted = naming.folders_of(entry)
    named = {one: naming.folders_of(one) for one in _folders(tree)}
    same = naming.folded(entry)
    meant = [one for one, parts in named.items() if naming.folded(one) == same or (parts and parts == wanted)]
    if not meant:  # outer folders dropped
        fitting = [one for one, parts in named.items() if parts and wanted[-len(parts) :] == parts]
        most = max((len(named[one]) for one in fitting), default=0)
        meant = [one for one in fitting if len(named[one]) == most]
    return [one for one in meant if not any(one.startswith(f"{other}/") for other in meant)]


def _end_of(tree: SourceFiles, entry: str) -> Sequence[str]:
    """The folder with images in which a path of another machine ends, if none of the folders above it names a split."""
    parts = PurePosixPath(entry).parts
    folders = {naming.folded(one): one for one in _folders(tree)}
    ends = [naming.folded("/".join(parts[start:])) for start in range(1, len(parts))]
    found = [folders[end] for end in ends if end in folders][:1]
    return [] if any(split_of(part) for part in parts[: len(parts) - len(PurePosixPath(*found).parts)]) else found


def _folders(tree: SourceFiles) -> list[str]:
    return sorted({str(parent) for path in tree.images for parent in PurePosixPath(path).parents} - {"."})


def _in_list(tree: SourceFiles, settings: Settings, path: str, where: str, found: Listed) -> list[str]:
    """The images named by the lines of a text file; lines without an image are noted together."""
    if suffix(path) != ".txt":
        raise untrusted_input.invalid(
            f"{where} is no list of images, which is a text file (.txt), and no image or folder of them"
        )
    found.listings.append(path)
    images: list[str] = []
    lost: list[str] = []
    many = 0
    for number, line in reading.lines(tree, path, reading.MAX_LABELS):
        where = f"{untrusted_input.printable(path)}, line {number}"
        with suppress(RefusedError):  # a path of its author's machine, which cannot match exactly
            inner = untrusted_input.relative(line, "")
            exact = [one for base in (settings.base, PurePosixPath()) if (one := str(base / inner)) in found.images]
            if exact:
                images.append(exact[0])
                continue
        alike = found.names.alike(line)
        if len(alike) == 1:
            images.append(alike[0])
            found.renamed.append(where)
        else:
            many += 1
            if len(lost) < untrusted_input.MAX_NAMED:
                lost.append(untrusted_input.with_nearest(where, alike, found.names.nearest(line)))
    if lost:
        found.faults.add(untrusted_input.missing_images(lost, many))
    return images
