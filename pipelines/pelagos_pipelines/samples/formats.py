"""A few of the frames and crops in every format that is read, so that people can try a format before they export from a tool.

Formats that versions can be exported in use our writers. The others are written here, each as its tool writes it;
docs/annotation-exports.md says what is read from them.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pelagos_contract.splits import SPLITS, Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, registry, shapes
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.samples.wheel import EXPECTED, Crop

FRAMES: Mapping[Split, int] = {"train": 6, "validation": 3, "test": 3}
"""Number of frames for each format, by split."""
CROPS: Mapping[Split, int] = {"train": 4, "validation": 2, "test": 2}
"""Number of crops of each class, for formats that label whole images."""
CLASSES = tuple(EXPECTED)
_COLORS = ((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240))


@dataclass(frozen=True)
class Marked:
    """A frame or a crop: file name, encoded bytes, width and height in pixels, split, and what it shows."""

    name: str
    encoded: bytes
    size: tuple[int, int]
    split: Split
    found: tuple[Shape, ...] = ()
    label: str | None = None


def of_crops(crops: Iterable[Crop]) -> list[Marked]:
    """The first crops of each class."""
    turns = [split for split, count in CROPS.items() for _ in range(count)]
    by_class = {label: [crop for crop in crops if crop.label == label] for label in CLASSES}
    return [
        Marked(crop.name, crop.encoded, (crop.pixels.shape[1], crop.pixels.shape[0]), split, label=label)
        for label, found in by_class.items()
        for crop, split in zip(found, turns, strict=False)
    ]


def write(into: Path, frames: Sequence[Marked], crops: Sequence[Marked]) -> None:
    """Write a folder for each format, named like the format."""
    for name, (task, writer) in _SAMPLES.items():
        folder, images = into / name, crops if task is Task.CLASSIFICATION else frames
        folder.mkdir(parents=True)
        if writer is not None:
            writer(folder, images)
        else:
            _write_view(folder, name, task, images)


def _write_view(folder: Path, name: str, task: Task, images: Sequence[Marked]) -> None:
    writer = registry.FORMATS.named(name).write
    assert writer is not None
    # Views are links to the files of a version. These blobs are removed at the end, so each file of a sample is independent.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".blobs-") as scratch:
        blobs = {image.name: Path(scratch, image.name) for image in images}
        for image in images:
            blobs[image.name].write_bytes(image.encoded)
        writer(folder, Collection(task, CLASSES, tuple(_record(image, task) for image in images)), blobs)


def _record(image: Marked, task: Task) -> ImageRecord:
    width, height = image.size
    boxes = tuple(Box(shape.label, *shape.sides) for shape in image.found if shape.sides is not None)
    told: dict[str, Any] = {"boxes": boxes} if task is Task.DETECTION else {"shapes": image.found}
    return ImageRecord(image.name, width, height, split=image.split, label=image.label, **told)


# --- tools whose formats can only be read


def _biigle(folder: Path, images: Sequence[Marked]) -> None:
    """BIIGLE: the report *Image annotations, CSV* of a volume, as PHP writes it."""
    rows = [
        {
            "annotation_label_id": number,
            "label_id": CLASSES.index(shape.label) + 1,
            "label_name": shape.label,
            "label_hierarchy": f"Plankton > {shape.label}",
            "firstname": "Pelagos",
            "lastname": "Samples",
            "filename": image.name,
            "shape_id": 3,
            "shape_name": "Polygon",
            "points": json.dumps([*_ring(shape), *_ring(shape)[:2]]),
            "attributes": json.dumps({"width": image.size[0], "height": image.size[1], "mimetype": "image/jpeg"}),
            "annotation_id": number,
            "created_at": "2026-01-01 00:00:00",
        }
        for number, (image, shape) in enumerate(_each(images), start=1)
    ]
    _write_images(folder, images)
    text = io.StringIO(newline="")
    columns = (
        "annotation_label_id,label_id,label_name,label_hierarchy,user_id,firstname,lastname,image_id,filename,image_longitude,"
        "image_latitude,shape_id,shape_name,points,attributes,annotation_id,created_at"
    )
    table = csv.DictWriter(text, columns.split(","), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (folder / "1-flowcam-frames.csv").write_text(text.getvalue(), encoding="utf-8")


def _ecotaxa(folder: Path, images: Sequence[Marked]) -> None:
    """EcoTaxa: an export with images; each value in quotes, after a byte order mark."""
    columns = "img_file_name img_rank object_id object_annotation_status object_annotation_category sample_id acq_id"
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(columns.split())
    for image in images:
        # A sample for each split: EcoTaxa has no splits, and Grouped keeps samples whole.
        sample = f"tow {SPLITS.index(image.split) + 1}"
        table.writerow([image.name, 0, image.name.rpartition(".")[0], "validated", image.label, sample, "flowcam"])
    _write_images(folder, images)
    (folder / "ecotaxa_export.tsv").write_text(text.getvalue(), encoding="utf-8-sig")


def _labelbox(folder: Path, images: Sequence[Marked]) -> None:
    """Labelbox: NDJSON of an export, with a data row in each line."""
    lines = []
    for number, image in enumerate(images, start=1):
        things = [
            {
                "feature_id": f"feature-{number}-{place}",
                "name": shape.label,
                "value": shape.label.lower(),
                "polygon": [{"x": x, "y": y} for x, y in _pairs(shape)],
                "classifications": [],
            }
            for place, shape in enumerate(image.found, start=1)
        ]
        label = {
            "label_kind": "Default",
            "id": f"label-{number}",
            "label_details": {"created_by": "samples@pelagos.example"},
            "annotations": {"objects": things, "classifications": [], "relationships": []},
        }
        row = {
            "data_row": {"id": f"row-{number}", "external_id": image.name, "row_data": ""},
            "media_attributes": {"width": image.size[0], "height": image.size[1], "mime_type": "image/jpeg"},
            "projects": {"project-1": {"name": "FlowCam frames", "labels": [label]}},
        }
        lines.append(json.dumps(row))
    _write_images(folder, images)
    (folder / "export.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _labelme(folder: Path, images: Sequence[Marked]) -> None:
    """LabelMe: a JSON file beside each image."""
    for image in images:
        drawn: list[dict[str, Any]] = [
            {
                "label": shape.label,
                "points": [list(pair) for pair in _pairs(shape)],
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for shape in image.found
        ]
        width, height = image.size
        file: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": drawn,
            "imagePath": image.name,
            "imageData": None,
        }
        text = json.dumps(file | {"imageHeight": height, "imageWidth": width}, indent=1)
        (folder / image.name).with_suffix(".json").write_text(f"{text}\n", encoding="utf-8")
    _write_images(folder, images)


def _label_masks(folder: Path, images: Sequence[Marked]) -> None:
    """CVAT's *Segmentation mask 1.1*: pictures of classes and of objects, with the colours in a table."""
    colors = zip(CLASSES, _COLORS, strict=True)
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    lines += [f"{label}:{','.join(map(str, color))}::" for label, color in colors]
    (folder / "labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for image in images:
        width, height = image.size
        classes: Any = np.zeros((height, width, 3), np.uint8)
        objects: Any = np.zeros_like(classes)
        for number, shape in enumerate(image.found, start=1):
            inside = masks.drawn(shape, width, height)
            classes[inside] = _COLORS[CLASSES.index(shape.label)]
            objects[inside] = (number * 37 % 256, number * 101 % 256, 255 - number)
        for name, pixels in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            file = (folder / name / image.name).with_suffix(".png")
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(file)
    (folder / "JPEGImages").mkdir()
    for image in images:
        (folder / "JPEGImages" / image.name).write_bytes(image.encoded)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        stems = [image.name.rpartition(".")[0] for image in images if image.split == split]
        (lists / f"{name}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")


def _via(folder: Path, images: Sequence[Marked]) -> None:
    """VIA 2: a project, whose regions have the attribute *taxon*."""
    entries = {
        f"{image.name}{len(image.encoded)}": {
            "filename": image.name,
            "size": len(image.encoded),
            "regions": [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": [x for x, _ in _pairs(shape)],
                        "all_points_y": [y for _, y in _pairs(shape)],
                    },
                    "region_attributes": {"taxon": shape.label},
                }
                for shape in image.found
            ],
            "file_attributes": {"split": image.split},
        }
        for image in images
    }
    taxon = {"type": "dropdown", "description": "", "options": dict.fromkeys(CLASSES, ""), "default_options": {}}
    split = {"type": "text", "description": "", "default_value": ""}
    project = {
        "_via_settings": {"project": {"name": "flowcam_frames"}},
        "_via_img_metadata": entries,
        "_via_attributes": {"region": {"taxon": taxon}, "file": {"split": split}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }
    (folder / "via_project.json").write_text(json.dumps(project), encoding="utf-8")
    _write_images(folder, images)


def _each(images: Iterable[Marked]) -> Iterable[tuple[Marked, Shape]]:
    return ((image, shape) for image in images for shape in image.found)


def _ring(shape: Shape) -> tuple[float, ...]:
    """The outline without holes; of an organism in several parts the largest one, as people draw it by hand."""
    return max((ring for ring, is_hole in shape.outlines if not is_hole), key=shapes.area_of)


def _pairs(shape: Shape) -> list[tuple[float, float]]:
    ring = _ring(shape)
    return list(zip(ring[::2], ring[1::2], strict=True))


def _write_images(folder: Path, images: Iterable[Marked]) -> None:
    for image in images:
        (folder / image.name).write_bytes(image.encoded)


_SAMPLES: Mapping[str, tuple[Task, Callable[[Path, Sequence[Marked]], None] | None]] = {
    "ImageFolder": (Task.CLASSIFICATION, None),
    "Coco": (Task.INSTANCE_SEGMENTATION, None),
    "Yolo": (Task.DETECTION, None),
    "Voc": (Task.DETECTION, None),
    "LabelMe": (Task.INSTANCE_SEGMENTATION, _labelme),
    "Cvat": (Task.INSTANCE_SEGMENTATION, None),
    "LabelStudio": (Task.INSTANCE_SEGMENTATION, None),
    "Biigle": (Task.INSTANCE_SEGMENTATION, _biigle),
    "EcoTaxa": (Task.CLASSIFICATION, _ecotaxa),
    "Labelbox": (Task.INSTANCE_SEGMENTATION, _labelbox),
    "Ifdo": (Task.INSTANCE_SEGMENTATION, None),
    "Masks": (Task.INSTANCE_SEGMENTATION, _label_masks),
    "Via": (Task.INSTANCE_SEGMENTATION, _via),
}
"""By format, the task of its sample, and the function that writes it; None for a format that versions are written in."""
