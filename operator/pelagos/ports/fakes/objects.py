"""An object store in memory. For tests of reconcilers; held to the same contract as the engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pelagos.ports.errors import OutageError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = "fake://objects"


class ObjectsFake:
    """Implements Objects over ``files``: texts by path.

    ``outage`` makes every asynchronous call fail; ``read_only`` makes ``write_json`` raise RejectedError.
    """

    def __init__(self) -> None:
        self.outage = False
        self.read_only = False
        self.files: dict[str, str] = {}
        self.written = datetime.fromtimestamp(0, UTC)
        """When everything was last written, for ``written_at``."""

    def uri(self, path: str) -> str:
        """The path below an invented root."""
        return f"{ROOT}/{_checked(path)}" if path else ROOT

    def path(self, uri: str) -> str | None:
        """The inverse of ``uri``; None for any other uri."""
        if uri == ROOT:
            return ""
        prefix = f"{ROOT}/"
        return uri.removeprefix(prefix) if uri.startswith(prefix) and ".." not in uri.split("/") else None

    async def read_json(self, path: str) -> Mapping[str, Any] | None:
        """The JSON object in a file; None when there is no file."""
        self._answer()
        text = self.files.get(_checked(path))
        if text is None:
            return None
        try:
            document = json.loads(text)
        except ValueError as error:
            raise RejectedError("objects", f"{path} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise RejectedError("objects", f"{path} must hold a JSON object, but holds a {type(document).__name__}")
        return document

    async def read_bytes(self, path: str, *, limit: int) -> bytes | None:
        """The content of a file; None when there is none."""
        self._answer()
        text = self.files.get(_checked(path))
        if text is None:
            return None
        content = text.encode()
        if len(content) > limit:
            raise RejectedError("objects", f"{path} is larger than {limit} bytes")
        return content

    async def names(self, path: str) -> tuple[str, ...]:
        """The names of a folder's files and folders."""
        self._answer()
        prefix = f"{_checked(path)}/"
        return tuple(sorted({file[len(prefix) :].split("/")[0] for file in self.files if file.startswith(prefix)}))

    async def write_json(self, path: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object. Raises RejectedError if the store is ``read_only``."""
        self._answer()
        if self.read_only:
            raise RejectedError("objects", f"{path} may not be written")
        self.put(path, document)

    async def written_at(self, path: str) -> datetime | None:
        """``written``, as tests set it, if there is something below the path."""
        self._answer()
        return self.written if self._below(_checked(path)) else None

    async def exists(self, path: str) -> bool:
        """Whether there is a file or a folder."""
        self._answer()
        return _checked(path) in self.files or bool(self._below(path))

    async def delete(self, path: str) -> None:
        """Remove a file or a folder."""
        self._answer()
        for file in self._below(_checked(path)):
            del self.files[file]

    def put(self, path: str, document: object) -> None:
        """Write a JSON document, as a pipeline would."""
        self.files[_checked(path)] = json.dumps(document)

    def _below(self, path: str) -> list[str]:
        return [file for file in self.files if file == path or file.startswith(f"{path}/")]

    def _answer(self) -> None:
        if self.outage:
            raise OutageError("objects", "the store does not answer")


def _checked(path: str) -> str:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise RejectedError("objects", f"{path!r} must be a relative path with forward slashes inside of the store")
    return path
