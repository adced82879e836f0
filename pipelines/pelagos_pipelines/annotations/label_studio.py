"""Label Studio: its JSON export, a list of tasks with data, annotations and predictions, or one file per task.

Source: labelstud.io, "Label Studio JSON format of annotated tasks". JSON-MIN, CSV and TSV lack necessary information.
"""

from __future__ import annotations

from pelagos_contract.formats import LABEL_STUDIO
from pelagos_pipelines.annotations import label_studio_writing
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) == ".json"]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are JSON files of Label Studio."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


TOOL = Tool(
    LABEL_STUDIO,
    _files,
    "pelagos_pipelines.annotations.label_studio_document",
    is_whole=True,
    said={
        "superseded": "regions and choices belong to annotations whose task has another one that is ground truth or newer, and "
        "are left out",
        "cancelled": "annotations were skipped in Label Studio, and are not read",
        "predictions": "predictions are not annotations, and are not read",
        "drafts": "drafts were never submitted, and are not read",
        "relations": "relations between regions are left out",
        "answers": "answers about whole images that do not choose a class (ratings, numbers, text) are left out",
        "others": "regions have a kind that does not apply to images, and are left out",
    },
)
FORMAT = Format(LABEL_STUDIO, recognises, TOOL.read, label_studio_writing.write, evidence=TOOL.evidence)
