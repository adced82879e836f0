"""Reads lists in the top-level object of a large JSON file, in any order and piece by piece, with the fast parser.

Called in a child of the sandbox by coco_document.py. The start of a list is guessed by its name. After all lists were read, the
guesses are verified: the file is an object, the lists are its members, and everything around them is JSON. A file with another
layout, or with numbers that the fast parser would round, is left to the token parser (UnevenError).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson

_PIECE = 1 << 16
"""Bytes that are parsed at once: few enough for the result to stay in the processor's caches."""
_LONGEST = 1 << 24
"""Most bytes of an entry of a list, or of another member."""
_NAME = 64
"""Most bytes of a list's name with quotes, colon, bracket and spaces between them."""
_ENDS = (1 << 10, 1 << 14)
"""Bytes at the end of a piece that are searched for the end of an entry."""
_BETWEEN = re.compile(rb"\}[ \t\n\r]*,[ \t\n\r]*(?=\{)")
_SPACE = re.compile(r"[ \t\n\r]*")
_BOM = b"\xef\xbb\xbf"
_DIGITS = bytes(b"0"[0] if chr(code).isdecimal() and code < 128 else b" "[0] for code in range(256))
_MANY_DIGITS = b"0" * 19
_LONG = re.compile(rb"(?<![0-9.])[0-9]{19}")
"""An integer that may exceed 64 bits: it would be rounded, and ids could be confused."""
_scanned = json.JSONDecoder().raw_decode


class UnevenError(Exception):
    """The file has to be read by the other parser."""


class Lists:
    """The lists ``names`` of an open file."""

    def __init__(self, file: BinaryIO, names: Sequence[str]) -> None:
        """Guess where the lists begin. Raises UnevenError if there are several candidates, or none."""
        self._file = file
        self._starts = _starts(file, names)
        self._ends: dict[str, int] = {}

    def entries(self, name: str) -> Iterator[list[Any]]:
        """The entries of a list, one part after the other. Raises UnevenError at the first entry that is not plain JSON."""
        window, begun, is_over = _Window(self._file, self._starts[name]), False, False
        while not is_over:
            found, is_over = window.entries(begun)
            if found:
                yield found
            begun = True
        self._ends[name] = window.place

    def prove(self) -> None:
        """Parse the file around the lists, after all were read. Raises UnevenError when a guess was wrong."""
        window, met = _Window(self._file, 0), set[object]()
        window.skip(_BOM)
        window.take("{")
        while True:
            name = window.value()
            # The other parser would take a member "images.item" for an entry of images.
            beginning = name.partition(".")[0] if isinstance(name, str) else None
            if beginning is None or name in met or (name != beginning and beginning in self._starts):
                raise UnevenError
            met.add(name)
            window.take(":")
            if name in self._starts:
                window.take("[")
                if window.place != self._starts[name]:
                    raise UnevenError
                window.move(self._ends[name])
            else:
                window.value()
            if not window.goes_on_with(","):
                break
        window.take("}")
        if not met.issuperset(self._starts) or not window.is_at_the_end():
            raise UnevenError


def _starts(file: BinaryIO, names: Sequence[str]) -> dict[str, int]:
    """The positions in the file of the lists' names that are followed by a list."""
    found: dict[str, int] = {}
    wanted = {name: (f'"{name}"'.encode(), re.compile(rf'"{name}"[ \t\n\r]*:[ \t\n\r]*\['.encode())) for name in names}
    file.seek(0)
    content, place = b"", 0
    while piece := file.read(_PIECE):
        content = content[-_NAME:] + piece
        place += len(piece)
        for name, (quoted, pattern) in wanted.items():
            at = content.find(quoted)
            while at >= 0:
                if (match := pattern.match(content, at)) is not None:
                    start = place - len(content) + match.end()
                    if found.setdefault(name, start) != start:
                        raise UnevenError
                at = content.find(quoted, at + 1)
    if len(found) < len(wanted):
        raise UnevenError
    return found


