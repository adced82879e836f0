"""The layouts that sources come in: the table of all that are read. What reads one stands in the data plane's annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pelagos_contract.tasks import Task


@dataclass(frozen=True)
class FormatDescription:
    """A format: its name in specs, the task that its annotations are for, its view of a version, its layout in words."""

    name: str
    task: Task
    view: str
    layout: str
    version: int = 1
    """See algorithms: raised when the same files are read as something else."""


IMAGE_FOLDER = FormatDescription(
    name="ImageFolder",
    task=Task.CLASSIFICATION,
    view="imagefolder",
    layout="a folder per class with its images, or train, val and test with a folder per class each",
)
COCO = FormatDescription(
    name="Coco",
    task=Task.DETECTION,
    view="coco",
    layout="annotations*.json, instances_*.json, _annotations.coco.json or labels.json with images, annotations and categories",
)
YOLO = FormatDescription(
    name="Yolo",
    task=Task.DETECTION,
    view="yolo",
    layout="data.yaml (names, train, val, test), classes.txt or obj.names, with images/ and labels/",
)
FORMATS = (IMAGE_FOLDER, COCO, YOLO)
AUTO = "Auto"
"""The format is recognised."""

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[(AUTO, *(described.name for described in FORMATS))]
