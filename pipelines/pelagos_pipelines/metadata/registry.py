"""The writers of metadata documents. A new one is a module with a `Writer`, and lines here and in documents.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pelagos_contract.registry import Registry
from pelagos_pipelines.metadata import croissant, darwin_core, datacite, ifdo, ro_crate, schema_org
from pelagos_pipelines.metadata.content import Content, File, put

WRITERS = Registry(
    "kind of metadata",
    (ifdo.WRITER, croissant.WRITER, datacite.WRITER, darwin_core.WRITER, schema_org.WRITER, ro_crate.WRITER),
)


class LackingError(ValueError):
    """The metadata lacks fields that a document needs; the message names them."""


def write(folder: Path, names: Sequence[str], content: Content) -> list[File]:
    """Write the documents with these names into ``folder``, in the order of the registry; returns their files.

    Raises:
        LackingError: nothing was written.
        OSError: for example a full disk.
    """
    chosen = [writer for writer in WRITERS if writer.name in {WRITERS.named(name).name for name in names}]
    for writer in chosen:
        if lacking := writer.description.lacking(content.metadata):
            raise LackingError(
                f"{writer.name} cannot be written without {' and '.join(lacking)}; set them in the Dataset"
            )
    for writer in chosen:
        for name, pieces in writer.write(content).items():
            content.written.append(put(folder, name, pieces))
    return content.written
