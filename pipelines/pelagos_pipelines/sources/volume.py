"""A folder on the data volume. Links and paths never lead out of it."""

from __future__ import annotations

import os
from pathlib import Path

from pelagos_pipelines.annotations.hostile import few, printable
from pelagos_pipelines.annotations.model import Tree
from pelagos_pipelines.contract import Reason, RefusedError, VolumeSource

FIELD = "source.volume.path"
_NOT_DATA = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found"})


def collect(source: VolumeSource, data_root: Path) -> Tree:
    """All files below the folder; hidden ones and those that operating systems add are left out.

    Raises:
        RefusedError: SOURCE_NOT_FOUND when the path is no folder below ``data_root``; FORMAT_INVALID for links that lead out of
            the folder and for names that are not UTF-8; SOURCE_EMPTY when there are no images.
    """
    root = _resolve(source.path, data_root)
    files: list[str] = []
    links: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_data(name))
        base = Path(folder)
        links += [str((base / name).relative_to(root)) for name in folders if (base / name).is_symlink()]
        for name in filter(_is_data, names):
            _sort_in(base / name, root, files, links)
    _refuse_names(files, links)
    tree = Tree(root, tuple(sorted(files)))
    if not tree.images and not tree.unreadable:
        raise RefusedError(
            Reason.SOURCE_EMPTY,
            f"{source.path!r} holds {len(files)} files and none of them is an image (.jpg, .jpeg, .png); add images",
            FIELD,
        )
    return tree


def _resolve(path: str, data_root: Path) -> Path:
    base = data_root.resolve()
    try:
        root = (base / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        root = None
    if root is None or not root.is_dir() or not root.is_relative_to(base) or Path(path).is_absolute():
        raise RefusedError(
            Reason.SOURCE_NOT_FOUND,
            f"{path!r} is not a folder on the data volume; give a path relative to the volume's root, without '..' that leads"
            " out of it, and make sure that the files are there",
            FIELD,
        )
    return root


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_DATA


def _sort_in(path: Path, root: Path, files: list[str], links: list[str]) -> None:
    relative = path.relative_to(root).as_posix()
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        links.append(relative)
    elif path.is_file():
        files.append(relative)
    elif path.is_symlink():
        links.append(relative)


def _refuse_names(files: list[str], links: list[str]) -> None:
    if links:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"links to folders, to nothing or out of the source are not followed: {few(sorted(links))};"
            " put the files themselves there",
            FIELD,
        )
    odd = sorted(name for name in files if not _is_utf8(name))
    if odd:
        raise RefusedError(
            Reason.FORMAT_INVALID, f"file names are not UTF-8: {few(map(printable, odd))}; rename the files", FIELD
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
