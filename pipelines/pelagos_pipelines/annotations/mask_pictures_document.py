"""Parses labelmap.txt and classes.txt, the legends of label masks. Called in a child of the sandbox, by reading.drawings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from pelagos_pipelines.annotations import drawings
from pelagos_pipelines.annotations.drawings import Drawings, Segment
from pelagos_pipelines.annotations.untrusted_input import MAX_CLASSES, class_name, invalid

COLOURS, NUMBERS = "colours", "numbers"
"""Whether pixels are the colours or the numbers of their classes."""
_COLOUR = re.compile(
    r"(?P<name>.*):(?P<red>[0-9]{1,3}),(?P<green>[0-9]{1,3}),(?P<blue>[0-9]{1,3}):[^:]*:[^:]*", re.ASCII
)
_BACKGROUND = frozenset({"background", "unlabelled", "unlabeled", "none", "void", "bg"})
_LARGEST = 2**20


def _read(found: Drawings, file: BinaryIO) -> None:
    """Add one image that represents the legend: its segments are the classes, its picture names the kind of numbers."""
    lines = list(_lines(found, file))
    with_colours = any(_COLOUR.fullmatch(line) for _, line in lines)
    legend = found.image(["legend"], "the legend")
    legend.picture = COLOURS if with_colours else NUMBERS
    numbers: set[int] = set()
    for place, (number, line) in enumerate(lines):
        # An empty line still counts for the numbering.
        where = f"{found.where}, line {number}"
        with found.faults.noting():
            name, value = _coloured(where, line) if with_colours else (line, number - 1)
            if not with_colours and place == 0 and (value or _plain(name) not in _BACKGROUND):
                raise invalid(
                    f"{where} must be background, which pixels with the number 0 show: add it before the classes"
                )
            if value == 0:
                continue
            if value in numbers:
                raise invalid(f"{where} has the colour of an earlier line: give each class its own colour")
            numbers.add(value)
            label = class_name(name, where)
            if label in found.classes:
                raise invalid(f"{where} has the name of an earlier line: give each class its own name")
            found.declare(label, f"line {number}")
            legend.segments.append(Segment(value, label, is_thing=True, is_crowd=False))
    if not legend.segments and not found.faults.count:
        raise invalid(f"{found.where} has no class but the background: add the classes")


def _lines(found: Drawings, file: BinaryIO) -> Iterator[tuple[int, str]]:
    content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise invalid(f"{found.where} has more than {_LARGEST} bytes, which is too large for a list of classes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"{found.where} is not UTF-8 text; save it as UTF-8") from error
    listed = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    listed = [(number, line) for number, line in listed if line and not line.startswith("#")]
    if len(listed) > MAX_CLASSES:
        raise invalid(f"{found.where} declares more than {MAX_CLASSES} classes; remove unused ones")
    yield from listed


def _coloured(where: str, line: str) -> tuple[str, int]:
    """The name of a class, and the number for its colour."""
    found = _COLOUR.fullmatch(line)
    colour = [int(found[name]) for name in ("red", "green", "blue")] if found is not None else [256]
    if found is None or max(colour) > 255:
        raise invalid(
            f"{where} is not a name with a colour, as in cod:128,0,0:: with numbers from 0 to 255: correct it"
        )
    red, green, blue = colour
    return found["name"], red + 256 * green + 65536 * blue


def _plain(name: str) -> str:
    return name.strip("_ ").lower()


def _is_one(file: BinaryIO) -> bool:
    """Whether the first line is that of a legend, unlike rows of other tools."""
    lines = file.read(4096).decode("utf-8-sig", "replace").split("\n")
    first = next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")
    return _COLOUR.fullmatch(first) is not None or _plain(first) in _BACKGROUND


parse = drawings.task(_read)
is_one = drawings.question(_is_one)
