"""The images of a version in the store of a Dataset: names, content, and the features of their looks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos import engine_registry
from pelagos.cli import predict
from pelagos.cli.annotating.tool import ToolError
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.objects import Objects
from pelagos.settings import Settings
from pelagos_contract import looks, suggestions
from pelagos_contract.suggestions import IDENTITY, Suggested

_MANIFEST, _MOST_MANIFEST = "manifest.json", 512 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ImagesError(Exception):
    """The images cannot be read; the message says why, in one line."""


@dataclass(frozen=True)
class Image:
    """An image of a version: its path in the source, the digests of its content and of the source's file, and its split.

    If the two digests differ, the content is a PNG made from that file.
    """

    path: str
    sha256: str
    original: str
    split: str | None = None

    @property
    def name(self) -> str:
        """The image's name in a tool, whose suffix states the format."""
        return f"{self.path}.png" if self.sha256 != self.original else self.path

    @property
    def identity(self) -> str:
        """The image's identity in a tool, derived from its content."""
        return self.sha256[:IDENTITY]


class Store:
    """The store that contains the version at ``uri``. Also implements tool.Records."""

    def __init__(self, uri: str, settings: Settings) -> None:
        self._uri, self._settings = uri.rstrip("/"), settings
        self._folder = self._uri.rpartition("/versions/")[0]
        self._blobs = self._at("blobs")

    @property
    def store(self) -> str:
        """The store's name, unique in its namespace."""
        return self._folder.rpartition("/")[2]

    async def images(self) -> list[Image]:
        """The images of the version, each content once. Raises ImagesError."""
        content = await self._read(engine_registry.objects_at(self._uri, self._settings), _MANIFEST, _MOST_MANIFEST)
        if content is None:
            raise ImagesError(
                f"the version {self._uri} is not visible from this machine; run this command where its folder is mounted"
            )
        try:
            listed = [_image(each) for each in json.loads(content)["images"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._odd() from error
        if not all(_DIGEST.fullmatch(image.sha256) for image in listed):
            raise self._odd()
        return list({image.sha256: image for image in reversed(listed)}.values())

    async def content(self, image: Image) -> bytes:
        """The content of an image, verified by its digest. Raises ImagesError."""
        found = await self._read(self._blobs, f"{image.sha256[:2]}/{image.sha256[2:]}", predict.MAX_BYTES, image.path)
        if found is None or hashlib.sha256(found).hexdigest() != image.sha256:
            raise ImagesError(f"the image {image.path} of the version is missing or damaged; prepare the Dataset again")
        return found

    async def seen(self) -> Mapping[str, looks.Seen]:
        """Features of the images' looks, by the sha256 of the source's files; empty when they cannot be read."""
        try:
            content = await self._read(self._at(""), looks.FILE, looks.LARGEST)
            return {} if content is None else looks.read(content)
        except (ImagesError, ValueError):
            return {}

    async def keep(self, suggested: Suggested) -> None:
        """See tool.Records."""
        folder, path = self._at(suggestions.FOLDER), suggestions.path_of(suggested.digest)
        try:
            if not await folder.exists(path):
                await folder.write_json(path, suggested.written())
        except (OutageError, RejectedError, OSError) as error:
            raise ToolError(
                f"the suggestions cannot be kept in {self._folder}/{suggestions.FOLDER}, by which corrections are counted: "
                f"{error}; run this command where that folder can be written"
            ) from error

    async def find(self, store: str, digest: str) -> Suggested | None:
        """See tool.Records."""
        place = f"{self._folder.rpartition('/')[0]}/{store}/{suggestions.FOLDER}"
        try:
            folder = engine_registry.objects_at(place, self._settings)
            content = await folder.read_bytes(suggestions.path_of(digest), limit=suggestions.LARGEST)
            return None if content is None else suggestions.read(content, digest)
        except (RejectedError, ValueError):
            return None
        except OutageError as error:
            raise ToolError(f"{place} cannot be read: {error}") from error

    def _at(self, folder: str) -> Objects:
        return engine_registry.objects_at(f"{self._folder}/{folder}".rstrip("/"), self._settings)

    async def _read(self, objects: Objects, path: str, limit: int, words: str = "") -> bytes | None:
        try:
            return await objects.read_bytes(path, limit=limit)
        except (OutageError, RejectedError, ValueError) as error:
            named = f"the image {words}" if words else f"{self._uri}/{path}"
            raise ImagesError(f"{named} cannot be read: {error}") from error

    def _odd(self) -> ImagesError:
        return ImagesError(f"{self._uri}/{_MANIFEST} is not what a preparation wrote; prepare the Dataset again")


def _image(entry: Mapping[str, Any]) -> Image:
    digest, split = str(entry["sha256"]), entry.get("split")
    original = str(entry["original"]["sha256"]) if "original" in entry else digest
    return Image(str(entry["path"]), digest, original, split if isinstance(split, str) else None)
