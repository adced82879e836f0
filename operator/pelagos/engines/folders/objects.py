"""The Objects port on a folder of this machine. A uri is an absolute path, as pipelines and serving engines open it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any

from pelagos.api import reasons
from pelagos.engines.storage import reports
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract import beneath, disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM = "objects"
_DELETED = ".deleted-"


class FolderObjects:
    """Objects below ``root``, which is created at the first write. Links that lead out of it are refused."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links of the machine's owner

    def uri(self, path: str) -> str:
        """The absolute path of an object; for "", the root. Raises RejectedError for a path that leaves the store."""
        return str(self._location(path) if path else self._root)

    def path(self, uri: str) -> str | None:
        """The reverse of ``uri``; None for a uri outside the store."""
        location = Path(uri)
        if not location.is_relative_to(self._root) or ".." in location.parts:
            return None
        return "" if location == self._root else location.relative_to(self._root).as_posix()

    async def read_json(self, path: str) -> Mapping[str, Any] | None:
        """The JSON object in a file; None when it does not exist. Raises RejectedError for other content."""
        content = await self.read_bytes(path, limit=reports.LARGEST_JSON)
        return None if content is None else reports.parsed(SYSTEM, str(self._root / path), content)

    async def read_bytes(self, path: str, *, limit: int) -> bytes | None:
        """The content of a file; None when it does not exist. Raises RejectedError if it has more than ``limit`` bytes."""
        location = self._location(path)
        with _translated(location):
            try:
                return await asyncio.to_thread(beneath.read, self._root, path, limit)
            except beneath.TooLargeError:
                raise RejectedError(SYSTEM, f"{location} is larger than {limit} bytes") from None
        return None

    async def names(self, path: str) -> tuple[str, ...]:
        """Sorted names of the files and folders directly in a folder; empty when it does not exist."""
        with _translated(self._location(path)):
            return tuple(sorted(await asyncio.to_thread(beneath.names, self._root, path)))
        return ()

    async def write_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object to ``path`` atomically, creating its folders; only this account can access it."""
        content = json.dumps(document, sort_keys=True).encode()
        location = self._location(path)
        with _translated(location):
            await asyncio.to_thread(self._write, path, content)
            return
        raise RejectedError(SYSTEM, f"{location} cannot be written: there is a file where a folder should be")

    async def written_at(self, path: str) -> datetime | None:
        """When anything in the folder was last written; None when it does not exist."""
        with _translated(self._location(path)):
            latest = await asyncio.to_thread(beneath.latest_change, self._root, path)
            return datetime.fromtimestamp(latest, UTC)
        return None

    async def exists(self, path: str) -> bool:
        """Whether a file or a folder exists at ``path``."""
        with _translated(self._location(path)):
            await asyncio.to_thread(beneath.seen, self._root, path)
            return True
        return False

    async def delete(self, path: str) -> None:
        """Remove a file, or a folder with all its content, even if write-protected; no effect when it does not exist."""
        location = self._location(path)
        with _translated(location):
            await asyncio.to_thread(self._delete, path)

    def _location(self, path: str) -> Path:
        if not path or any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            raise RejectedError(SYSTEM, f"{path!r} must be a relative path with forward slashes inside of the store")
        return self._root / path

    def _write(self, path: str, content: bytes) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with beneath.made_parent(self._root, path) as (folder, name):
            partial = f".{_short(name)}.{os.getpid()}-{time_ns()}"
            try:
                disk.replace(name, partial, content, disk.PRIVATE, folder)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(partial, dir_fd=folder)
                raise

    def _delete(self, path: str) -> None:
        root = os.open(self._root, beneath.FOLDER & ~os.O_NOFOLLOW)
        try:
            # Rename first: it disappears for everybody at once, and is never half deleted if we die in between.
            missing = contextlib.suppress(FileNotFoundError, beneath.FileInsteadError)
            with missing, beneath.parent(self._root, path) as (folder, name):
                os.rename(name, f"{_DELETED}{time_ns()}-{_short(name)}", src_dir_fd=folder, dst_dir_fd=root)
            for left in os.listdir(root):  # noqa: PTH208 - of a descriptor
                if left.startswith(_DELETED):
                    beneath.remove(root, left)
        finally:
            os.close(root)


@contextlib.contextmanager
def _translated(location: Path) -> Iterator[None]:
    """Translate errors about a file into RejectedError and OutageError; suppress that it does not exist."""
    try:
        yield
    except (FileNotFoundError, beneath.FileInsteadError):
        return
    except beneath.NoFileError as error:
        raise RejectedError(SYSTEM, f"{location} leads out of the store by a link, or is not a regular file") from error
    except PermissionError as error:
        raise RejectedError(
            SYSTEM, f"{location} may not be read by the operator's account; give it the right"
        ) from error
    except OSError as error:
        if error.errno in disk.FULL:
            raise RejectedError(SYSTEM, disk.explain(error, location), reason=reasons.DISK_FULL) from error
        if error.errno == errno.ENAMETOOLONG:
            raise RejectedError(SYSTEM, f"{location} has a name that is too long") from error
        raise OutageError(SYSTEM, str(error)) from error


def _short(name: str) -> str:
    """The first 50 characters of a name, which leave room for additions; one character may take four bytes."""
    return name[:50]
