"""Translates the JSON variants of some tools to JSON that the parser accepts. Called in children of the sandbox."""

from __future__ import annotations

import re
import string
from typing import BinaryIO, Protocol

PIECE = 1 << 18
TOO_LONG = "parse error: integer overflow"
"""The parser's message for an integer that exceeds 64 bits."""
_BOM = b"\xef\xbb\xbf"
_MOST_DIGITS = 999


class Source(Protocol):
    """A readable source for a parser."""

    def read(self, size: int = -1, /) -> bytes:
        """Return approximately the requested amount; empty only at the end."""


class _Translated:
    """A source that translates while it is read.

    ``NaN`` and ``Infinity``, which JSON lacks, become ``null``, which is refused with its place where a number is needed.
    Integers of more than 18 digits become text, which is valid for ids.
    """

    _OUTSIDE = re.compile(rb'-?Infinity|NaN|(?P<mark>")|(?<![-+.0-9A-Za-z])(?P<long>-?[1-9][0-9]{18,})(?![.0-9eE])')
    _INSIDE = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
    _UNFINISHED = b"-+." + (string.digits + string.ascii_letters).encode()

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""
        self._in_text = False

    def read(self, size: int = -1, /) -> bytes:
        """Return approximately the requested amount; empty only at the end."""
        while True:
            piece = self._file.read(size)
            found = self._translated(self._rest + piece, last=not piece)
            if found or not piece:
                return found

    def _translated(self, content: bytes, *, last: bool) -> bytes:
        parts: list[bytes] = []
        place = 0
        while place < len(content):
            if self._in_text:
                inside = self._INSIDE.match(content, place)
                assert inside is not None
                end = inside.end()
                if end == len(content) or content[end : end + 1] == b"\\":  # the string continues in the next piece
                    parts.append(content[place:end])
                    place = end
                    break
                parts.append(content[place : end + 1])
                place, self._in_text = end + 1, False
                continue
            word = self._OUTSIDE.search(content, place)
            if word is None:
                tail = b"" if last else content[max(place, len(content) - _MOST_DIGITS) :]
                end = len(content) - len(tail) + len(tail.rstrip(self._UNFINISHED))
                parts.append(content[place:end])
                place = end
                break
            parts.append(content[place : word.start()])
            if word["long"] and len(word["long"]) > _MOST_DIGITS:
                raise ValueError(TOO_LONG)
            if word["long"] and word.end() == len(content) and not last:  # it may continue in the next piece
                place = word.start()
                break
            self._in_text = word["mark"] is not None
            parts.append(word[0] if self._in_text else b"null" if word["long"] is None else b'"%b"' % word["long"])
            place = word.end()
        self._rest = content[place:]
        return b"".join((*parts, self._rest)) if last else b"".join(parts)


def has_words(file: BinaryIO) -> bool:
    """Whether NaN or Infinity occurs anywhere, even in a string."""
    file.seek(0)
    before = b""
    while piece := file.read(PIECE):
        if b"NaN" in before + piece or b"Infinity" in before + piece:
            return True
        before = piece[-8:]
    return False


def opened(file: BinaryIO, translated: bool) -> Source:
    """A JSON file from its start, without a byte order mark."""
    file.seek(0)
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    return _Translated(file) if translated else file
