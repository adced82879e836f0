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
from typing import TypeAlias
from urllib.parse import unquote

EMPTY_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "data", "labels", "label", "annotations", "annotation"}
)
"""Folders whose name says nothing of the files in them."""
DIFFERENCES = "case, Unicode form, percent-encoding or folders such as images/"
"""What is overlooked, in words."""
_NEIGHBOURS = 200
"""Names before and after a missing one, in alphabetical order, among which similar ones are looked for."""
_SHOWN = 2

_Key: TypeAlias = tuple[str, ...]


def folded(name: str) -> str:
    """The name without the differences that tools and file systems make."""
    plain = unicodedata.normalize("NFC", unquote(name).replace("\\", "/"))
    return unicodedata.normalize("NFC", plain.casefold())


def folders_of(path: str) -> tuple[str, ...]:
    """The folders that say something, folded, of the path of a folder."""
    return tuple(part for part in folded(path).split("/") if part not in EMPTY_FOLDERS | {"", "."})


class Names:
    """The files that may be meant. ``stems``: labels are looked up by what stands before the suffix."""

    def __init__(self, paths: Iterable[str], *, stems: bool = False) -> None:
        self._paths = tuple(paths)
        self._stems = stems

    def alike(self, name: str) -> Sequence[str]:
        """The files that the name fits, best ones only: those in the same folders, else those with more or fewer folders."""
        key = self._key(name)
        found = [(self._key(path), path) for path in self._by_name.get(key[0], ())]
        same = [path for other, path in found if other == key]
        return same or [path for other, path in found if _is_beginning(other, key) or _is_beginning(key, other)]

    def nearest(self, name: str) -> Sequence[str]:
        """A few files whose names look similar, to be shown to a person."""
        key = self._key(name)
        if key[0] in self._by_name:
            return self._by_name[key[0]][:_SHOWN]
        place = bisect_left(self._sorted, key[0])
        around = self._sorted[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]
        return [self._by_name[one][0] for one in difflib.get_close_matches(key[0], around, _SHOWN)]

    def _key(self, path: str) -> _Key:
        """The file's name, and the folders that say something from the innermost out: its beginning is what is left of it when
        outer folders are dropped."""
        whole = PurePosixPath(folded(path))
        name = whole.stem if self._stems else whole.name
        return (name, *reversed(folders_of(str(whole.parent))))

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._paths:
            found.setdefault(self._key(path)[0], []).append(path)
        return found

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._by_name)


def _is_beginning(shorter: _Key, longer: _Key) -> bool:
    return longer[: len(shorter)] == shorter
