"""Which file an annotation means when none is named exactly so. Called by the formats coco and yolo for what they did not find.

Tools and file systems rewrite names: they change case, the Unicode form of accents, percent-encode, and add or drop folders
such as ``images``. A name that fits one file alone, these things apart, means that file; folders that say something are never
exchanged for others. Only names of files are compared: nothing is opened.
"""

from __future__ import annotations

import difflib
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import unquote

EMPTY_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "data", "labels", "label", "annotations", "annotation"}
)
"""Folders whose name says nothing of the files in them."""
DIFFERENCES = "case, Unicode form, percent-encoding or folders such as images/"
"""What is overlooked, in words."""
_NEIGHBOURS = 200
"""Files before and after a missing one, in alphabetical order, among which similar names are looked for."""
_SHOWN = 2
_MOST = 100
"""Files that one name may fit; beyond that it does not matter how many there are."""
_LONGEST = 255
"""Bytes of a file's name."""
_END = "\0"


def folded(name: str) -> str:
    """The name without the differences that tools and file systems make."""
    # Twice, because some file systems keep accents apart from their letters, and folding the case can take letters apart again.
    plain = unicodedata.normalize("NFC", unquote(name).replace("\\", "/"))
    return unicodedata.normalize("NFC", plain.casefold())


def folders_of(path: str) -> tuple[str, ...]:
    """The folders that say something, folded, of the path of a folder. Drives, roots and ways up say nothing here."""
    parts = (part.strip() for part in folded(path).split("/"))
    return tuple(part for part in parts if part not in EMPTY_FOLDERS | {"", ".", ".."} and not part.endswith(":"))


class Names:
    """The files that may be meant. ``stems``: labels are looked up by what stands before the suffix."""

    def __init__(self, paths: Iterable[str], *, stems: bool = False) -> None:
        self._paths = tuple(paths)
        self._stems = stems

    def alike(self, name: str) -> Sequence[str]:
        """The files that the name fits, best ones only: those in the same folders, else those with more or fewer folders."""
        if _END in name:
            return []
        parts = self._parts(name)
        key = _joined(parts)
        if same := self._exactly(key):
            return same
        fewer = [path for length in range(1, len(parts)) for path in self._exactly(_joined(parts[:length]))]
        return [*self._from(key, key[:-1] + "\1"), *fewer]

    def nearest(self, name: str) -> Sequence[str]:
        """A few files whose names look similar, to be shown to a person."""
        wanted = self._parts(name)[0]
        if len(wanted) > _LONGEST:
            return []
        stem = PurePosixPath(wanted).stem
        for first, end in (
            (wanted + _END, wanted + "\1"),
            (f"{stem}.", f"{stem}/"),
        ):  # the same, or with another suffix
            if found := self._from(first, end):
                return found[:_SHOWN]
        keys, paths = self._table
        place = bisect_left(keys, wanted + _END)
        start = max(0, place - _NEIGHBOURS)
        around: dict[str, str] = {}
        for key, path in zip(keys[start : place + _NEIGHBOURS], paths[start : place + _NEIGHBOURS], strict=True):
            around.setdefault(key[: key.index(_END)], path)
        return [around[one] for one in difflib.get_close_matches(wanted, around, _SHOWN)]

    def _exactly(self, key: str) -> list[str]:
        return self._from(key, key + _END)

    def _from(self, first: str, end: str) -> list[str]:
        """The files whose keys are at or after ``first`` and before ``end``."""
        keys, paths = self._table
        start = bisect_left(keys, first)
        return paths[start : min(bisect_left(keys, end), start + _MOST)]

    def _parts(self, path: str) -> tuple[str, ...]:
        """The file's name, and the folders that say something from the innermost out: dropping outer ones leaves a beginning."""
        whole = PurePosixPath(folded(path))
        name = whole.stem if self._stems else whole.name
        return (name.strip(), *reversed(folders_of(str(whole.parent))))

    @cached_property
    def _table(self) -> tuple[list[str], list[str]]:
        """Keys of all files in alphabetical order, and the files."""
        found = sorted((_joined(self._parts(path)), path) for path in self._paths)
        return [key for key, _ in found], [path for _, path in found]


def _joined(parts: Iterable[str]) -> str:
    return "".join(f"{part}{_END}" for part in parts)
