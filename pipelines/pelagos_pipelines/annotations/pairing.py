"""Pairs label files with images for the format yolo: where ultralytics looks, else by similar names.

No label file is ignored silently: it has an image, or is refused, or is reported as left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations import naming, reading
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.kinds import READABLE
from pelagos_pipelines.annotations.model import SourceFiles, split_of, suffix
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, invalid, missing_images, printable, with_nearest

_OUTPUT = re.compile(
    r"(?:^|/)runs/(?:(?:.+/)?(?:predict|track)\d*|detect|segment|pose|obb|classify|(?:train/|val/)?exp\d*)/",
    re.IGNORECASE,
)
"""Folders of ultralytics' own output: pictures of labels, and predictions as label files."""
_NO_LABELS = frozenset({"classes.txt", "predefined_classes.txt"})
"""Files with class names that labelling tools leave beside the labels."""
_ROW = re.compile(r"[-+.\deE]+(?:\s+[-+.\deE]+){4,}")
_NUMBER = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?")
_SIDES = 4
"""Number of sides in a row whose class is a name, a variant that no tool reads."""
_MOST_DOUBTFUL = {True: 100, False: 2_000}
"""Most doubtful text files that are examined: of those with the name of an image (True), and of others."""


@dataclass(frozen=True)
class Pairs:
    """``labels`` maps images to their label files; ``renamed`` are those that ultralytics would not find.

    ``empty`` are label files without rows and without an image, ``predicted`` those that are probably predictions.
    """

    labels: Mapping[str, str]
    renamed: Sequence[str]
    empty: Sequence[str]
    predicted: Sequence[str] = ()


def pair(tree: SourceFiles, listings: Iterable[str], faults: Faults) -> Pairs:
    """Find the label file of every image; ``listings`` are text files with another purpose.

    Label files without an image, and two for one image, are noted as faults.
    """
    labels = {path: label for path in tree.images if (label := label_path(path)) in tree.known}
    used = {*labels.values(), *listings}
    texts = [path for path in tree.files if suffix(path) == ".txt" and path not in used]
    texts = [path for path in texts if PurePosixPath(path).name.lower() not in _NO_LABELS]
    left = [path for path in texts if not _OUTPUT.search(path)]
    images = naming.Names(tree.images if left else (), stems=True)
    near = {str(PurePosixPath(path).parent) for path in (*tree.images, *used)} if left else set()
    judge = _Judge(tree)
    renamed: list[str] = []
    orphans: list[str] = []
    empty: list[str] = []
    for path in left:
        alike = images.alike(path) or _by_whole_name(images, path)
        fits = len(alike) == 1 and alike[0] not in labels
        rows = judge.has_rows(path, fits)
        if rows is None:
            continue
        if fits:
            labels[alike[0]] = path
            renamed.append(path)
        elif len(alike) == 1:
            two = " and ".join(map(printable, sorted((path, labels[alike[0]]))))
            faults.add(invalid(f"there are two label files, {two}, for {printable(alike[0])}: keep one"))
        elif rows:
            orphans.append(path)
        elif _is_in_labels(path) or str(PurePosixPath(path).parent) in near:
            empty.append(path)
    if orphans:
        shown = [
            with_nearest(printable(path), images.alike(path), images.nearest(path)) for path in orphans[:MAX_NAMED]
        ]
        faults.add(
            missing_images(shown, len(orphans), ("images/ in the place of labels/", "the folders of the label files"))
        )
    predicted = [path for path in texts if _OUTPUT.search(path) and _is_in_labels(path)]
    return Pairs(labels, renamed, empty, predicted)


def _by_whole_name(images: naming.Names, label: str) -> Sequence[str]:
    """The images for a label file whose name is theirs plus ``.txt``, as in ``a.jpg.txt``."""
    whole = str(PurePosixPath(label).with_suffix(""))
    return [path for path in images.alike(whole) if suffix(path) == suffix(whole)] if suffix(whole) in READABLE else []


def label_path(image: str) -> str:
    """The path where ultralytics expects the labels: the last folder ``images`` becomes ``labels``."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return "/".join(parts)


def is_row(line: str) -> bool:
    """Whether a line looks like a row of a label file."""
    return _ROW.fullmatch(line.strip()) is not None


def _is_in_labels(path: str) -> bool:
    return any(naming.folded(part) == "labels" for part in path.split("/")[:-1])


class _Judge:
    """Distinguishes label files from other text files, by their folder and first row."""

    def __init__(self, tree: SourceFiles) -> None:
        self._tree = tree
        self._looked = {True: 0, False: 0}

    def has_rows(self, path: str, fits: bool) -> bool | None:
        """Whether a label file has, or may have, rows; None if it is not a label file. ``fits``: its name is that of an image.

        A text file in labels/ that fits is one, unless it may be the list of a split; others are if they contain rows of numbers.
        """
        in_labels = _is_in_labels(path)
        if in_labels and fits and split_of(PurePosixPath(path).stem) is None:
            return True
        with suppress(RefusedError), self._tree.open(path) as file:
            if not file.size:
                return False
        if self._looked[fits] >= _MOST_DOUBTFUL[fits]:
            return True if fits or in_labels else None
        self._looked[fits] += 1
        try:
            lines = reading.lines(self._tree, path, reading.MAX_LABELS)
        except RefusedError:
            return True if in_labels else None
        if not lines:
            return False
        first = lines[0][1]
        numbers = sum(_NUMBER.fullmatch(word) is not None for word in first.split())
        return True if is_row(first) or (in_labels and numbers >= _SIDES) else None
