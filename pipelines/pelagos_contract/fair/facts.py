"""The input of a FAIR assessment: metadata, the newest version, and where it is or will be published."""

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
"""Relations between data sets."""
MOST_CLASSES = 100
"""Most class names that are considered: as many as a status has."""


@dataclass(frozen=True)
class Facts:
    """Everything that the built-in evaluation uses.

    ``version`` is the digest of the newest version. ``registered`` are its classes that spec.labels.taxonomy gives an AphiaID.
    ``source_doi`` is the DOI that the source was fetched under, ``doi`` the one it is published under. ``repository`` names the
    repository where it is or will be published.
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
        """The DOI of the dataset; None without one."""
        return self.metadata.identifier or self.doi

    @property
    def place(self) -> str | None:
        """Where people find it or will find it, in words; None when it is not published."""
        if self.identifier:
            return f"https://doi.org/{self.identifier}"
        return f"{self.repository}, which assigns a DOI on publication" if self.repository else None

    @property
    def can_be_had(self) -> bool:
        """Whether the images can be obtained there, by download or on request."""
        return bool(self.place) and (self.metadata.is_open or self.answers)

    @property
    def answers(self) -> bool:
        """Whether there is a contact with an email address or URL."""
        contact = self.metadata.contact
        return contact is not None and bool(contact.email or contact.url)

    @cached_property
    def data(self) -> tuple[Related, ...]:
        """Related works that are data, by their kind or relation."""
        return tuple(
            each for each in self.metadata.related if each.kind in {"Dataset", "Image"} or each.relation in OF_DATA
        )

    @cached_property
    def named_classes(self) -> tuple[str, ...]:
        """The classes that have an AphiaID by spec.labels.taxonomy or spec.metadata.taxa."""
        known = {taxon.name.casefold() for taxon in self.metadata.taxa if taxon.uri}
        return tuple(name for name in self.classes if name in self.registered or name.casefold() in known)

    def writes(self, document: DocumentDescription) -> bool:
        """Whether the metadata suffices for the document."""
        return document.suffices(self.metadata)


def registered(classes: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The names of those classes of a status or result that have an AphiaID."""
    return frozenset(str(each.get("name")) for each in classes[:MOST_CLASSES] if each.get("aphiaId"))


def of_resource(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Facts:
    """The facts of a Dataset as stored in the API server. Raises metadata.InvalidMetadataError."""
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
