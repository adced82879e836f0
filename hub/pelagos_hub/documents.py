"""Reads the documents that a training wrote about its model. One whose digest differs from the status is not shown."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.objects import S3Objects
from pelagos_contract import model_card

if TYPE_CHECKING:
    from pelagos_hub.catalogue.entries import Document
    from pelagos_hub.settings import Settings

TYPES = {
    model_card.CARD: "text/markdown; charset=utf-8",
    model_card.AI4_METADATA: "application/yaml; charset=utf-8",
    model_card.MLDCAT_AP: "application/ld+json",
    model_card.REPORT: "text/html; charset=utf-8",
}


class AlteredError(ValueError):
    """The document in the store is not the document that the training wrote."""


class Documents:
    """Reads only below the configured folder or prefix, even if a status names another URI."""

    def __init__(self, settings: Settings) -> None:
        self._store: FolderObjects | S3Objects | None = None
        if settings.objects_uri:
            endpoint = settings.s3_endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
            service = Service(endpoint, settings.s3_region, settings.s3_ca_file)
            self._store = S3Objects(settings.objects_uri, service)
        elif settings.objects_root is not None:
            self._store = FolderObjects(settings.objects_root)

    async def read(self, document: Document) -> bytes | None:
        """The content; None when it cannot be reached from the hub.

        Raises:
            AlteredError: its digest differs.
            OutageError, RejectedError: it exists but cannot be read.
        """
        if self._store is None or document.name not in TYPES:
            return None
        path = self._store.path(document.uri)
        content = await self._store.read_bytes(path, limit=model_card.LARGEST) if path else None
        if content is not None and hashlib.sha256(content).hexdigest() != document.sha256:
            raise AlteredError(f"{document.name} in the store is not the document that the training wrote")
        return content
