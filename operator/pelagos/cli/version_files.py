"""Lists in the newest version of a Dataset, with one line of JSON per entry. Untrusted: anybody may have replaced them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pelagos import engine_registry
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.objects import Objects
from pelagos.settings import Settings

LARGEST = 512 * 1024**2
"""Largest list in bytes: as much as a version may have."""


class DatasetError(Exception):
    """The list cannot be shown; the message says why, in one line."""


def entries(
    file: str, settings: Settings, name: str, status: Mapping[str, Any], *, required: str, absent: str
) -> Iterator[Mapping[str, Any]]:
    """The entries of a file in the newest version of the Dataset ``name``; each entry has ``required`` and ``reason``.

    ``absent`` says, after the version's uri in a message, why it may have no such file.

    Raises:
        DatasetError: there is no such file, or its content is not from a preparation.
    """
    uri = status.get("uri")
    if not isinstance(uri, str):
        raise DatasetError(f"Dataset {name} has no version yet; see kubectl describe dataset")
    try:
        content, there = asyncio.run(_fetch(engine_registry.objects_at(uri, settings), file))
    except (OutageError, RejectedError, ValueError) as error:
        raise DatasetError(f"{uri}/{file} cannot be read: {error}") from error
    if not there:
        raise DatasetError(
            f"the version {uri} is not visible from this machine; run this command where its folder is mounted"
        )
    if content is None:
        raise DatasetError(f"the version {uri} {absent}")
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not (
            isinstance(entry, dict) and isinstance(entry.get(required), str) and isinstance(entry.get("reason"), str)
        ):
            raise DatasetError(f"{uri}/{file} is not what a preparation wrote; prepare the Dataset again")
        yield entry


async def _fetch(version: Objects, file: str) -> tuple[bytes | None, bool]:
    """The content of the file, None if it does not exist; and whether the version exists at all."""
    content = await version.read_bytes(file, limit=LARGEST)
    return content, content is not None or await version.exists("manifest.json")
