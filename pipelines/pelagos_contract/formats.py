"""The table of all annotation formats that are read. Their code is in the data plane's ``annotations``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pelagos_contract.base import OneOf
from pelagos_contract.registry import Registry
from pelagos_contract.tasks import Task

SHAPED = (
    Task.ORIENTED_DETECTION,
    Task.INSTANCE_SEGMENTATION,
    Task.SEMANTIC_SEGMENTATION,
    Task.PANOPTIC_SEGMENTATION,
)
"""The tasks whose annotations are shapes."""


@dataclass(frozen=True)
class FormatDescription:
    """A format: its name in specs, the tasks that it has annotations for, its view of a version, its layout in words.

    ``view`` is None when versions are not written in this format. ``options`` are the other fields of a spec that it uses, and
    ``levels`` the allowed values of labels.level. ``choice`` says when a person should name this format although Auto chose
    another, where that depends on the person's intention.
    """

    name: str
    tasks: tuple[Task, ...]
    view: str | None
    layout: str
    options: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    choice: str | None = None
    version: int = 1
    """See algorithms: raised when the same files are read differently."""
    holds_crowds: bool = False
    """Whether its view can mark a region whose objects were not drawn one by one."""


IMAGE_FOLDER = FormatDescription(
    name="ImageFolder",
    tasks=(Task.CLASSIFICATION,),
    view="imagefolder",
    layout="a folder per class with its images, or train, val and test with a folder per class each",
    options=("classFolder",),
    levels=("a number", "First", "Last"),
    choice="the folders say what images show",
)
COCO = FormatDescription(
    name="Coco",
    tasks=(Task.DETECTION, *SHAPED),
    view="coco",
    levels=("Supercategory",),
    holds_crowds=True,
    layout="annotations*.json, instances_*.json, panoptic_*.json, _annotations.coco.json, labels.json, result.json or"
    " dataset.json with images, annotations and categories",
)
YOLO = FormatDescription(
    name="Yolo",
    tasks=(Task.DETECTION, *SHAPED),
    view="yolo",
    layout="data.yaml (names, train, val, test), classes.txt or obj.names, with images/ and labels/",
)
PASCAL_VOC = FormatDescription(
    name="Voc",
    tasks=(Task.DETECTION,),
    view="voc",
    layout="an XML file with <annotation> for each image, beside it or in Annotations/, with or without ImageSets/Main",
)
LABELME = FormatDescription(
    name="LabelMe",
    tasks=tuple(Task),
    view=None,
    layout="a JSON file of LabelMe for each image, with imagePath and shapes",
)
CVAT = FormatDescription(
    name="Cvat",
    tasks=tuple(Task),
    view="cvat",
    layout="annotations.xml of CVAT for images 1.1, with the images in images/",
)
LABEL_STUDIO = FormatDescription(
    name="LabelStudio",
    tasks=tuple(Task),
    view="labelstudio",
    layout="a JSON export of Label Studio, which is a list of tasks with data and annotations, and the images",
)
BIIGLE = FormatDescription(
    name="Biigle",
    tasks=tuple(Task),
    view=None,
    layout="CSV reports of BIIGLE with filename, label_name, shape_name, points and annotation_id, or of labels of images",
)
ECOTAXA = FormatDescription(
    name="EcoTaxa",
    tasks=(Task.CLASSIFICATION,),
    view=None,
    layout="TSV files of EcoTaxa with object_id, img_file_name, object_annotation_category and object_annotation_status",
)
LABELBOX = FormatDescription(
    name="Labelbox",
    tasks=tuple(Task),
    view=None,
    layout="an NDJSON export of Labelbox, with data_row and projects in each line, and the images",
)
IFDO = FormatDescription(
    name="Ifdo",
    tasks=tuple(Task),
    view="ifdo",
    layout="an iFDO, which is YAML or JSON with image-set-header and image-set-items, and the images",
)
MASKS = FormatDescription(
    name="Masks",
    tasks=(Task.DETECTION, *SHAPED),
    view=None,
    layout="labelmap.txt or classes.txt, and a PNG of each image in SegmentationClass/ or masks/, or with _mask in its name",
)
VIA = FormatDescription(
    name="Via",
    tasks=tuple(Task),
    view=None,
    layout="a JSON file of VIA 2, a project or an export of annotations, with filename and regions of each image, and the images",
)
AUTO = "Auto"
"""The format that stands for automatic recognition."""
FORMATS = Registry(
    "format",
    (IMAGE_FOLDER, COCO, YOLO, PASCAL_VOC, LABELME, CVAT, LABEL_STUDIO, BIIGLE, ECOTAXA, LABELBOX, IFDO, MASKS, VIA),
    reserved=(AUTO, "preparation", "splitting"),  # names beside formats in specs and in algorithms.of_preparation
    others=lambda format_: (format_.view,) if format_.view else (),
)

FormatName = Annotated[str, OneOf(lambda: (AUTO, *FORMATS.names))]
