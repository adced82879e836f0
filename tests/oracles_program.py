"""Run by the interpreter of the environment oracles: reads views of ours by supervision, labelformat and datumaro; writes some.

Arguments: a folder with the views ``coco``, ``yolo``, ``voc`` and ``masks`` (COCO with outlines and masks), and one to write to.
Prints one JSON object: by reader and view, what it finds of each image by the number that its name begins with: classes with
left, top, width and height, or with the pixels of a mask as compressed runs.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pycocotools import mask as runs

OURS, THEIRS = (Path(argument) for argument in sys.argv[1:3])
SPLITS = ("train", "validation", "test")
Found = dict[int, list[list[Any]]]


def number(name: object) -> int:
    return int(Path(str(name)).name.partition("_")[0])


def supervision() -> dict[str, Found]:
    from supervision import DetectionDataset as Dataset

    found: dict[str, Found] = {"coco": {}, "yolo": {}, "masks": {}}
    settings = OURS / "yolo/data.yaml"
    for split in SPLITS:
        images = [str(OURS / view / "images" / split) for view in ("coco", "yolo", "masks")]
        coco = Dataset.from_coco(images[0], str(OURS / f"coco/annotations/instances_{split}.json"))
        yolo = Dataset.from_yolo(images[1], str(OURS / "yolo/labels" / split), str(settings))
        masks = Dataset.from_coco(images[2], str(OURS / f"masks/annotations/instances_{split}.json"), force_masks=True)
        for view, dataset in (("coco", coco), ("yolo", yolo), ("masks", masks)):
            for path, _, marks in dataset:
                rows = found[view].setdefault(number(path), [])
                for place, (corners, which) in enumerate(zip(marks.xyxy, marks.class_id, strict=True)):
                    name = dataset.classes[which]
                    if view == "masks":
                        rows.append([name, *packed(marks.mask[place])])
                    else:
                        rows.append([name, *map(float, (*corners[:2], *(corners[2:] - corners[:2])))])
        coco.as_coco(str(THEIRS / "supervision-coco"), str(THEIRS / f"supervision-coco/instances_{split}.json"))
        written = THEIRS / "supervision-yolo"
        coco.as_yolo(str(written / "images" / split), str(written / "labels" / split), str(written / "data.yaml"))
    splits = {split: f"images/{split}" for split in SPLITS}
    names = yaml.safe_load((THEIRS / "supervision-yolo/data.yaml").read_text(encoding="utf-8"))["names"]
    (THEIRS / "supervision-yolo/data.yaml").write_text(yaml.safe_dump(splits | {"names": names}), encoding="utf-8")
    return found


def labelformat() -> dict[str, Found]:
    from labelformat import formats
    from labelformat.model.bounding_box import BoundingBoxFormat

    found: dict[str, Found] = {"coco": {}, "yolo": {}, "voc": {}}
    names = sorted(yaml.safe_load((OURS / "yolo/data.yaml").read_text(encoding="utf-8"))["names"].items())
    for split in SPLITS:
        coco = formats.COCOObjectDetectionInput(OURS / f"coco/annotations/instances_{split}.json")
        yolo = formats.YOLOv8ObjectDetectionInput(OURS / "yolo/data.yaml", key(split))
        for view, reader in (("coco", coco), ("yolo", yolo)):
            note(reader, found[view], BoundingBoxFormat.XYWH)
        (THEIRS / "labelformat-coco").mkdir(exist_ok=True)
        formats.COCOObjectDetectionOutput(THEIRS / f"labelformat-coco/instances_{split}.json").save(coco)
        written = THEIRS / f"labelformat-yolo-{split}/data.yaml"
        formats.YOLOv8ObjectDetectionOutput(written, split).save(yolo)
    voc = formats.PascalVOCObjectDetectionInput(OURS / "voc/Annotations", ",".join(name for _, name in names))
    note(voc, found["voc"], BoundingBoxFormat.XYWH)
    return found


def note(reader: Any, found: Found, kind: Any) -> None:
    for image in reader.get_labels():
        rows = found.setdefault(number(image.image.filename), [])
        rows += [[each.category.name, *each.box.to_format(kind)] for each in image.objects]


def key(split: str) -> str:
    return {"validation": "val"}.get(split, split)


def datumaro() -> dict[str, Found]:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    found: dict[str, Found] = {}
    settings = yaml.safe_load((OURS / "yolo/data.yaml").read_text(encoding="utf-8"))
    # The library knows the classes of the challenge alone, unless a file names others.
    lines = "".join(f"{name}:::\n" for name in settings["names"].values())
    (OURS / "voc/labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{lines}", encoding="utf-8")
    for view, kind in (
        ("coco", "coco_instances"),
        ("yolo", "yolo"),
        ("voc", "voc_detection"),
        ("masks", "coco_instances"),
    ):
        dataset = Dataset.import_from(str(OURS / view), kind)
        names = [each.name for each in dataset.categories()[AnnotationType.label]]
        rows = found.setdefault(view, {})
        for item in dataset:
            marks = rows.setdefault(number(item.id), [])
            for each in item.annotations:
                if view == "masks" and each.type in {AnnotationType.mask, AnnotationType.polygon}:
                    marks.append([names[each.label], *packed(pixels(each, item.media.size))])
                elif view != "masks" and each.type is AnnotationType.bbox:
                    marks.append([names[each.label], *map(float, each.get_bbox())])
        if view == "coco":
            for written in ("coco_instances", "yolo", "voc_detection"):
                dataset.export(str(THEIRS / f"datumaro-{written.partition('_')[0]}"), written, save_media=True)
    return found


def pixels(each: Any, size: tuple[int, int]) -> Any:
    if hasattr(each, "image"):
        return each.image
    return runs.decode(runs.frPyObjects([list(map(float, each.points))], *size))[..., 0]


def packed(mask: Any) -> tuple[str, int, int]:
    found = runs.encode(np.asfortranarray(mask, np.uint8))
    return found["counts"].decode(), *map(int, mask.shape)


def main() -> None:
    logging.disable(logging.WARNING)
    readers: tuple[Callable[[], dict[str, Found]], ...] = (supervision, labelformat, datumaro)
    print(json.dumps({read.__name__: read() for read in readers}))


main()
