"""A wheel like the real one, with drawn crops: a dark body on an even, noisy background. Nothing is downloaded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from pelagos_pipelines.samples.wheel import EXPECTED, FOLDER, LICENCE


def encoded_crop(seed: int, width: int = 60, height: int = 80) -> bytes:
    """A JPEG of a dark, 24 x 40 pixels large body in the middle, on grey 170."""
    generator = np.random.default_rng(seed)
    pixels = 170 + generator.normal(0, 1.5, (height, width))
    top, left = (height - 40) // 2, (width - 24) // 2
    pixels[top : top + 40, left : left + 24] = generator.uniform(20, 80)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def make_wheel(path: Path, changed: Mapping[str, bytes | None] | None = None) -> Path:
    """Write the wheel; ``changed`` replaces the bytes of members by ``class/number``, or leaves them out for None."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("planktonclas/__init__.py", "raise RuntimeError('code of the wheel was executed')")
        archive.writestr(f"{FOLDER}/Tripos/notes.txt", "not an image")
        for label, count in EXPECTED.items():
            for number in range(count):
                content = (changed or {}).get(f"{label}/{number}", encoded_crop(seed=len(label) * 100 + number))
                if content is not None:
                    archive.writestr(f"{FOLDER}/{label}/crop-{label}-{number}.jpg", content)
        archive.writestr(LICENCE, "Apache License")
    return path
