"""CVAT for images 1.1: annotations.xml, of a task, a project or a job, with the images in ``images/``, by subset or not.

Source: docs.cvat.ai, "XML annotation format", version 1.1. CVAT for video, whose tracks go through frames, is refused by name.
"""

from __future__ import annotations

from pelagos_contract.formats import CVAT
from pelagos_pipelines.annotations import cvat_writing
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".xml"]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are XML files of it."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(
    CVAT,
    _files,
    "pelagos_pipelines.annotations.cvat_document",
    is_whole=True,
    said={
        "cuboids": "annotations are each a cuboid, which is no shape of a flat image, and are left out",
        "others": "annotations are of a kind that CVAT did not have when this was written, and are left out",
    },
)
FORMAT = Format(CVAT, recognises, TOOL.read, cvat_writing.write, evidence=TOOL.evidence)
