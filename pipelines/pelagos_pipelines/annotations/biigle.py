"""BIIGLE: CSV reports of annotations and of labels of whole images, in one or several files (per volume, label tree or user).

Source: biigle/core, ``app/Services/Reports/Volumes/ImageAnnotations/CsvReportGenerator.php`` and the one of ImageLabels, and
``app/Shape.php``. A report lists only images with annotations. Others are left out, since it does not say that they are empty.
"""

from __future__ import annotations

from pelagos_contract.formats import BIIGLE
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".csv"]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are CSV files of BIIGLE."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(
    BIIGLE,
    _files,
    "pelagos_pipelines.annotations.biigle_document",
    said={
        "labels": "annotations have more than one label, and count once for each",
        "uneven": "rectangles have corners that do not form a rectangle, and are read as polygons",
    },
    path="label_hierarchy",
)
FORMAT = Format(BIIGLE, recognises, TOOL.read, evidence=TOOL.evidence)
