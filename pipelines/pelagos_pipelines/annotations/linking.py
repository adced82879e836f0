"""Puts images into views: hard links to the blobs, under names that every usual tool can read."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from typing_extensions import override

from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.model import ImageRecord, stem_and_suffix

MAX_STEM = 80
_OTHERS = re.compile(r"[^A-Za-z0-9._-]+")
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})


_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Blobs(Mapping[str, Path]):
    """The blobs of a version's images in a store, by the images' paths. Kept as strings and converted on demand.

    Creating Path objects for millions of images would take longer than linking them.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str]) -> None:
        """``folder`` has the store's blobs; ``digests`` maps images to blobs. Raises ValueError for an invalid SHA-256."""
        for one in digests.values():
            if not _SHA256.fullmatch(one):
                raise ValueError(f"{one!r} is not a sha256")
        self.folder = str(folder)
        self._digests = digests

    def name(self, path: str) -> str:
        """The path of an image's blob below the folder."""
        digest = self._digests[path]
        return f"{digest[:2]}/{digest[2:]}"

    def file(self, path: str) -> str:
        """The path of an image's blob as text."""
        digest = self._digests[path]
        return f"{self.folder}/{digest[:2]}/{digest[2:]}"

    @override
    def __getitem__(self, path: str) -> Path:
        """The path of an image's blob."""
        return Path(self.file(path))

    @override
    def __iter__(self) -> Iterator[str]:
        """The paths of images."""
        return iter(self._digests)

    @override
    def __len__(self) -> int:
        """The number of images, of which several may share a blob."""
        return len(self._digests)


def file_of(blobs: Mapping[str, Path], path: str) -> str:
    """The path of the blob of the image ``path``."""
    return blobs.file(path) if isinstance(blobs, Blobs) else str(blobs[path])


def show(blobs: Mapping[str, Path], path: str, target: str | Path) -> None:
    """Link the image ``path`` into a view, as ``target``."""
    link(file_of(blobs, path), target)


def link(blob: str | Path, target: str | Path) -> None:
    """Make ``target`` a hard link to ``blob``; copy it where the file system cannot link."""
    try:
        os.link(blob, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(blob, target)


class Into:
    """The folders of a view and of the blobs, held open, so that names are resolved relative to them.

    This is called once per image: open() and absolute paths would double the time.
    """

    def __init__(self, folder: Path, blobs: Mapping[str, Path]) -> None:
        """Open the folders; ``blobs`` are those of the images."""
        self._folder, self._blobs = folder, blobs
        self._into = os.open(folder, _FOLDER)
        try:
            self._from = os.open(blobs.folder, _FOLDER) if isinstance(blobs, Blobs) else None
        except BaseException:
            os.close(self._into)
            raise

    def __enter__(self) -> Into:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folders."""
        os.close(self._into)
        if self._from is not None:
            os.close(self._from)

    def show(self, path: str, name: str) -> None:
        """Link the image ``path`` as ``name``, a path below the folder."""
        if isinstance(self._blobs, Blobs) and self._from is not None:
            try:
                os.link(self._blobs.name(path), name, src_dir_fd=self._from, dst_dir_fd=self._into)
                return
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise self._named(error, name) from error
        link(file_of(self._blobs, path), self._folder / name)

    def write(self, name: str, content: bytes) -> None:
        """Create the file ``name``, a path below the folder."""
        try:
            descriptor = os.open(name, _NEW, 0o666, dir_fd=self._into)
            try:
                while content:
                    content = content[os.write(descriptor, content) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._named(error, name) from error

    def _named(self, error: OSError, name: str) -> OSError:
        """The error with the whole path, so that messages can name its volume."""
        return OSError(error.errno, error.strerror, str(self._folder / name))


def numbered(images: Iterable[ImageRecord]) -> dict[str, str]:
    """A file name for every image, by its path: unique, flat, in ASCII, and in the order of the images.

    YOLO finds an image's labels by replacing a path component ``images``, which source names may contain too, and globs folders,
    so that names must not contain wildcards either.
    """
    names, listed = {}, list(images)
    digits = max(6, len(str(len(listed) - 1)))
    for index, image in enumerate(listed):
        # Images that are neither JPEG nor PNG in the source are PNG in the version.
        letters, ending = stem_and_suffix(image.path)
        kind = ".jpg" if ending.lower() in kinds.JPEG else ".png"
        if not letters.isascii():
            letters = unicodedata.normalize("NFKD", letters).encode("ascii", "ignore").decode()
        stem = _OTHERS.sub("_", letters).strip("._") or "image"
        names[image.path] = f"{index:0{digits}d}_{stem[:MAX_STEM]}{kind}"
    return names
