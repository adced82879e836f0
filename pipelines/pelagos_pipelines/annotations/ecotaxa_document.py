"""Parses a TSV file of EcoTaxa, which has a row per image of an object. Called in a child of the sandbox, by reading.drawings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import BinaryIO

from pelagos_pipelines.annotations import drawings, tables
from pelagos_pipelines.annotations.drawings import Drawings
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

_OBJECTS = frozenset({"object_id", "object_annotation_category"})
_TO_IMPORT = frozenset({"object_id", "img_file_name"})
_TYPES = {"[t]", "[f]"}
"""Types of columns, in the line below their names."""
_LEFT: Mapping[str, str] = {
    "predicted": "predicted",
    "p": "predicted",
    "dubious": "dubious",
    "d": "dubious",
    "": "open",
}
_VALIDATED = {"validated", "v"}
_GROUPS = ("sample_id", "acq_id", "object_id")
"""The first of these that exists is the group, since animals of one tow resemble each other."""
_KEPT = (
    "object_annotation_hierarchy",
    "object_lat",
    "object_lon",
    "object_date",
    "object_time",
    "object_depth_min",
    "object_depth_max",
    "sample_id",
    "acq_id",
    "process_id",
)


def _read(found: Drawings, file: BinaryIO) -> None:
    for line, row in tables.rows(found.where, file, _OBJECTS, _TO_IMPORT):
        if {*row.values()} <= _TYPES:
            continue
        if "img_file_name" not in row:
            raise invalid(f"{found.where} has no column img_file_name, which names the images: export with images")
        with found.faults.noting():
            _take(found, row, f"line {line}")


def _take(found: Drawings, row: Mapping[str, str], place: str) -> None:
    status = row.get("object_annotation_status", "").strip().lower()
    if status not in _VALIDATED and status not in _LEFT:
        raise invalid(
            f"{found.where}: {place} has an object_annotation_status other than validated, predicted and dubious: correct it"
        )
    group = next((row[name] for name in _GROUPS if row.get(name)), None)
    image = found.image(
        [row["img_file_name"]], place, group=group and sys.intern(group), is_labelled=status in _VALIDATED
    )
    if status not in _VALIDATED:
        found.counted[_LEFT[status]] += 1
        return
    found.counted["further"] += row.get("img_rank", "").strip() not in {"", "0"}
    found.shape(image, place, row.get("object_annotation_category"), lambda label: _tag(row, label))


def _tag(row: Mapping[str, str], label: str) -> Shape:
    return Shape(
        label,
        Kind.TAG,
        attributes={name: sys.intern(row[name]) for name in _KEPT if row.get(name)},
        annotator=sys.intern(row.get("object_annotation_person_name", "")) or None,
        origin=row["object_id"] or None,
    )


def _is_one(file: BinaryIO) -> bool:
    return bool(tables.columns(file, _OBJECTS, _TO_IMPORT))


parse = drawings.task(_read)
is_one = drawings.question(_is_one)
