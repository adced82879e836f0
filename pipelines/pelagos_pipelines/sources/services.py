"""Common code for servers of annotation tools: validated documents, URLs, states and safe file names."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from pelagos_contract.text import shown
from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.fetching import Client

Model = TypeVar("Model", bound="Told")
LARGEST_LIST = 64 * 2**20
"""Most bytes of a document with an entry for each image."""
_ALONE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WRITTEN = "!#$%&'()*+,/:;=?@[]~"
_FILE = ("d", "filepath")
"""Query parameters with the path of a file."""
_ODD = re.compile(r"[^\w .,;=@#%&()+\[\]{}~!$^'-]")
_LONGEST, _LONGEST_ENDING, _DEEPEST, _MOST_SAME = 150, 12, 16, 1000
_ENDINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}


class Told(BaseModel):
    """The read fields of a server's document; others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def understood(client: Client, url: str, model: type[Model], document: Any) -> Model:
    """Validate the document. Raises RefusedError (SOURCE_INVALID) with the invalid field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise client.invalid(
            url,
            f"answers with another document than was asked for ({shown(place)[:100]}: {shown(first['msg'])[:200]}); check that it"
            " is the address of the service, and its version",
        ) from None


def address(base: str, path: str) -> str:
    """A URL below a server's address, which may have a trailing slash."""
    return f"{base.rstrip('/')}{path}"


def rebased(base: str, url: str) -> str:
    """A URL of the server itself, moved to the server's configured address: behind a proxy it often does not know its own name,
    and credentials must not be sent to an address that a server chooses."""
    here, there = urlsplit(base), urlsplit(url)
    return urlunsplit((here.scheme, here.netloc, there.path, there.query, ""))


def state_of(*parts: Any) -> str:
    """A digest that changes when any of the parts does."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def is_address(url: str) -> bool:
    """Whether it is a URL with a host."""
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def encoded(url: str) -> str:
    """Encode a typed URL as browsers do, with its spaces, non-ASCII letters and stray percent signs."""
    return _ALONE.sub("%25", quote(url, safe=_WRITTEN))


def is_below(base: str, url: str) -> bool:
    """Whether a URL is the server's own, to which its credentials may be sent."""
    here, there = urlsplit(base), urlsplit(url)
    return (here.scheme, here.netloc.lower()) == (there.scheme, there.netloc.lower())


def path_of(place: str) -> str:
    """The path of a file in its URL, or in the query parameter that names it."""
    try:
        parts = urlsplit(place)
    except ValueError:
        return place
    asked = parse_qs(parts.query)
    for parameter in _FILE:
        if parameter in asked:
            return asked[parameter][0].lstrip("/")
    if "fileuri" in asked:
        text = asked["fileuri"][0]
        with suppress(ValueError):
            place = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            return place.partition("://")[2] or place
    return unquote(parts.path).lstrip("/")


def is_image_name(name: str) -> bool:
    """Whether a name has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in kinds.READABLE | kinds.OTHER


def image_name(name: str, file: Path) -> str:
    """The name of an image; if it has no suffix, one that fits the file's content is added."""
    if is_image_name(name):
        return name
    with file.open("rb") as opened:
        beginning = opened.read(kinds.BEGINNING)
    return name + next((ending for start, ending in _ENDINGS.items() if beginning.startswith(start)), "")


class Names:
    """Assigns safe names to untrusted files: no name leads out of the folder, is hidden, or collides on any file system."""

    def __init__(self) -> None:
        """Start without any assigned name."""
        self._files, self._folders = set[str](), set[str]()

    def claim(self, wanted: str, mark: str) -> str:
        """Assign a path similar to ``wanted``; ``mark`` distinguishes files with the same wanted name."""
        *folders, name = [*filter(None, map(_plain, wanted.split("/")))] or ["image"]
        folders = folders[:_DEEPEST]
        stem, dot, ending = name.rpartition(".")
        stem, ending = (stem, f".{ending}") if dot and len(ending) < _LONGEST_ENDING else (name, "")
        marked = [f"-{mark}", *(f"-{mark}-{number}" for number in range(2, _MOST_SAME))]
        for mark in ("", *marked):
            path = "/".join([*folders, f"{stem}{mark}{ending}"])
            if self._is_free(path):
                return path
            # A file exists where its folder would be.
            if mark and self._is_free(flat := "_".join([*folders, f"{stem}{mark}{ending}"])):
                return flat
        raise ValueError(f"{_MOST_SAME} files of {mark} have one name")

    def _is_free(self, path: str) -> bool:
        """Whether the path was free; it is taken from then on."""
        folded = unicodedata.normalize("NFC", path).casefold()
        above = {str(parent) for parent in PurePosixPath(folded).parents}
        if folded in self._files or folded in self._folders or above & self._files:
            return False
        self._files.add(folded)
        self._folders |= above
        return True


def _plain(part: str) -> str:
    """A path component that every file system supports and no tool hides."""
    text = _ODD.sub("_", unicodedata.normalize("NFC", part).encode("utf-8", "replace").decode())
    text = text.strip(" ").rstrip(".~").lstrip(".")
    if len(text.encode()) > _LONGEST:
        stem, dot, ending = text.rpartition(".")
        ending = f"{dot}{ending}" if dot and len(ending) < _LONGEST_ENDING else ""
        digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        text = f"{(stem or text).encode()[: _LONGEST - 30].decode(errors='ignore')}-{digest}{ending}"
    return text
