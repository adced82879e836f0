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
    """The result: what was removed, and what remains."""

    removed: list[Digest]
    """All requested versions; none of them exists any more."""
    images: int
    """The number of removed image files."""
    freed_bytes: int
    """Freed bytes, of these and of the versions' own files, without files to which a training still has a link."""
    kept_versions: int
    kept_images: int
    kept_bytes: int
