"""What is judged: what people say of a dataset, the version that there is, and where it is, or will be, published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pelagos_contract.documents import DocumentDescription
from pelagos_contract.metadata import Metadata, Related, of_spec
from pelagos_contract.publication import SANDBOX, is_trial, repository_name

OF_DATA = frozenset(
    {
        "IsDerivedFrom",
        "IsSourceOf",
        "IsPartOf",
        "HasPart",
        "IsNewVersionOf",
        "IsPreviousVersionOf",
        "IsVersionOf",
        "HasVersion",
    }
)
"""Relations that lead from data to data."""
MOST_CLASSES = 100
"""Names of classes that are looked at: as many as a status has."""


@dataclass(frozen=True)
class Facts:
    """All that the built-in evaluation goes by; it asks nobody else.

    ``version`` is the digest of the newest version, ``registered`` are those of its classes that spec.labels.taxonomy gives an
    AphiaID, ``source_doi`` the DOI that the source was fetched under. ``doi`` is that
    under which it is published; ``repository`` names the one in which it is, or into which it will be put.
    """

    metadata: Metadata = field(default_factory=Metadata)
    version: str | None = None
    classes: tuple[str, ...] = ()
    registered: frozenset[str] = frozenset()
    source_doi: str | None = None
    doi: str | None = None
    repository: str | None = None

    @property
    def identifier(self) -> str | None:
        """The DOI that it has."""
        return self.metadata.identifier or self.doi

    @property
    def place(self) -> str | None:
        """Where people find it, or will, in words."""
        if self.identifier:
            return f"https://doi.org/{self.identifier}"
        return f"{self.repository}, which gives it a DOI when it is published" if self.repository else None

    @property
    def can_be_had(self) -> bool:
        """Whether its place says how to get the images: by downloading them, or by asking somebody."""
        return bool(self.place) and (self.metadata.is_open or self.answers)

    @property
    def answers(self) -> bool:
        """Whether somebody can be asked."""
        contact = self.metadata.contact
        return contact is not None and bool(contact.email or contact.url)

    @cached_property
    def data(self) -> tuple[Related, ...]:
        """Other works that are data, as far as somebody says."""
        return tuple(
            each for each in self.metadata.related if each.kind in {"Dataset", "Image"} or each.relation in OF_DATA
        )

    @cached_property
    def named_classes(self) -> tuple[str, ...]:
        """The classes that spec.labels.taxonomy, or spec.metadata.taxa, gives an AphiaID."""
        known = {taxon.name.casefold() for taxon in self.metadata.taxa if taxon.uri}
        return tuple(name for name in self.classes if name in self.registered or name.casefold() in known)

    def writes(self, document: DocumentDescription) -> bool:
        """Whether nothing is lacking for the document."""
        return not document.lacking(self.metadata)


def registered(classes: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Those of the classes of a status, or a result, that a register of names knows."""
    return frozenset(str(each.get("name")) for each in classes[:MOST_CLASSES] if each.get("aphiaId"))


def of_resource(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Facts:
    """Of a Dataset as the API server has it. Raises metadata.InvalidMetadataError."""
    classes: Sequence[Mapping[str, Any]] = status.get("classes") or ()
    published = status.get("publication") or {}
    is_it = published.get("state") == "Published" and published.get("version") == status.get("version")
    doi = published.get("doi") if is_it else None
    asked = ((spec.get("publish") or {}).get("zenodo") or {}).get("url")
    return Facts(
        metadata=of_spec(spec),
        version=status.get("version"),
        classes=tuple(str(each.get("name")) for each in classes[:MOST_CLASSES]),
        registered=registered(classes),
        source_doi=(status.get("source") or {}).get("doi"),
        doi=None if is_trial(doi) else doi,
        repository=repository_name(asked) if asked and asked.rstrip("/") != SANDBOX else None,
    )
