"""iFDO: the FAIR digital object of a set of marine images, one YAML or JSON file with a header and an item for each image.

Source: the iFDO standard, version 2.2, on marine-imaging.com.
"""

from __future__ import annotations

from pelagos_contract.formats import IFDO
from pelagos_pipelines.annotations import ifdo_writing
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) in {".yaml", ".yml", ".json"}]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are iFDO files."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(
    IFDO,
    _files,
    "pelagos_pipelines.annotations.ifdo_document",
    said={
        "labels": "annotations have more than one label, and count once for each",
        "bare": "annotations have no label, and are left out",
        "undeclared": "labels are not declared in image-annotation-labels, and are named by their id",
        "videos": "items are videos, and are left out",
    },
)
FORMAT = Format(IFDO, recognises, TOOL.read, ifdo_writing.write, evidence=TOOL.evidence)
