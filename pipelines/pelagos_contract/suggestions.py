"""What a model of ours suggested for an image, for annotation tools that do not keep it beside what people make of it.

Whoever pushes writes it into the store of the Dataset, below FOLDER, and names it in the name that the image has in the tool.
Whoever fetches what people drew there finds it by that name, in the store of another Dataset, too, of the same namespace. It is
named by its content: what stands in a tool can point to another suggestion, and change none.
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
"""In the store of a Dataset."""
LARGEST = 16 * 2**20
"""Bytes of a suggestion: a hundred thousand boxes."""
MOST_RUNS = 1_000_000
"""Of the masks of a suggestion, which so are no longer than that."""
IDENTITY = 32
"""Digits of an image's digest that make its identity in a tool."""
_LONGEST_NAME = 80
_NAME = re.compile(r"pelagos-([0-9a-f]{32})-([0-9a-f]{32})\.([A-Za-z0-9][A-Za-z0-9-]{0,62})\.[A-Za-z0-9._-]+")
_Label = Annotated[str, Field(min_length=1, max_length=1000)]
_Place = Annotated[int, Field(ge=0, lt=2**31)]
_Side = Annotated[float, Field(ge=-(2**31), le=2**31, allow_inf_nan=False)]


class SuggestedBox(Strict):
    """``sides``: left, top, right and bottom, in pixels of the upright image. ``score`` from 0 to 1.

    ``angle``: by how many degrees it is turned about its centre, clockwise; its sides are as they were before.
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

    What is None is no part of the digest: suggestions of earlier releases keep theirs.
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
        """Its identity."""
        content = json.dumps(self.written(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:32]


class Marked(NamedTuple):
    """An image in a tool: the beginning of its sha256, and the suggestion for it in the store that is called ``store``."""

    image: str
    digest: str
    store: str

    @property
    def path(self) -> str:
        """Of the suggestion, in the folder with the stores of the namespace."""
        return f"{self.store}/{FOLDER}/{path_of(self.digest)}"

    def name(self, name: str) -> str:
        """What a tool is to call an image that we call ``name``."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name.rpartition("/")[2])[-_LONGEST_NAME:]
        return f"pelagos-{self.image}-{self.digest}.{self.store}.{plain or 'image'}"

    @classmethod
    def of(cls, name: str) -> Marked | None:
        """The reverse, for a name or a path; None for images of others."""
        found = _NAME.fullmatch(name.rpartition("/")[2])
        return None if found is None else cls(*found.groups())


def path_of(digest: str) -> str:
    """Where a suggestion lies below FOLDER."""
    return f"{digest[:2]}/{digest}.json"


def read(content: bytes, digest: str) -> Suggested:
    """The suggestion of that name. Raises ValueError for anything else."""
    found = Suggested.model_validate_json(content)
    if found.digest != digest:
        raise ValueError("the suggestion is another one than its name says")
    return found
