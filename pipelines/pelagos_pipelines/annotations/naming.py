"""Finds the file that an annotation means when no file has exactly that name. Called by formats for names that they do not find.

Tools and file systems rewrite names: they change case, the Unicode form of accents, percent-encode, and add or drop folders such
as ``images``. A name that fits exactly one file apart from such differences means that file; meaningful folders must match. Only
names are compared: no file is opened.
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
"""Folders whose name says nothing about their files."""
DIFFERENCES = "case, Unicode form, percent-encoding or folders such as images/"
"""The ignored differences, in words."""
_NEIGHBOURS = 200
"""Number of alphabetical neighbours on both sides of a missing file that are compared for similar names."""
_SHOWN = 2
_MOST = 100
"""Most files that are returned for one name."""
_LONGEST = 255
"""Most characters of a file name that is compared."""
_END = "\0"


def folded(name: str) -> str:
    """The name normalized for comparison, without the differences that tools and file systems introduce."""
    # NFC twice: some file systems decompose accents, and case folding can decompose characters again.
    plain = unicodedata.normalize("NFC", unquote(name).replace("\\", "/"))
    return unicodedata.normalize("NFC", plain.casefold())


def folders_of(path: str) -> tuple[str, ...]:
    """The meaningful, normalized folders in the path of a folder, without drives, roots and ``..``."""
    parts = (part.strip() for part in folded(path).split("/"))
    return tuple(part for part in parts if part not in EMPTY_FOLDERS | {"", ".", ".."} and not part.endswith(":"))


class Names:
    """The candidate files. ``stems``: compare names without suffixes."""

    def __init__(self, paths: Iterable[str], *, stems: bool = False) -> None:
        self._paths = tuple(paths)
        self._stems = stems

    def alike(self, name: str) -> Sequence[str]:
        """The best matches for a name: files in the same folders, else those with more or fewer folders."""
        if _END in name:
            return []
        parts = self._parts(name)
        key = _joined(parts)
        if same := self._exactly(key):
            return same
        fewer = [path for length in range(1, len(parts)) for path in self._exactly(_joined(parts[:length]))]
        return [*self._from(key, key[:-1] + "\1"), *fewer]

    def nearest(self, name: str) -> Sequence[str]:
        """A few files with similar names, for messages."""
        wanted = self._parts(name)[0]
        if len(wanted) > _LONGEST:
            return []
        stem = PurePosixPath(wanted).stem
        for first, end in (
            (wanted + _END, wanted + "\1"),
            (f"{stem}.", f"{stem}/"),
        ):  # the same name, or one with another suffix
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
        """The files whose keys are from ``first`` to before ``end``."""
        keys, paths = self._table
        start = bisect_left(keys, first)
        return paths[start : min(bisect_left(keys, end), start + _MOST)]

    def _parts(self, path: str) -> tuple[str, ...]:
        """The file's name and its meaningful folders from the innermost outwards, so that dropping outer folders gives a
        prefix."""
        whole = PurePosixPath(folded(path))
        name = whole.stem if self._stems else whole.name
        return (name.strip(), *reversed(folders_of(str(whole.parent))))

    @cached_property
    def _table(self) -> tuple[list[str], list[str]]:
        """The keys of all files in alphabetical order, and the files in the same order."""
        found = sorted((_joined(self._parts(path)), path) for path in self._paths)
        return [key for key, _ in found], [path for _, path in found]


def _joined(parts: Iterable[str]) -> str:
    return "".join(f"{part}{_END}" for part in parts)