class _Window:
    """A sliding window of a file; ``place`` is its position.

    JSON outside of strings is ASCII, so the end of a value can be found with bytes decoded as Latin-1.
    """

    def __init__(self, file: BinaryIO, place: int) -> None:
        self._file = file
        self.move(place)

    @property
    def place(self) -> int:
        return self._start + self._at

    def move(self, place: int) -> None:
        self._start, self._at, self._content = place, 0, b""

    def entries(self, begun: bool) -> tuple[list[Any], bool]:
        """The next entries of the current list, and whether they are its last. ``begun``: earlier entries precede them."""
        for size in _sizes():
            is_all = self._fill(size)
            for length in _ENDS:
                if found := self._up_to_the_last(max(self._at, len(self._content) - length)):
                    return found, False
            found, is_over = self._one_by_one(begun)
            if found or is_over:
                return found, is_over
            if is_all:
                break
        raise UnevenError

    def _up_to_the_last(self, start: int) -> list[Any]:
        """All entries before the last place after ``start`` where one seems to end; none without such a place.

        If the text up to there is a valid list once it is closed, it consists of whole entries: there is no other way to parse
        it.
        """
        last = None
        for last in _BETWEEN.finditer(self._content, start):  # noqa: B007 - the last one is wanted
            pass
        if last is None:
            return []
        found = _loaded(self._content[self._at : last.start() + 1])
        if found is None:
            return []
        self._at = last.end()
        return found

    def _one_by_one(self, begun: bool) -> tuple[list[Any], bool]:
        """The complete entries in the window, parsed one by one, and whether the list ends after them."""
        text = self._content[self._at :].decode("latin-1")
        at, end, is_over = _beyond_space(text, 0), 0, False
        if text.startswith("]", at) and not begun:
            end, is_over = at, True
        while not is_over:
            try:
                at = _beyond_space(text, _scanned(text, at)[1])
            except (ValueError, RecursionError):
                break
            is_over = text.startswith("]", at)
            if not is_over and not text.startswith(",", at):
                break
            end, at = at, _beyond_space(text, at + 1)
        found = _loaded(self._content[self._at : self._at + end]) if end else []
        if found is None:
            raise UnevenError
        self._at += end + (1 if end or is_over else 0)
        return found, is_over

    def value(self) -> Any:
        """The value or member name at the current position."""
        for size in _sizes():
            is_all = self._fill(size)
            text = self._content[self._at :].decode("latin-1")
            try:
                found, end = _scanned(text, _beyond_space(text, 0))
            except (ValueError, RecursionError):
                end = len(text)
            if end < len(text):  # a number may continue beyond the window
                if _loaded(self._content[self._at : self._at + end]) is None:
                    break
                self._at += end
                return found
            if is_all:
                break
        raise UnevenError

    def skip(self, beginning: bytes) -> None:
        self._fill(_PIECE)
        if self._content.startswith(beginning):
            self._at = len(beginning)

    def goes_on_with(self, sign: str) -> bool:
        """Whether the next character after spaces is ``sign``, which is then consumed."""
        self._fill(_PIECE // 4)
        text = self._content[self._at : self._at + _PIECE // 4].decode("latin-1")
        at = _beyond_space(text, 0)
        if not text.startswith(sign, at):
            return False
        self._at += at + 1
        return True

    def take(self, sign: str) -> None:
        if not self.goes_on_with(sign):
            raise UnevenError

    def is_at_the_end(self) -> bool:
        return self._fill(_PIECE) and not self._content[self._at :].strip(b" \t\n\r")

    def _fill(self, size: int) -> bool:
        """Fill the window to ``size`` bytes; returns whether the end of the file is in it."""
        left = len(self._content) - self._at
        if left >= size:
            return False
        self._file.seek(self._start + len(self._content))
        more = self._file.read(size - left)
        self._start, self._content, self._at = self.place, self._content[self._at :] + more, 0
        return len(more) < size - left


def _sizes() -> Iterator[int]:
    size = _PIECE
    while size <= _LONGEST:
        yield size
        size *= 4


def _beyond_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # the pattern also matches without spaces
    return found.end()


def _loaded(entries: bytes) -> list[Any] | None:
    """The parsed entries; None when they are invalid, or have numbers that would be rounded."""
    if _MANY_DIGITS in entries.translate(_DIGITS) and _LONG.search(entries):
        return None
    try:
        found: list[Any] = orjson.loads(b"[%b]" % entries)
    except orjson.JSONDecodeError:
        return None
    return found
