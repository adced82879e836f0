"""Pictures of cards, as browsers may have them: of few formats, drawn anew, bounded, and small where many are shown."""

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
"""Bytes: what a ConfigMap holds."""
_MOST_PIXELS = 16_000_000
"""Of one: some 13 bytes of memory each while it is drawn, and its file may be small all the same."""
_SMALL = 640
"""Pixels of the longer side where many are shown."""
_MOST_KEPT = 64 << 20
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_AT_ONCE = 1


class UnusableError(ValueError):
    """What the ConfigMap has is no picture that is shown; the words say why."""


@dataclass(frozen=True)
class Shown:
    """A picture for browsers."""

    content: bytes
    type: str
    etag: str


class Pictures:
    """Reads pictures of cards, and remembers the latest ones; a card that is changed is another generation of its service."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kept: OrderedDict[tuple[str, int, int, bool], Shown] = OrderedDict()
        self._size = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, entry: Entry, number: int, *, small: bool) -> Shown | None:
        """The picture of this number on the card; None when there is none. Raises UnusableError, OutageError."""
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
    """Drawn anew, so that nothing but pixels reaches browsers: no place where it was taken, no second file behind the first.

    Raises:
        UnusableError: it is none of the formats, broken, or too large.
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
            # No copy that can be done without.
            ImageOps.exif_transpose(opened, in_place=True)
            picture = opened if opened.mode == mode else opened.convert(mode)
    except UnusableError:
        raise
    except Exception as error:  # whatever a broken file makes of its decoder
        raise UnusableError("it is no PNG, JPEG or WebP, or a broken one") from error
    if small:
        picture.thumbnail((_SMALL, _SMALL))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=85, method=2)
    made = out.getvalue()
    return Shown(made, _TYPES["WEBP"], f'"{hashlib.sha256(made).hexdigest()[:32]}"')
