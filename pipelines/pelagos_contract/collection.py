"""Removal of old versions from a Dataset's store: request and result of the step.

The operator decides, since only it knows what uses a version. The step prepare executes, since only it may lock the store.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from pelagos_contract.base import Strict

Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
MOST_REMOVED = 50
"""Most versions in one request."""


class CollectionRequest(Strict):
    """The versions to remove from the store, and with them the images that no other version there has."""

    remove: Annotated[list[Digest], Field(min_length=1, max_length=MOST_REMOVED)]


class CollectionResult(Strict):
    """What became of them, and what there is left."""

    removed: list[Digest]
    """All that were asked for: none of them is there any more."""
    images: int
    """Image files that were removed."""
    freed_bytes: int
    """Of these, and of the versions' own files; what a training still has a link to is not freed, and not counted."""
    kept_versions: int
    kept_images: int
    kept_bytes: int
