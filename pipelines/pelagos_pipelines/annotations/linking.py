"""How views get their images: hard links to the blobs, under names that every tool of the field can read."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.model import ImageRecord, suffix

MAX_STEM = 80
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})


def link(blob: Path, target: Path) -> None:
    """Make ``target`` the same file as ``blob``; copy where the file system cannot."""
    try:
        os.link(blob, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(blob, target)


def numbered(images: Iterable[ImageRecord]) -> dict[str, str]:
    """A file name for every image by its path: unique, flat, and in ASCII.

    YOLO finds the labels of an image by replacing a path component named ``images``, which a name of the source may hold too,
    and globs folders, so a name must not hold wildcards either.
    """
    names = {}
    for index, image in enumerate(images):
        # What is neither JPEG nor PNG in the source is PNG in the version.
        kind = ".jpg" if suffix(image.path) in kinds.JPEG else ".png"
        letters = unicodedata.normalize("NFKD", PurePosixPath(image.path).stem).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", letters).strip("._") or "image"
        names[image.path] = f"{index:06d}_{stem[:MAX_STEM]}{kind}"
    return names
