"""Reads when and where images were taken from a table (CSV) or an iFDO. Runs in a sandboxed child, for listed.

Both tasks answer with a line of JSON for each row or item: the name of an image, the place in the file, the values of fields, and
the reasons why other fields have none. Only names and values contain text of the file, and the parent process checks them again.
"""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import capture, ifdo_document, tables
from pelagos_pipelines.annotations.capture import ValueFaultError
from pelagos_pipelines.annotations.drawings import MAX_NAME, OtherKindError, refusals
from pelagos_pipelines.annotations.many_shapes import Written
from pelagos_pipelines.annotations.untrusted_input import encoded, format_names, invalid, too_many
from pelagos_pipelines.sandbox import Answer

MAX_CELL = 2**16
"""The most characters of a cell; long, because a table may have annotations, too."""
NAMES: Mapping[str, Sequence[str]] = {
    "path": ("path", "image", "file", "filename", "file_name", "image-filename"),
    "site": ("site",),
    "deployment": ("deployment", "event", "image-event"),
    "platform": ("platform", "image-platform"),
    "time": ("time", "datetime", "timestamp", "taken_at", "image-datetime"),
    "depth": ("depth", "image-depth", "image-depth-meters"),
    "altitude": ("gps_altitude", "image-altitude", "image-altitude-meters"),
    "latitude": ("latitude", "lat", "image-latitude"),
    "longitude": ("longitude", "lon", "lng", "image-longitude"),
}
"""Names of columns by field, in any case, and iFDO's names. Those of BIIGLE are among them."""
_UTF_16 = {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
_KNOWN = frozenset(name for names in NAMES.values() for name in names)


@dataclass
class _Row:
    """The values and faults of one image."""

    name: str
    place: str
    values: dict[str, str | float] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    assumed: bool = False
    """Whether the time was taken as UTC because no offset is known."""
    is_video: bool = False

    def take(self, name: str, value: object, utc_offset: str | None) -> None:
        """Add the value of a field, or the reason why it has none."""
        read: str | float | None
        try:
            if name in capture.TEXTS:
                read = capture.text_of(value)
            elif name == "time":
                read, self.assumed = capture.time_of(value, utc_offset)
            else:
                read = capture.number_of(name, value)
        except ValueFaultError as error:
            self.faults["depth" if name == "altitude" else name] = error.fault.value
            return
        if name == "altitude" and isinstance(read, float):
            name, read = "depth", capture.depth_of(read)
        if read is not None:
            self.values.setdefault(name, read)

    def line(self, where: str) -> bytes:
        """The row as a line of the answer."""
        faults = {name: why for name, why in self.faults.items() if name not in self.values}
        return encoded(where, [self.name, self.place, self.values, faults, self.assumed, self.is_video])


def table(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The task: the rows of a table. ``columns`` has the names of columns, by field, that differ from the usual ones."""
    with refusals():
        where = arguments["where"]
        return _answer(where, _rows(where, file, arguments), arguments["limit"])


def ifdo(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The task: the items of an iFDO, with the values of its header, which apply to all items."""
    with refusals():
        where = arguments["where"]
        return _answer(where, _items(where, file), arguments["limit"])


def is_annotated(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The task: whether an iFDO has annotations, as JSON in raw. True for an invalid file as well: its reader reports why."""
    key = "image-annotations"
    with refusals():
        try:
            where = arguments["where"]
            found = not ifdo_document.is_ifdo(file) or ifdo_document.header_of(where, file).get(key) is not None
            found = found or any(
                isinstance(entry, dict) and entry.get(key) is not None
                for _, item in ifdo_document.items_of(where, file)
                for entry in (item if isinstance(item, list) else [item])
            )
        except RefusedError:
            found = True
        return Answer(raw=b"true" if found else b"false")


def _answer(where: str, rows: Iterator[_Row], limit: int) -> Answer:
    found, count = Written(), 0
    for count, row in enumerate(rows, start=1):
        if count > limit:
            raise too_many(where, limit)
        found.add(row.line(where))
    return Answer(document={"rows": count}, raw=found.content())


# --- tables


def _rows(where: str, file: BinaryIO, arguments: Mapping[str, Any]) -> Iterator[_Row]:
    if file.read(2) in _UTF_16:
        raise _unfit("file", f"{where} is UTF-16, as spreadsheets write Unicode text: save it as CSV in UTF-8")
    file.seek(0)
    try:
        chosen = _chosen(where, tables.names(file), arguments["columns"])
        listed = tables.rows(where, file, frozenset({chosen["path"]}), longest=MAX_CELL)
        for line, cells in listed:
            row = _Row(_name(cells[chosen["path"]]), f"line {line}")
            for name, column in chosen.items():
                if name != "path":
                    row.take(name, cells[column], arguments["utcOffset"])
            yield row
    except OtherKindError as error:
        raise _unfit(
            "file", f"{where} is no table with the names of its columns in the first line: save it as CSV"
        ) from error


def _chosen(where: str, found: Sequence[str], called: Mapping[str, str]) -> dict[str, str]:
    """The column of each field that has one. Refusals quote no column names of the file except those in NAMES."""
    chosen = {}
    for name, usual in NAMES.items():
        wanted = called.get(name)
        if wanted is not None and wanted not in found:
            nearest = difflib.get_close_matches(wanted, [one for one in found if one.lower() in _KNOWN], 1)
            more = f" (nearest of those that are known here is {nearest[0]})" if nearest else ""
            raise _unfit(f"columns.{name}", f"{where} has no column {wanted}{more}; correct the name")
        fitting = [wanted] if wanted is not None else [one for one in found if one.lower() in usual]
        if len(fitting) > 1:
            words = f"{where} has the columns {format_names(fitting)}, which may all be the {name}: name the one that is meant"
            raise _unfit(f"columns.{name}", words)
        if fitting:
            chosen[name] = fitting[0]
    if "path" not in chosen:
        known = [*chosen.values()]
        there = f"; of the others there are {format_names(known)}" if known else ""
        raise _unfit(
            "columns.path",
            f"{where} has no column that names images ({', '.join(NAMES['path'])}){there}: say how it is called",
        )
    if len(chosen) == 1:
        usual_names = ", ".join(names[0] for names in NAMES.values())
        raise _unfit(
            "columns", f"{where} names images, and has no other column of {usual_names}: say how these are called"
        )
    return chosen


def _unfit(place: str, words: str) -> RefusedError:
    return RefusedError(Reason.CAPTURE_INVALID, f"capture.{place}: {words}", f"capture.{place}")


def _name(value: object) -> str:
    """The name of an image; empty for a value that cannot be one."""
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= MAX_NAME else ""


# --- iFDO


def _items(where: str, file: BinaryIO) -> Iterator[_Row]:
    if not ifdo_document.is_ifdo(file):
        raise _unfit("file", f"{where} is no iFDO, which has an image-set-header and image-set-items")
    header = ifdo_document.header_of(where, file)
    for number, (name, item) in enumerate(ifdo_document.items_of(where, file)):
        row = _Row(_name(name), f"item {number} (counted from 0)")
        entries: list[Any] = item if isinstance(item, list) else [item]
        if not all(isinstance(entry, dict) for entry in entries):
            raise invalid(f"{where}: {row.place} is neither a mapping nor a list of mappings: export it again")
        told = [_said(header | entry) for entry in entries or [{}]]
        films = any((header | entry).get("image-acquisition") in ifdo_document.FILMS for entry in entries)
        # Several entries for one photo hold annotations by several people, and agree about time and place.
        row.is_video = (
            films or any(one != told[0] for one in told) or any(isinstance(one, list) for one in told[0].values())
        )
        if not row.is_video:
            for field_name, value in told[0].items():
                row.take(field_name, value, capture.UTC_SIGN)
        yield row


def _said(entry: ifdo_document.Object) -> dict[str, Any]:
    """The values of fields, in the order of NAMES: depth before altitude."""
    found: dict[str, Any] = {}
    for name, keys in NAMES.items():
        value = next((entry[key] for key in keys if key.startswith("image-") and entry.get(key) is not None), None)
        if value is not None and name != "path":
            # In version 2 of iFDO, such a value may be a mapping with a name and a link.
            found[name] = value.get("name") if isinstance(value, dict) and name in capture.TEXTS else value
    return found
