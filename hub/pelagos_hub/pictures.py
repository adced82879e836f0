"""Pictures of cards, made safe for browsers: few formats, re-encoded, bounded, with thumbnails for lists."""

from __future__ import annotations

import asyncio
import hashlib
import io
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from pelagos_hub.catalogue.entries import Entry
    from pelagos_hub.cluster import Cluster

LARGEST = 1 << 20
"""Most bytes of a picture: the limit of a ConfigMap."""
_MOST_PIXELS = 16_000_000
"""Most pixels of a picture. Each takes about 13 bytes of memory while it is re-encoded, however small the file is."""
_SMALL = 640
"""Pixels of the longer side of a thumbnail."""
_MOST_KEPT = 64 << 20
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_AT_ONCE = 1


class UnusableError(ValueError):
    """The content of the ConfigMap is not a usable picture; the message says why."""


@dataclass(frozen=True)
class Shown:
    """A picture as sent to browsers."""

    content: bytes
    type: str
    etag: str


class Pictures:
    """Reads pictures of cards, and caches recent ones by the service's generation, which changes with the card."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kept: OrderedDict[tuple[str, int, int, bool], Shown] = OrderedDict()
        self._size = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, entry: Entry, number: int, *, small: bool) -> Shown | None:
        """The card's picture with this index; None when there is none. Raises UnusableError, OutageError."""
        if not 0 <= number < len(entry.pictures):
            return None
        key = (entry.uid, entry.generation, number, small)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        asked = entry.pictures[number]
        async with self._turns:
            content = await self._cluster.picture(entry.namespace, asked.config_map, asked.key)
            if content is None:
                return None
            made = await asyncio.to_thread(prepare, content, small=small)
        self._keep(key, made)
        return made

    def _keep(self, key: tuple[str, int, int, bool], made: Shown) -> None:
        self._kept[key] = made
        self._size += len(made.content)
        while self._size > _MOST_KEPT:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone.content)


def prepare(content: bytes, *, small: bool) -> Shown:
    """Re-encode a picture, so that only its pixels reach browsers: no EXIF position, no second file appended to the first.

    Raises:
        UnusableError: it has another format, is broken, or is too large.
    """
    if len(content) > LARGEST:
        raise UnusableError(f"it has {len(content)} bytes; at most {LARGEST} are shown")
    try:
        with warnings.catch_warnings(action="error"), Image.open(io.BytesIO(content), formats=list(_TYPES)) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise UnusableError(f"it has {opened.width} x {opened.height} pixels; at most {_MOST_PIXELS} are shown")
            if small:
                opened.draft("RGB", (_SMALL, _SMALL))
            has_alpha = "A" in opened.getbands() or "transparency" in opened.info
            mode = "RGBA" if has_alpha else "RGB"
            # In place, since each copy of the pixels costs memory.
            ImageOps.exif_transpose(opened, in_place=True)
            picture = opened if opened.mode == mode else opened.convert(mode)
    except UnusableError:
        raise
    except Exception as error:  # decoders raise any exception on broken files
        raise UnusableError("it is not a PNG, JPEG or WebP, or it is damaged") from error
    if small:
        picture.thumbnail((_SMALL, _SMALL))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=85, method=2)
    made = out.getvalue()
    return Shown(made, _TYPES["WEBP"], f'"{hashlib.sha256(made).hexdigest()[:32]}"')
