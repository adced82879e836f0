"""The port Objects in a folder of this machine. A uri is an absolute path, as pipelines and serving engines open it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any

from pelagos.ports.errors import OutageError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_JSON = 64 * 1024 * 1024
"""Bytes. Reports and manifests are far smaller; a larger file is not one of ours."""
_DELETED = ".deleted-"


class LocalObjects:
    """Objects below ``root``, which is made when something is first written. Links that lead out of it are refused."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links of the machine's owner

    def uri(self, path: str) -> str:
        """An absolute path; of "", the root's. Raises RejectedError for a path that leaves the store."""
        return str(self._location(path) if path else self._root)

    def path(self, uri: str) -> str | None:
        """The reverse of ``uri``."""
        location = Path(uri)
        if not location.is_relative_to(self._root) or ".." in location.parts:
            return None
        return "" if location == self._root else location.relative_to(self._root).as_posix()

    async def read_json(self, path: str) -> Mapping[str, Any] | None:
        """A JSON object; None when it is not there. Raises RejectedError for what is not one."""
        location = self._location(path)
        try:
            return await asyncio.to_thread(self._read_json, location)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OutageError("objects", str(error)) from error

    async def read_bytes(self, path: str, *, limit: int) -> bytes | None:
        """The content of a file; None when it is not there. Raises RejectedError for one of more than ``limit`` bytes."""
        location = self._location(path)
        try:
            return await asyncio.to_thread(self._read_bytes, location, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OutageError("objects", str(error)) from error

    async def exists(self, path: str) -> bool:
        """Whether there is a file or a folder."""
        location = self._location(path)
        try:
            await asyncio.to_thread(location.stat)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise OutageError("objects", str(error)) from error
        return True

    async def delete(self, path: str) -> None:
        """Remove a file or a folder with all that is in it, write-protected parts too; no effect when it is gone."""
        location = self._location(path)
        try:
            await asyncio.to_thread(self._delete, location)
        except OSError as error:
            raise OutageError("objects", str(error)) from error

    def _location(self, path: str) -> Path:
        if not path or any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            raise RejectedError("objects", f"{path!r} must be a relative path with forward slashes inside of the store")
        return self._root / path

    def _read_bytes(self, location: Path, limit: int) -> bytes:
        self._refuse_escape(location)
        if location.stat().st_size > limit:
            raise RejectedError("objects", f"{location} is larger than {limit} bytes")
        return location.read_bytes()

    def _read_json(self, location: Path) -> Mapping[str, Any]:
        content = self._read_bytes(location, LARGEST_JSON)
        try:
            document = json.loads(content)
        except ValueError as error:
            raise RejectedError("objects", f"{location} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise RejectedError("objects", f"{location} must hold a JSON object, and holds a {type(document).__name__}")
        return document

    def _delete(self, location: Path) -> None:
        self._refuse_escape(location.parent)
        # Gone for everybody at one moment, and not half gone if we end before it is removed.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            location.rename(self._root / f"{_DELETED}{time_ns()}-{location.name[:100]}")
        for left in self._root.glob(f"{_DELETED}*"):
            _remove(left)

    def _refuse_escape(self, location: Path) -> None:
        if not location.resolve().is_relative_to(self._root.resolve()):
            raise RejectedError("objects", f"{location} leads out of the store by a link")


def _remove(location: Path) -> None:
    if location.is_dir() and not location.is_symlink():
        for folder, _, _ in os.walk(location):
            # A pipeline may have protected what it wrote.
            with contextlib.suppress(OSError):
                Path(folder).chmod(0o700)
        shutil.rmtree(location, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            location.unlink()
