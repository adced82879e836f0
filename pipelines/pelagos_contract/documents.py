"""The table of document kinds that describe a dataset to others. The code that writes them is in the data plane's
``metadata``."""

from __future__ import annotations

from dataclasses import dataclass

from pelagos_contract.metadata import Metadata
from pelagos_contract.registry import Registry


@dataclass(frozen=True)
class DocumentDescription:
    """A kind of document: its name for `pelagos export --metadata`, its files and its purpose.

    ``needs`` are the fields of spec.metadata without which it would not be valid.
    """

    name: str
    files: tuple[str, ...]
    purpose: str
    needs: tuple[str, ...]

    def suffices(self, metadata: Metadata) -> bool:
        """Whether all needed fields are set."""
        return all(getattr(metadata, name) for name in self.needs)

    def lacking(self, metadata: Metadata) -> tuple[str, ...]:
        """The needed fields that are not set, as paths in YAML."""
        missing = (name for name in self.needs if not getattr(metadata, name))
        return tuple(f"spec.metadata.{Metadata.model_fields[name].alias}" for name in missing)


IFDO = DocumentDescription(
    "Ifdo", ("ifdo.json",), "marine image catalogues (iFDO v2.2.1), with all annotations", ("title",)
)
CROISSANT = DocumentDescription(
    "Croissant",
    ("images.csv", "annotations.csv", "croissant.json"),
    "machine learning (MLCommons Croissant 1.0): Hugging Face, OpenML, mlcroissant",
    ("title", "description", "creators", "license"),
)
DATACITE = DocumentDescription(
    "DataCite", ("datacite.json",), "registering a DOI (DataCite 4.5)", ("title", "creators")
)
DARWIN_CORE = DocumentDescription(
    "DarwinCore",
    ("dwca.zip",),
    "GBIF and OBIS: a Darwin Core archive of what was seen on which image",
    ("title", "description", "creators", "license"),
)
SCHEMA_ORG = DocumentDescription(
    "SchemaOrg",
    ("schema.jsonld",),
    "search engines (schema.org JSON-LD), for the page of the dataset",
    ("title", "description"),
)
RO_CRATE = DocumentDescription(
    "RoCrate",
    ("ro-crate-metadata.json",),
    "packages of research data (RO-Crate 1.1), with all files beside it",
    ("title", "description", "license"),
)
# RO-Crate comes last, since it lists the others.
DOCUMENTS = Registry("kind of metadata", (IFDO, CROISSANT, DATACITE, DARWIN_CORE, SCHEMA_ORG, RO_CRATE))
