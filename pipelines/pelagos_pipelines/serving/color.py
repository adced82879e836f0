"""Corrects the colours of images, as a dataset declares it and a package carries it. Nothing else does so.

Called for all pixels that go to a model: by samples.py and the YOLO training, by the predictor, and by the child that decodes
images of requests. It may import only numpy and OpenCV, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving.geometry import Pixels

MOST_GAIN = 4
"""The highest gain of a channel: the red that is left in deep water is noise."""
CLIP_LIMIT, TILES = 2.0, (8, 8)
"""Parameters of CLAHE: the limit of contrast, and the number of parts of an image."""


def corrected(image: Pixels, method: str | None) -> Pixels:
    """The image [height, width, 3], blue first, corrected by one of METHODS; ``image`` itself for None. ``image`` never changes.

    Raises:
        ValueError: there is no such method.
    """
    if method is None:
        return image
    if method not in METHODS:
        raise ValueError(f"there is no colour correction {method!r}; there are {', '.join(METHODS)}")
    found: Pixels = METHODS[method](image)
    return found


def _gray_world(image: Pixels) -> npt.NDArray[Any]:
    """Scale each channel to the mean of all, in whole numbers, so that every machine gets the same pixels.

    Source: Buchsbaum, A spatial processor model for object colour perception, J. Franklin Inst. 310 (1980).
    """
    sums = [int(value) for value in cv2.sumElems(image)[:3]]
    levels: Any = np.arange(256, dtype=np.int64)
    table: Any = np.empty((1, 256, 3), np.uint8)
    for channel, own in enumerate(sums):
        # The gain is a third of the total divided by the channel's own sum. A black channel stays black.
        above, below = (MOST_GAIN, 1) if sum(sums) > 3 * MOST_GAIN * own else (sum(sums), 3 * own)
        table[0, :, channel] = np.minimum((2 * levels * above + below) // (2 * below), 255) if own else 0
    return cv2.LUT(image, table)


def _clahe(image: Pixels) -> npt.NDArray[Any]:
    """Contrast-limited adaptive histogram equalisation of the lightness, which leaves hues alone.

    Source: Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV (1994).
    """
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2Lab)
    lightness = cv2.createCLAHE(CLIP_LIMIT, TILES).apply(cv2.extractChannel(lab, 0))
    return cv2.cvtColor(cv2.insertChannel(lightness, lab, 0), cv2.COLOR_Lab2BGR)


METHODS = {"GrayWorld": _gray_world, "Clahe": _clahe}
"""The methods by their names in specs."""
