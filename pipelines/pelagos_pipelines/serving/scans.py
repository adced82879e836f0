"""Checks whether a JPEG has all of its scans: libjpeg decodes what it finds, and does not report missing ones.

Called by images.py, in a child, for files that were decoded already. It only checks completeness: no size, limit or pixel depends
on it, and it reports nothing about a file that it does not understand. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

END = b"\xff\xd9"
"""The marker that ends a JPEG."""
_START_OF_SCAN = b"\xff\xda"
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.S)
"""The next marker among coefficients: 0xFF followed by a zero or a restart number is part of the coefficients."""
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_COEFFICIENTS = 64
_NEVER = 16
"""Missing bits of a coefficient that no scan has: more than can be missing otherwise."""
_ZEROS = bytes(4)
_FEEDS = 4
"""The least line feeds from which a conversion can be concluded."""


@dataclass(frozen=True)
class Parsed:
    """A JPEG without anything after its end marker, and whether scans are missing in it.

    Cameras append previews, films and notes, which are not part of the JPEG.
    """

    content: bytes
    are_missing: bool


def parsed(content: bytes) -> Parsed:
    """Find the end of a JPEG and its missing scans, in one pass: searching for markers among coefficients takes time."""
    missing: _Missing | None = _Missing()
    end = len(content)
    try:
        for kind, at, body in _segments(content):
            if kind == END[1]:
                end = at
            try:
                if missing is not None:
                    missing.take(kind, body)
            except (IndexError, KeyError):
                missing = None
    except IndexError:  # this parser does not understand a file that the decoder has read
        return Parsed(content, are_missing=False)
    return Parsed(content[:end], missing is not None and missing.any())


def lack_end(content: bytes) -> bool:
    """Whether there is no end marker after the last scan."""
    return not content.endswith(END) and content.rfind(END) < content.rfind(_START_OF_SCAN)


def end_in_zeros(content: bytes) -> bool:
    """Whether the file ends in zeros instead of an end marker, as after a power cut: then the end of its content is unknown."""
    return content.endswith(_ZEROS) and lack_end(content)


def have_other_line_ends(content: bytes) -> bool:
    """Whether each line feed has a carriage return before it, as after FTP in text mode, which the decoder turns into noise.

    By chance, every 256th byte of a scan is a line feed, and every 256th of these has a carriage return before it.
    """
    start = content.find(_START_OF_SCAN)
    first = content.find(b"\n", start)
    if start < 0 or content[first - 1 : first] != b"\r":  # true for nearly all files, which saves counting
        return False
    feeds = content.count(b"\n", start)
    return feeds >= _FEEDS and feeds == content.count(b"\r\n", start)


class _Missing:
    """Tracks the missing parts of an image: a colour, or, in a progressive JPEG, some coefficient or its last bits."""

    def __init__(self) -> None:
        self._bits: dict[int, list[int]] = {}
        """By component, the number of bits of each coefficient that are missing."""
        self._is_progressive = False

    def take(self, kind: int, body: bytes) -> None:
        """Count what the next segment has. Raises IndexError or KeyError for one that this parser does not understand."""
        if kind in _FRAMES:
            self._is_progressive = kind in _PROGRESSIVE
            self._bits = {body[6 + 3 * number]: [_NEVER] * _COEFFICIENTS for number in range(body[5])}
        elif kind == _START_OF_SCAN[1]:
            first, last, bits = body[-3:]
            for number in range(body[0]):
                of_component = self._bits[body[1 + 2 * number]]
                if not self._is_progressive:
                    of_component[:] = [0] * _COEFFICIENTS
                    continue
                for coefficient in range(first, last + 1):
                    of_component[coefficient] = bits & 0x0F

    def any(self) -> bool:
        return any(any(bits) for bits in self._bits.values())


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each marker up to the end of the image: its kind, the end of its segment, and the segment's content."""
    at = 2
    while (found := _NEXT.search(content, at)) is not None:
        kind, at = content[found.end() - 1], found.end()
        if kind in _ALONE or kind == END[1]:
            yield kind, at, b""
            if kind == END[1]:
                return
            continue
        body = content[at + 2 : at + int.from_bytes(content[at : at + 2], "big")]
        at += 2 + len(body)
        yield kind, at, body
