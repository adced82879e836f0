"""Predictions prepared for a drawing over the image and for a table. They are untrusted input: bounded, and made plain text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pelagos_hub.catalogue import reading

MOST_FOUND = 500
"""Most rows of the table, and most shapes over the image."""
_MOST_STROKES = 60_000
"""Most strokes of all masks together; a stroke is a run of pixels within one column."""
_MOST_RUNS = 200_000
COLOURS = 8
_BITS, _MORE, _SIGN, _FIRST = 5, 0x20, 0x10, ord("0")


@dataclass(frozen=True)
class Shape:
    """An SVG element with its attributes, in pixels of the image, and the scale factors of its two axes."""

    element: str
    attributes: Mapping[str, str]
    stretched: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Found:
    """One row of the table. ``colour`` is the same for the same label."""

    number: int
    label: str
    score: float | None
    where: str
    shape: Shape | None
    colour: int


@dataclass(frozen=True)
class Answer:
    """A prediction for pages. ``measure`` names the scores: score, probability or share; ``total`` also counts omitted rows."""

    task: str
    width: int
    height: int
    found: tuple[Found, ...]
    total: int
    measure: str
    notes: tuple[str, ...]

    @property
    def has_shapes(self) -> bool:
        """Whether any row has a shape to draw."""
        return any(each.shape is not None for each in self.found)

    @property
    def labels(self) -> list[tuple[str, int, int]]:
        """Each label with its colour and its number of occurrences, most frequent first."""
        counts: dict[tuple[str, int], int] = {}
        for each in self.found:
            counts[each.label, each.colour] = counts.get((each.label, each.colour), 0) + 1
        return sorted(((label, colour, count) for (label, colour), count in counts.items()), key=lambda one: -one[2])


def answer(prediction: Mapping[str, Any], size: tuple[int, int]) -> Answer:
    """The Answer for a prediction on an image of ``size`` (width, height)."""
    lists = [
        name for name in ("detections", "instances", "segments", "classes") if isinstance(prediction.get(name), list)
    ]
    told = prediction[lists[0]] if lists else []
    entries = list(reading.each(told, MOST_FOUND))
    measure = next((name for name in ("score", "probability", "share") if entries and name in entries[0]), "score")
    colours = {label: place % COLOURS for place, label in enumerate(dict.fromkeys(_label(each) for each in entries))}
    strokes = _MOST_STROKES
    found, is_cut = [], False
    for number, each in enumerate(entries, start=1):
        shape, where = _shape(each, size, strokes)
        if shape is not None and shape.element == "path":
            strokes -= shape.attributes["d"].count("M")
        is_cut = is_cut or (shape is None and "mask" in each)
        score = reading.number(each.get(measure))
        found.append(Found(number, _label(each), _share(score), where, shape, colours[_label(each)]))
    notes = []
    if len(told) > len(entries):
        notes.append(f"The first {len(entries)} of {len(told)} are shown; the download has all.")
    if prediction.get("cut") is True:
        notes.append("The model found more than it reports: these are the best.")
    if is_cut:
        notes.append("Some masks are too large to draw; the download has them.")
    if prediction.get("decided") is False:
        notes.append("The model is not sure enough of any class (below its threshold).")
    if error := reading.line(prediction.get("error")):
        notes.append(f"The model refused the image: {error}")
    task = reading.line(prediction.get("task"), 40)
    return Answer(task, *size, tuple(found), len(told), measure, tuple(notes))


def _label(entry: Mapping[str, Any]) -> str:
    return reading.line(entry.get("label"), 100) or "without a name"


def _share(score: float | None) -> float | None:
    return min(1.0, max(0.0, score)) if score is not None else None


def _shape(entry: Mapping[str, Any], size: tuple[int, int], strokes: int) -> tuple[Shape | None, str]:
    """The drawing of an entry, None without one, and its position in words."""
    box, corners = _numbers(entry.get("box"), 4), _numbers(entry.get("corners"), 8)
    where = ""
    if box is not None:
        left, top, right, bottom = (min(max(value, -1e5), 1e5) for value in box)
        where = f"{left:.0f}, {top:.0f}; {right - left:.0f} × {bottom - top:.0f}"
    if (mask := reading.at(entry, "mask")) and (path := _path(mask, strokes)) is not None:
        height, width = mask["size"]
        return Shape("path", {"d": path}, (size[0] / width, size[1] / height)), where
    if corners is not None:
        xs, ys = corners[::2], corners[1::2]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        turned = _numbers(entry.get("box"), 5)
        if turned is not None:
            where = f"{turned[0]:.0f}, {turned[1]:.0f}; {turned[2]:.0f} × {turned[3]:.0f}, turned {turned[4]:.0f}°"
        return Shape("polygon", {"points": points}), where
    if box is not None and "mask" not in entry:
        width, height = max(0.0, right - left), max(0.0, bottom - top)
        attributes = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
        return Shape("rect", attributes), where
    return None, where


def _numbers(value: object, length: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != length:
        return None
    found = [reading.number(each) for each in value]
    plain = [each for each in found if each is not None and abs(each) < 1e6]
    return plain if len(plain) == length else None


def _path(mask: Mapping[str, Any], strokes: int) -> str | None:
    """A mask as an SVG path, column by column; None when it is invalid or needs more than ``strokes`` strokes."""
    size, counts = mask.get("size"), mask.get("counts")
    if not (
        isinstance(size, list) and len(size) == 2 and all(isinstance(each, int) and 0 < each < 1e5 for each in size)
    ):
        return None
    if not isinstance(counts, str) or not counts.isascii():
        return None
    height, width = size
    parts: list[str] = []
    place, is_inside = 0, False
    for length in itertools.islice(_runs(counts), _MOST_RUNS):
        # Encoders write no empty run but the first. Others would cost time without using up strokes.
        if length < (1 if place or is_inside else 0) or place + length > height * width:
            return None
        if is_inside:
            for column, top, rows in _columns(place, length, height):
                if len(parts) >= strokes:
                    return None
                parts.append(f"M{column} {top}h1v{rows}h-1z")
        place, is_inside = place + length, not is_inside
    return "".join(parts)


def _columns(start: int, length: int, height: int) -> Iterator[tuple[int, int, int]]:
    """Split a run of pixels at column ends; yields the column's number, the first row and the number of rows."""
    while length > 0:
        column, top = divmod(start, height)
        rows = min(length, height - top)
        yield column, top, rows
        start, length = start + rows, length - rows


def _runs(counts: str) -> Iterator[int]:
    """Decode COCO's compressed run lengths, like pelagos_contract.run_lengths, but without numpy, which the hub does not have."""
    before: Sequence[int] = ()
    value, shift = 0, 0
    for character in counts:
        code = ord(character) - _FIRST
        value |= (code & (_MORE - 1)) << shift
        shift += _BITS
        if code & _MORE and shift < 8 * _BITS:
            continue
        if code & _SIGN:
            value -= 1 << shift
        # From the fourth run on, the text has the difference to the run two places before.
        run = value + (before[-2] if len(before) > 2 else 0)
        before = (*before[-2:], run)
        yield run
        value, shift = 0, 0
