"""Lists in the one object of a large JSON file, in any order and a piece at a time, by the fast parser.

Called in a child of the sandbox by coco_document.py. Where a list begins is guessed by its name; once all lists have been read,
the guesses are proved: the file is an object, these are its members, and nothing but JSON is around them. A file that is laid
out otherwise, or holds what the fast parser would round, is left to the parser that goes from token to token (UnevenError).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import orjson

_PIECE = 1 << 16
"""Bytes that are parsed at once: few enough that what they become stays in the processor's caches."""
_LONGEST = 1 << 24
"""Bytes of an entry of a list, or of another member, that is parsed as one."""
_NAME = 64
"""Bytes of a list's name, with quotes, colon, bracket and the spaces between them."""
_ENDS = (1 << 10, 1 << 14)
"""Bytes at the end of a piece in which an end of an entry is looked for."""
_BETWEEN = re.compile(rb"\}[ \t\n\r]*,[ \t\n\r]*(?=\{)")
_SPACE = re.compile(r"[ \t\n\r]*")
_BOM = b"\xef\xbb\xbf"
_DIGITS = bytes(b"0"[0] if chr(code).isdecimal() and code < 128 else b" "[0] for code in range(256))
_MANY_DIGITS = b"0" * 19
_LONG = re.compile(rb"(?<![0-9.])[0-9]{19}")
"""A whole number that 64 bits may not hold: it would be rounded, and ids be mistaken for others."""
_scanned = json.JSONDecoder().raw_decode


class UnevenError(Exception):
    """The file is one for the other parser."""


class Lists:
    """The lists ``names`` of an open file."""

    def __init__(self, file: BinaryIO, names: Sequence[str]) -> None:
        """Guess where they begin. Raises UnevenError when that may be in several places, or in none."""
        self._file = file
        self._starts = _starts(file, names)
        self._ends: dict[str, int] = {}

    def entries(self, name: str) -> Iterator[list[Any]]:
        """What stands in a list, one part after the other. Raises UnevenError at the first entry that is not plain JSON."""
        window, begun, is_over = _Window(self._file, self._starts[name]), False, False
        while not is_over:
            found, is_over = window.entries(begun)
            if found:
                yield found
            begun = True
        self._ends[name] = window.place

    def prove(self) -> None:
        """Go through the file around the lists, all of which have been read. Raises UnevenError when a guess was wrong."""
        window, met = _Window(self._file, 0), set[object]()
        window.skip(_BOM)
        window.take("{")
        while True:
            name = window.value()
            # For the other parser, a member "images.item" stands for one of images.
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
    """Where in the file there is the name of a list, and a list."""
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
    """A part of a file, which moves on as it is read; ``place`` is how far that is.

    What is no text in JSON is ASCII, so that the end of a value is found with each byte taken for a character.
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
        """The next entries of the list that one is in, and whether they are its last. ``begun``: a comma was before them."""
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
        """All entries before the last place after ``start`` where one seems to end; none when it does not.

        What is a list once it is closed there is made of whole entries: the file cannot be read in another way up to there.
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
        """The entries that are in the window as a whole, each looked at, and whether the list ends behind them."""
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
        """The value, or the name of a member, that stands here."""
        for size in _sizes():
            is_all = self._fill(size)
            text = self._content[self._at :].decode("latin-1")
            try:
                found, end = _scanned(text, _beyond_space(text, 0))
            except (ValueError, RecursionError):
                end = len(text)
            if end < len(text):  # a number may go on beyond the window
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
        """Whether it does, spaces apart; then one is behind it."""
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
        """Have so many bytes in the window; whether the file has no more."""
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
    assert found is not None  # it needs no space to match
    return found.end()


def _loaded(entries: bytes) -> list[Any] | None:
    """The entries; None when they are none, or have numbers that are rounded."""
    if _MANY_DIGITS in entries.translate(_DIGITS) and _LONG.search(entries):
        return None
    try:
        found: list[Any] = orjson.loads(b"[%b]" % entries)
    except orjson.JSONDecodeError:
        return None
    return found
