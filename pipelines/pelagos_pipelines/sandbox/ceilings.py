"""The ceilings for what strangers hand in: settings of the operator, which reach steps and model servers as variables.

Whoever refuses something for its size says what the ceiling is and, by `raise_it`, which setting that was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

_PREFIX = "PELAGOS_MAX_"


@dataclass(frozen=True)
class Ceilings:
    """One field for each setting of the operator that begins with ``max_``; the defaults are the same there."""

    image_megapixels: int = 50
    """Millions of pixels of an image."""
    image_mebibytes: int = 64
    """MiB of an image file."""
    image_memory: int = 640
    """MiB that decoding one image may take."""
    image_seconds: int = 10
    """Seconds of processor time that decoding one image may take."""
    scan_megapixels: int = 500
    """Millions of pixels of an image of a source that is cut into tiles."""
    scan_mebibytes: int = 2048
    """MiB of such an image file."""
    checkpoint_mebibytes: int = 1024
    """MiB of a checkpoint to start from, and of the tensors in it."""

    annotation_mebibytes: int = 256
    """MiB of one file of annotations."""
    annotations: int = 1_000_000
    """Boxes, and images, that the annotation files of one source may list."""
    annotation_seconds: int = 120
    """Seconds of processor time that parsing one annotation file may take."""
    archive_gibibytes: int = 200
    """GiB that an archive may hold, unpacked."""
    archive_seconds: int = 3600
    """Seconds of processor time that unpacking one may take."""

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Ceilings:
        """From the environment. Raises ValueError for anything but whole numbers from 1."""
        given = os.environ if variables is None else variables
        values = {}
        for field in fields(cls):
            text = given.get(setting(field.name), "")
            if not text:
                continue
            if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 1_000_000_000):
                raise ValueError(f"{setting(field.name)} is {text!r}; it must be a whole number from 1 to 1000000000")
            values[field.name] = int(text)
        return cls(**values)

    def variables(self) -> dict[str, str]:
        """The environment that `read` reads."""
        return {setting(name): str(value) for name, value in asdict(self).items()}


def setting(name: str) -> str:
    """The setting, which is the environment variable, of a field."""
    return _PREFIX + name.upper()


def raise_it(name: str) -> str:
    """What a person can do about a ceiling that was reached."""
    return f"the operator's setting {setting(name)} is the ceiling"
