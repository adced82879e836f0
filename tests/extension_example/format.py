"""A format: labels.csv with a row of file and class for each image."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from extension_example.descriptions import FORMAT as DESCRIPTION
from pelagos_pipelines.annotations import linking, reading, untrusted_input
from pelagos_pipelines.annotations.drawings import refusals
from pelagos_pipelines.annotations.model import Asked, Collection, Format, ImageRecord, Sizes, SourceFiles, declared
from pelagos_pipelines.sandbox import Answer

FILE = "labels.csv"


def recognises(tree: SourceFiles) -> bool:
    """Whether there is the table."""
    return FILE in tree.known


def read(tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """The images that the table names."""
    images = []
    for number, (path, label) in enumerate(reading.parsed("rows", tree, FILE, reading.MAX_SETTINGS, __name__), start=1):
        if path not in tree.known:
            raise untrusted_input.invalid(f"{FILE}, line {number} names no file that is there")
        images.append(ImageRecord(path, label=label))
    names = sorted({image.label for image in images if image.label is not None})
    return Collection(asked.task, declared(names, images)[0], tuple(images), annotation_files=(FILE,))


def rows(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """In a child of the sandbox: file and class of each row."""
    with refusals():
        found = []
        for number, row in enumerate(csv.reader(io.TextIOWrapper(file, encoding="utf-8")), start=1):
            if len(row) != 2:
                raise untrusted_input.invalid(
                    f"{FILE}, line {number} has {len(row)} columns; expected are file and class"
                )
            found.append((row[0], untrusted_input.class_name(row[1], f"{FILE}, line {number}")))
        return Answer(raw=untrusted_input.encoded(FILE, found))


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """The images beside the table."""
    names = linking.numbered(collection.images)
    for image in collection.images:
        linking.link(blobs[image.path], target / names[image.path])
    rows = [f"{names[image.path]},{image.label}\n" for image in collection.images]
    (target / FILE).write_text("".join(rows), encoding="utf-8")


FORMAT = Format(DESCRIPTION, recognises, read, write)
