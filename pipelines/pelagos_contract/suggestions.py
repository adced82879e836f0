"""A model's suggestions for an image, for annotation tools that do not keep them beside people's corrections.

A push writes a suggestion into the Dataset's store, below FOLDER, and refers to it in the image's name in the tool. A later fetch
finds it by that name, also in the store of another Dataset in the same namespace. Suggestions are named by their content: names
in a tool can point to a different suggestion, but cannot alter one.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, NamedTuple

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.tasks import Task

FOLDER = "suggested"
"""Folder in the store of a Dataset."""
LARGEST = 16 * 2**20
"""Most bytes of a suggestion; enough for a hundred thousand boxes."""
MOST_RUNS = 1_000_000
"""Most runs in all masks of a suggestion, which bounds its size."""
IDENTITY = 32
"""Number of hexadecimal digits of an image's digest that identify it in a tool."""
_LONGEST_NAME = 80
_NAME = re.compile(r"pelagos-([0-9a-f]{32})-([0-9a-f]{32})\.([A-Za-z0-9][A-Za-z0-9-]{0,62})\.[A-Za-z0-9._-]+")
_Label = Annotated[str, Field(min_length=1, max_length=1000)]
_Place = Annotated[int, Field(ge=0, lt=2**31)]
_Side = Annotated[float, Field(ge=-(2**31), le=2**31, allow_inf_nan=False)]


class SuggestedBox(Strict):
    """``sides``: left, top, right and bottom, in pixels of the upright image. ``score`` from 0 to 1.

    ``angle``: its clockwise rotation about its centre in degrees; its sides are those before the rotation.
    """

    label: _Label
    sides: tuple[_Side, _Side, _Side, _Side]
    score: Annotated[float, Field(ge=0, le=1)] = 0.0
    angle: Annotated[float, Field(ge=0, lt=360)] | None = None


class SuggestedMask(Strict):
    """``runs`` of pixels along the rows of a part of the image, outside first; its first pixel is at ``left``, ``top``."""

    label: _Label
    left: _Place
    top: _Place
    width: Annotated[int, Field(ge=1, lt=2**31)]
    height: Annotated[int, Field(ge=1, lt=2**31)]
    runs: tuple[_Place, ...]
    score: Annotated[float, Field(ge=0, le=1)] = 0.0


class Suggested(Strict):
    """What ``model`` found in an image of ``width`` x ``height`` pixels: boxes, masks, or the ``label`` of a classifier.

    Fields that are None are not part of the digest, so that suggestions of earlier releases keep theirs.
    """

    model: Annotated[str, Field(min_length=1, max_length=1000)]
    task: Task
    width: Annotated[int, Field(ge=1, lt=2**31)]
    height: Annotated[int, Field(ge=1, lt=2**31)]
    boxes: tuple[SuggestedBox, ...] = ()
    masks: tuple[SuggestedMask, ...] | None = None
    label: _Label | None = None

    @property
    def digest(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of its content, which name it."""
        content = json.dumps(self.written(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:32]


class Marked(NamedTuple):
    """An image in a tool: the start of its SHA-256, and the digest of its suggestion in the store named ``store``."""

    image: str
    digest: str
    store: str

    @property
    def path(self) -> str:
        """The suggestion's path within the folder of the namespace's stores."""
        return f"{self.store}/{FOLDER}/{path_of(self.digest)}"

    def name(self, name: str) -> str:
        """The name in the tool for an image that is called ``name`` here."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name.rpartition("/")[2])[-_LONGEST_NAME:]
        return f"pelagos-{self.image}-{self.digest}.{self.store}.{plain or 'image'}"

    @classmethod
    def of(cls, name: str) -> Marked | None:
        """The inverse of ``name``, for a name or path in the tool; None for images that were not pushed from here."""
        found = _NAME.fullmatch(name.rpartition("/")[2])
        return None if found is None else cls(*found.groups())


def path_of(digest: str) -> str:
    """The path of a suggestion below FOLDER."""
    return f"{digest[:2]}/{digest}.json"


def read(content: bytes, digest: str) -> Suggested:
    """Parse a suggestion. Raises ValueError if it is invalid or its digest differs."""
    found = Suggested.model_validate_json(content)
    if found.digest != digest:
        raise ValueError("the suggestion is not the one that its name states")
    return found
