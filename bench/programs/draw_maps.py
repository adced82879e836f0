"""Writes the images and maps of a dataset version as arrays, for train_segmenter_plainly.py: ``draw_maps.py URI SIZE FILE``.

Run with the interpreter of the environment ``pipelines``.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from pelagos_contract.splits import Split
from pelagos_pipelines.evaluation import drawn_truth, ground_truth
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.serving import geometry


def main() -> None:
    """Write the arrays to the file."""
    uri, size, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    truth = ground_truth.of_version(versions.read(uri))
    joined = frozenset(range(len(truth.labels)))
    arrays: dict[str, Any] = {}
    splits: tuple[Split, ...] = ("train", "validation")
    for split in splits:
        images, maps = [], []
        for sample in truth.samples(split):
            image = sample.pixels()
            height, width = image.shape[:2]
            true = drawn_truth.segments(sample.shapes, sample.class_ids, (width, height), joined)
            numbers = np.concatenate(([0], true.class_ids + 1)).astype(np.uint8)[true.pixels]
            images.append(np.ascontiguousarray(geometry.square(image, size)[..., ::-1].transpose(2, 0, 1)))
            maps.append(cv2.resize(numbers, (size, size), interpolation=cv2.INTER_NEAREST_EXACT))
        arrays |= {f"{split}_images": np.stack(images), f"{split}_maps": np.stack(maps)}
    np.savez(file, **arrays)


if __name__ == "__main__":
    main()
