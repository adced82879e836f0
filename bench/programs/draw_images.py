"""Draws small JPEGs that look like organisms on noise, in one folder per class. Started by preparing.py.

Run with the interpreter of the environment ``pipelines``: ``draw_images.py FOLDER NUMBER SIDE``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

CLASSES = ("Ceratium", "Chaetoceros", "Guinardia", "Rhizosolenia")
QUALITY = 90


def draw(side: int, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw one image: grey noise with an ellipse."""
    noise = generator.normal(170, 12, (side, side, 3)).astype(np.uint8)
    centre = tuple(int(value) for value in generator.integers(side // 4, 3 * side // 4, 2))
    axes = tuple(int(value) for value in generator.integers(side // 10, side // 3, 2))
    colour = tuple(int(value) for value in generator.integers(20, 120, 3))
    cv2.ellipse(noise, centre, axes, float(generator.uniform(0, 180)), 0, 360, colour, -1)
    return noise


def main() -> None:
    """Draw all images."""
    folder, number, side = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for index in range(number):
        file = folder / CLASSES[index % len(CLASSES)] / f"{index:06d}.jpg"
        cv2.imwrite(str(file), draw(side, generator), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
