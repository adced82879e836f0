"""VIA, the VGG Image Annotator 2: its project, or its export of annotations as JSON, and the images.

Source: ``CodeDoc.md`` and the demos of VIA 2: a project has _via_img_metadata and _via_attributes; an export is what a
project has in _via_img_metadata. VIA 1 numbers regions in an object, where VIA 2 has a list.
"""

from __future__ import annotations

from pelagos_contract.formats import VIA
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".json"]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are JSON files of VIA."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(
    VIA,
    _files,
    "pelagos_pipelines.annotations.via_document",
    is_whole=True,
    said={
        "labels": "regions have more than one class, and count once for each",
        "empty": "images have neither a region nor a class; VIA does not say whether somebody looked at them, so for tasks with "
        "regions they are images that show nothing",
        "files": "attributes of files are neither the class of an image nor its split, and are left out",
    },
)
FORMAT = Format(VIA, recognises, TOOL.read, evidence=TOOL.evidence)
