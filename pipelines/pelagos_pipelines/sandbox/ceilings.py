"""The ceilings for untrusted input: settings of the operator, passed to steps and model servers as environment variables.

A message that refuses something for its size states the ceiling and, by `raise_it`, the setting behind it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

_PREFIX = "PELAGOS_MAX_"


@dataclass(frozen=True)
class Ceilings:
    """One field for each operator setting that begins with ``max_``, with the same defaults."""

    image_megapixels: int = 50
    """Millions of pixels that an image may have."""
    image_mebibytes: int = 64
    """MiB that an image file may have."""
    image_memory: int = 640
    """MiB that decoding one image may take."""
    image_seconds: int = 10
    """Seconds of processor time that decoding one image may take."""
    scan_megapixels: int = 500
    """Millions of pixels that an image may have when its source is cut into tiles."""
    scan_mebibytes: int = 2048
    """MiB that the file of an image to be tiled may have."""
    checkpoint_mebibytes: int = 1024
    """MiB that a checkpoint to start from, and the tensors in it, may have."""

    annotation_mebibytes: int = 256
    """MiB that one annotation file may have."""
    annotations: int = 1_000_000
    """How many boxes, and how many images, the annotation files of one source may list."""
    annotation_seconds: int = 120
    """Seconds of processor time that parsing one annotation file may take."""
    archive_gibibytes: int = 200
    """GiB that an archive may hold when unpacked."""
    archive_seconds: int = 3600
    """Seconds of processor time that unpacking an archive may take."""

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Ceilings:
        """Read the ceilings from ``variables``, by default the environment. Raises ValueError unless all are whole and >= 1."""
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
        """The environment variables that `read` turns back into these ceilings."""
        return {setting(name): str(value) for name, value in asdict(self).items()}


def setting(name: str) -> str:
    """The operator setting, and environment variable, for a field."""
    return _PREFIX + name.upper()


def raise_it(name: str) -> str:
    """The hint for a message about a ceiling that was reached."""
    return f"the operator's setting {setting(name)} is the ceiling"
