"""LabelMe: a JSON file for each image, beside it, as labelme 4 to 6 and others write them.

Source: wkentaro/labelme, ``label_file.py`` and ``shape.py``: version, flags, shapes[] (label, points, shape_type, group_id,
flags, description, mask), imagePath, imageHeight and imageWidth. imageData, the image itself, is not read.
"""

from __future__ import annotations

from pelagos_contract.formats import LABELME
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".json"]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are JSON files of LabelMe."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(LABELME, _files, "pelagos_pipelines.annotations.labelme_document")
FORMAT = Format(LABELME, recognises, TOOL.read, evidence=TOOL.evidence)
