"""Whether a JPEG brings all of its scans, as they were: libjpeg decodes what it finds, and says nothing of what never came.

Called by images.py, in a child, of what has been decoded already. It judges completeness alone: no size, no limit and no pixel
depends on what it reads, and of a file that it does not understand it says nothing. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

END = b"\xff\xd9"
"""The marker that ends a JPEG."""
_START_OF_SCAN = b"\xff\xda"
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.S)
"""A marker, where coefficients stand: a zero or the number of a restart makes 0xFF a part of them."""
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_COEFFICIENTS = 64
_NEVER = 16
"""Of a coefficient that no scan has brought: more bits than can be missing."""
_ZEROS = bytes(4)
_FEEDS = 4
"""Line feeds that tell."""


def without_tail(content: bytes) -> bytes:
    """The JPEG without what stands behind its end marker: cameras append previews, films and notes, which are no part of it."""
    try:
        end = next((at for kind, at, _ in _segments(content) if kind == END[1]), len(content))
    except IndexError:  # it is not what the decoder has read
        return content
    return content[:end]


def lack_end(content: bytes) -> bool:
    """Whether there is no end marker behind the last scan."""
    return not content.endswith(END) and content.rfind(END) < content.rfind(_START_OF_SCAN)


def end_in_zeros(content: bytes) -> bool:
    """Whether the file ends in zeros instead of an end marker, as after a power cut: nobody knows where its content ended."""
    return content.endswith(_ZEROS) and lack_end(content)


def have_other_line_ends(content: bytes) -> bool:
    """Whether each line feed has a carriage return before it, as after FTP in text mode: the decoder makes noise of that.

    Every 256th byte of a scan is a line feed, and of these every 256th has one by chance.
    """
    start = content.find(_START_OF_SCAN)
    first = content.find(b"\n", start)
    if start < 0 or content[first - 1 : first] != b"\r":  # as of nearly all, which need not be counted in then
        return False
    feeds = content.count(b"\n", start)
    return feeds >= _FEEDS and feeds == content.count(b"\r\n", start)


def are_missing(content: bytes) -> bool:
    """Whether a colour was never sent, or, of a progressive JPEG, some coefficient never or not to its last bit."""
    try:
        missing = _missing_bits(content)
    except (IndexError, KeyError):  # it is not what the decoder has read
        return False
    return any(any(bits) for bits in missing.values())


def _missing_bits(content: bytes) -> dict[int, list[int]]:
    """By component, how many bits of each coefficient are missing at the end of the image."""
    missing: dict[int, list[int]] = {}
    progressive = False
    for kind, _, body in _segments(content):
        if kind in _FRAMES:
            progressive = kind in _PROGRESSIVE
            missing = {body[6 + 3 * number]: [_NEVER] * _COEFFICIENTS for number in range(body[5])}
        elif kind == _START_OF_SCAN[1]:
            first, last, bits = body[-3:]
            for number in range(body[0]):
                of_component = missing[body[1 + 2 * number]]
                if not progressive:
                    of_component[:] = [0] * _COEFFICIENTS
                    continue
                for coefficient in range(first, last + 1):
                    of_component[coefficient] = bits & 0x0F
    return missing


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each marker to the end of the image: its kind, where it ends, and the segment that belongs to it."""
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
