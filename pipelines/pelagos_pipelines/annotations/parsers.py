"""The tasks that parse annotation files in a child of the sandbox: untrusted bytes in, short documents and plain numbers out.

Run by reading.py, one task at a time; the formats are in coco_document.py, yolo_document.py and voc_document.py. Files of any
size are read in pieces. Refusals name a place in the file, and never repeat its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson

from pelagos_pipelines.annotations import coco_document, voc_document, yolo_document
from pelagos_pipelines.annotations.drawings import refusals
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.untrusted_input import encoded, printable
from pelagos_pipelines.sandbox import Answer


def coco(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The categories, images and boxes of a COCO file.

    The document has counts and faults. Raw has, one after the other: ids, names and changed names of the ``categories``, and the
    ``images``, as JSON; for each box the index of its image and of its category (int32); the images of annotations that are
    passed over (int32); and the boxes' sides (float64).
    """
    with refusals():
        above = arguments.get("above", False)
        return coco_document.read(arguments["where"], file, arguments["annotations"], arguments["images"], above=above)


def settings(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The content of data.yaml, as JSON in raw."""
    with refusals():
        where = arguments["where"]
        return Answer(raw=encoded(where, yolo_document.settings(where, file.read())))


def lines(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The non-empty lines of a text file, with their numbers, as JSON in raw."""
    with refusals():
        where = arguments["where"]
        return Answer(raw=encoded(where, yolo_document.lines(where, file.read())))


def labels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The rows of several YOLO label files, which are concatenated in ``file``.

    They follow ``header`` bytes of JSON with names and lengths of the files. The document has the number of rows, and the faults.
    Raw has for each file (int32) the numbers of rows, of polygons, of polygons that may be key points of 2 and of 3 numbers, and
    of columns of polygons; then the class of each row (int32); then left, top, width and height as fractions (float64); and, if
    requested, ``outlines`` bytes of JSON with the rows of each file, each with its class and numbers.
    """
    with refusals():
        header = orjson.loads(file.read(arguments["header"]))
        points = arguments["points"]
        rows = yolo_document.Rows(
            arguments["classes"],
            frozenset(arguments["unnamed"]),
            None if points is None else (points[0], points[1]),
            arguments["annotations"],
            outlines=[] if arguments.get("outlines") else None,
        )
        for name, length in header:
            rows.read(printable(name), file.read(length))
        return rows.answer()


def voc(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """Several files of Pascal VOC, which are in ``file`` as label files are for ``labels``.

    The document has the number of boxes, and the faults. Raw has, as JSON, None for a file of another kind, else name and size of
    the image, whether it is of the challenge, class names, and for each box the index of its name and its sides.
    """
    with refusals():
        header, faults, found = orjson.loads(file.read(arguments["header"])), Faults(), list[object]()
        left = arguments["annotations"]
        for name, length in header:
            content, document = file.read(length), None
            with faults.noting():
                document = voc_document.read(printable(name), content, faults, left)
                left -= len(document.boxes) if document is not None else 0
            found.append(None if document is None else vars(document))
        counts = {"objects": arguments["annotations"] - left, "faults": faults.document()}
        return Answer(document=counts, raw=encoded("one of the files", found))


def is_voc(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """Whether a file is of Pascal VOC, as JSON in raw."""
    return Answer(raw=encoded(arguments["where"], voc_document.is_one(file.read())))
