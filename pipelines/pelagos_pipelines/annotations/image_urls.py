"""Derives the file names of a Label Studio task's images from the URLs under which its server finds them.

Nothing is fetched: the images are in the source, under names that follow from these URLs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.drawings import MAX_NAME
from pelagos_pipelines.annotations.model import suffix

_KEYS = ("image", "img", "photo", "picture", "url", "file", "filename", "file_name", "name")
"""Usual keys of an image, likeliest first."""
_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")
"""Prefix that the server adds to the name of an uploaded file."""
_IMAGES = kinds.READABLE | kinds.OTHER


def of_task(data: Mapping[str, Any], upload: object) -> list[list[str]]:
    """The possible names of each image of a task, best first; several images if the task has a list of them.

    ``upload`` is the name of an uploaded file beside the task's data. Without any name: one image without names.
    """
    ordered = sorted(data, key=lambda key: _KEYS.index(key.lower()) if key.lower() in _KEYS else len(_KEYS))
    found: list[str] = []
    for key in ordered:
        value = data[key]
        if isinstance(value, str) and (found := _images(value)):
            break
        if isinstance(value, list) and (
            pages := [names for each in value if isinstance(each, str) and (names := _images(each))]
        ):
            return pages
    if isinstance(upload, str):
        found += _images(upload)
    return [list(dict.fromkeys(found))]


def several(data: Mapping[str, Any]) -> bool:
    """Whether more than one entry of a task's data is an image."""
    return sum(isinstance(value, str) and bool(_images(value)) for value in data.values()) > 1


def _images(place: str) -> list[str]:
    """The possible names of an image at a URL; empty when it is not an image."""
    if len(place) > MAX_NAME or place.startswith("data:"):
        return []
    plain = _path(place)
    if suffix(plain) not in _IMAGES:
        return []
    folder, slash, name = plain.rpartition("/")
    found = [plain, name] if "data/upload/" in f"{plain}/" else [plain]
    if bare := _PREFIX.sub("", name, count=1):
        found += [f"{folder}{slash}{bare}", bare] if bare != name else []
    return found


def _path(place: str) -> str:
    """The path in the URL of an image: a local file, a key of object storage, or the end of a web address."""
    try:
        parts = urlsplit(place)
        if "://" not in place and not place.startswith("/"):
            return place
        query = parse_qs(parts.query)
        if parts.path.endswith("/local-files/") and "d" in query:
            return query["d"][0].lstrip("/")
        if "fileuri" in query:
            text = query["fileuri"][0]
            return _path(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        bucket = f"{parts.netloc}/" if parts.scheme not in {"", "http", "https"} else ""
        return f"{bucket}{unquote(parts.path).lstrip('/')}"
    except (ValueError, binascii.Error):  # not a URL
        return place
