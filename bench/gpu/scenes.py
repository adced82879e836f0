"""Images for measurements: discs of several kinds on noise, the same in each run. Called by measure.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

COLORS = ((200, 80, 60), (60, 190, 90), (70, 90, 210), (190, 190, 60))
DISCS = 10


def draw(folder: Path, task: str, number: int, size: int) -> dict[str, Any]:
    """Draw ``number`` images of ``size`` pixels into ``folder``; returns a dataset spec's fields about their format."""
    generator = np.random.default_rng(0)
    if task == "Classification":
        for index in range(number):
            target = folder / f"kind-{index % len(COLORS)}"
            target.mkdir(parents=True, exist_ok=True)
            image = _noise(generator, size)
            cv2.circle(
                image,
                (size // 2, size // 2),
                int(generator.integers(size // 8, size // 3)),
                COLORS[index % len(COLORS)],
                -1,
            )
            cv2.imwrite(str(target / f"{index}.jpg"), image)
        return {}
    (folder / "images").mkdir(parents=True)
    images, marks = [], list[dict[str, Any]]()
    for index in range(number):
        image = _noise(generator, size)
        for kind in generator.integers(0, len(COLORS), DISCS).tolist():
            radius = int(generator.integers(max(2, size // 40), size // 12))
            x, y = generator.integers(radius, size - radius, 2).tolist()
            cv2.circle(image, (x, y), radius, COLORS[kind], -1)
            corners = cv2.ellipse2Poly((x, y), (radius, radius), 0, 0, 360, 20).astype(float)
            box = [x - radius, y - radius, 2 * radius, 2 * radius]
            marks.append(
                {
                    "id": len(marks) + 1,
                    "image_id": index,
                    "category_id": kind + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                | {"segmentation": [corners.ravel().tolist()]}
            )
        cv2.imwrite(str(folder / "images" / f"{index}.jpg"), image)
        images.append({"id": index, "file_name": f"images/{index}.jpg", "width": size, "height": size})
    kinds = [{"id": kind + 1, "name": f"kind-{kind}"} for kind in range(len(COLORS))]
    content = {"images": images, "annotations": marks, "categories": kinds}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return {"format": "Coco"}


def _noise(generator: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    return generator.integers(90, 130, (size, size, 3), np.uint8)
