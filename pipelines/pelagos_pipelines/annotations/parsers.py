"""The tasks that read annotation files in a child of the sandbox: bytes of strangers in, short documents and plain numbers out.

Run by reading.py, one task at a time; coco_document.py, yolo_document.py and voc_document.py know the formats. A file of any
size is read in pieces. Refusals name a place in the file, and never text that stands there.
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

    The document has counts, and what is wrong; raw holds, one after the other, ids, names and changed names of the ``categories``
    and the ``images``, as JSON, then for each box the index of its image and of its category (int32), the images of annotations
    that are passed over (int32), and the boxes' sides (float64).
    """
    with refusals():
        above = arguments.get("above", False)
        return coco_document.read(arguments["where"], file, arguments["annotations"], arguments["images"], above=above)


def settings(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """What data.yaml says, as JSON in raw."""
    with refusals():
        where = arguments["where"]
        return Answer(raw=encoded(where, yolo_document.settings(where, file.read())))


def lines(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The lines of a text file that are not empty, with their numbers, as JSON in raw."""
    with refusals():
        where = arguments["where"]
        return Answer(raw=encoded(where, yolo_document.lines(where, file.read())))


def labels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The rows of several label files of YOLO, which stand in ``file`` one after the other.

    Before them stand ``header`` bytes of JSON: names and lengths of the files. The document has the number of rows, and what is
    wrong; raw holds, of each file (int32), how many rows, polygons, and polygons that may be key points of 2 and of 3 numbers it
    has, and how many columns polygons have, then the class of each row (int32), then left, top, width and height as fractions
    (float64), and, when they are asked for, ``outlines`` bytes of JSON: of each file its rows, of each its class and numbers.
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
    """Several files of Pascal VOC, which stand in ``file`` as label files do for ``labels``.

    The document has the number of boxes, and what is wrong; raw holds, as JSON, None for a file that is none, else name and
    sizes of the image, whether it is of the challenge, class names, and of each box the index of its name and its sides.
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
