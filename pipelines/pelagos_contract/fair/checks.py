"""The built-in check of each indicator: points from 0 to 100, why, and how to get more. Pure functions.

A check returns None for points when it cannot be evaluated yet, because there is no version; that does not count as zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pelagos_contract import documents
from pelagos_contract.documents import DocumentDescription
from pelagos_contract.fair.facts import Facts

_PUBLISH = "set spec.publish, or publish it in a repository that assigns a DOI, and set spec.metadata.identifier to it"
_VERSION = "there is no version yet"


@dataclass(frozen=True)
class Found:
    """The outcome of a check. ``points`` None: not evaluated; ``advice``: how to get more points, empty at 100."""

    points: float | None
    evidence: str
    advice: str = ""


def _all(evidence: str) -> Found:
    return Found(100, evidence)


def _share(parts: Iterable[tuple[bool, str]]) -> Found:
    """Points by the share of parts that are present."""
    listed = list(parts)
    there, missing = ([name for is_there, name in listed if is_there is wanted] for wanted in (True, False))
    points = round(100 * len(there) / len(listed))
    return Found(points, f"present: {', '.join(there) or 'nothing'}", f"set {', '.join(missing)}" if missing else "")


def _document(facts: Facts, *kinds: DocumentDescription) -> Found:
    """100 points if one of the documents can be written."""
    for kind in kinds:
        if facts.writes(kind):
            return _all(f"{kind.name} can be written: {kind.purpose}")
    return Found(0, f"{kinds[0].name} cannot be written", f"set {' and '.join(kinds[0].lacking(facts.metadata))}")


def _of_version(facts: Facts, evidence: str) -> Found:
    return _all(evidence) if facts.version else Found(None, _VERSION)


def has_persistent_identifier(facts: Facts) -> Found:
    """Whether there is a DOI, or a repository that will assign one."""
    if facts.place:
        return _all(facts.place)
    return Found(0, "no DOI, and it is not published", _PUBLISH)


def has_unique_identifier(facts: Facts) -> Found:
    """Whether the data has a unique identifier: the digest of a version, or a DOI."""
    if facts.version:
        return _all(f"{facts.version} is the digest of exactly this version")
    return has_persistent_identifier(facts) if facts.place else Found(None, _VERSION)


def is_rich_for_discovery(facts: Facts) -> Found:
    """The share of metadata fields that people search by."""
    said = facts.metadata
    return _share(
        (
            (bool(said.title), "title"),
            (bool(said.description), "description"),
            (bool(said.creators), "creators"),
            (bool(said.license), "license"),
            (bool(said.keywords), "keywords"),
            (bool(said.subjects or said.taxa), "subjects or taxa"),
            (bool(said.language), "language"),
            (bool(said.coverage), "coverage"),
            (said.period is not None, "period"),
            (bool(said.publisher or facts.repository), "publisher"),
        )
    )


def names_the_data(facts: Facts) -> Found:
    """Whether the documents can name the data, by DOI or by the digest of the version."""
    if facts.version or facts.identifier:
        return _all(f"every document of metadata has {facts.identifier or facts.version}")
    return Found(None, _VERSION)


def is_harvestable(facts: Facts) -> Found:
    """Whether catalogues can harvest it: repositories with DOIs offer metadata by OAI-PMH and DataCite."""
    if facts.place:
        return _all(f"harvested and indexed where it is published: {facts.place}")
    return Found(0, "in no repository that catalogues harvest", _PUBLISH)


def says_how_to_get_it(facts: Facts) -> Found:
    """Whether the metadata says where the data is, or whom to ask."""
    if facts.can_be_had:
        return _all(facts.place or "")
    if facts.answers:
        return _all("spec.metadata.contact says whom to ask")
    return Found(0, "neither a place nor anybody to ask", f"set spec.metadata.contact with email or url; {_PUBLISH}")


def metadata_is_at_its_place(facts: Facts) -> Found:
    """Whether the metadata has a public page over https, for people and machines."""
    return _all(f"https, at {facts.place}") if facts.place else Found(0, "at no public address", _PUBLISH)


def data_is_at_its_place(facts: Facts) -> Found:
    """Whether the files are available at a public address, or on request from a person."""
    if facts.can_be_had:
        return _all(f"{'files' if facts.metadata.is_open else 'restricted files'} over https, at {facts.place}")
    if facts.place:
        return Found(0, "restricted, and nobody to ask", "set spec.metadata.contact with email or url")
    return Found(0, "at no public address", _PUBLISH)


def data_is_had_by_machines(facts: Facts) -> Found:
    """Whether machines get the data without a person in between."""
    found = data_is_at_its_place(facts)
    if found.points and not facts.metadata.is_open:
        return Found(50, "by machines of those with access", "make the images open, where that is possible")
    return found


def metadata_stays(facts: Facts) -> Found:
    """Whether the metadata outlives the data: repositories keep the records of withdrawn data."""
    if facts.place:
        return _all("a repository that registers DOIs keeps the page of data that is withdrawn")
    return Found(0, "it is deleted with the Dataset", _PUBLISH)


def metadata_is_in_a_standard(facts: Facts) -> Found:
    """Whether the metadata can be written in a standard representation."""
    return _document(facts, documents.DATACITE, documents.SCHEMA_ORG)


def metadata_is_for_machines(facts: Facts) -> Found:
    """Whether the metadata can be written as linked data."""
    return _document(facts, documents.SCHEMA_ORG, documents.RO_CRATE)


def data_is_in_a_standard(facts: Facts) -> Found:
    """Whether a version exists, whose formats IANA and the community know."""
    return _of_version(facts, "JPEG and PNG, with annotations as COCO, YOLO, iFDO and others by pelagos export")


def data_is_for_machines(facts: Facts) -> Found:
    """Whether machines can read the data by its own description (Croissant)."""
    if not facts.version:
        return Found(None, _VERSION)
    return _document(facts, documents.CROISSANT)


def metadata_uses_vocabularies(facts: Facts) -> Found:
    """Whether the metadata uses vocabulary terms with addresses."""
    said = facts.metadata
    terms = [each.uri for each in said.subjects] + [each.uri for each in said.taxa if each.uri]
    if terms:
        return _all(f"{len(terms)} terms with addresses, for example {terms[0]}")
    if facts.registered:
        return _all(f"{len(facts.registered)} classes have an AphiaID, which documents give as LSIDs")
    people = [each for each in (*said.creators, *said.contributors) if each.orcid or each.ror]
    advice = "set spec.metadata.subjects (with uri) or taxa (with aphiaId), or spec.labels.taxonomy"
    if people:
        return Found(50, "people and organisations have ids; subjects have none", advice)
    return Found(0, "words alone", advice)


def data_uses_vocabularies(facts: Facts) -> Found:
    """The share of classes that a register of names knows."""
    if not facts.classes:
        return Found(None, _VERSION)
    named, rest = facts.named_classes, sorted({*facts.classes} - {*facts.named_classes})
    return Found(
        100 * len(named) // len(facts.classes),
        f"{len(named)} of {len(facts.classes)} classes have an AphiaID",
        f"name {', '.join(rest[:5])} in spec.metadata.taxa, with aphiaId, or in spec.labels.taxonomy.ids"
        if rest
        else "",
    )


def metadata_refers_to_metadata(facts: Facts) -> Found:
    """Whether the metadata refers to other works, people or grants."""
    said = facts.metadata
    if said.related:
        return _all(f"{len(said.related)} related works, each with its relation")
    advice = "set spec.metadata.related, for example the paper about it (IsDescribedBy)"
    if any(each.orcid or each.ror for each in said.creators):
        return Found(50, "creators have ids; no other work is named", advice)
    return Found(0, "refers to nothing", advice)


def refers_to_data(facts: Facts) -> Found:
    """Whether the metadata refers to other data, with a relation."""
    if facts.data:
        first = facts.data[0]
        return _all(f"{first.relation} {first.identifier}")
    if facts.source_doi:
        return _all(f"IsDerivedFrom {facts.source_doi}, which it was fetched from")
    return Found(
        0, "refers to no other data", "set spec.metadata.related, for example IsDerivedFrom or IsPartOf a dataset"
    )


def is_rich_for_reuse(facts: Facts) -> Found:
    """The share of metadata fields that are needed for reuse."""
    said = facts.metadata
    return _share(
        (
            (bool(said.methods), "methods"),
            (said.acquisition is not None, "acquisition"),
            (bool(said.coverage), "coverage"),
            (said.period is not None, "period"),
            (bool(said.taxa or said.subjects), "taxa or subjects"),
            (bool(said.contact), "contact"),
            (bool(said.license), "license"),
            (bool(said.funding), "funding"),
        )
    )


def has_licence(facts: Facts) -> Found:
    """Whether there is a licence of the SPDX list, which is standard and machine-readable."""
    if facts.metadata.license:
        return _all(f"https://spdx.org/licenses/{facts.metadata.license}")
    return Found(
        0,
        "nobody may use it: without a licence, all rights are reserved",
        "set spec.metadata.license, for example CC-BY-4.0",
    )


def has_provenance_of_its_field(facts: Facts) -> Found:
    """The share of iFDO's provenance fields: how images were acquired and annotated."""
    said = facts.metadata
    parts = ((bool(said.methods), "methods"), (said.acquisition is not None, "acquisition"))
    return _share(parts)


def has_provenance_for_all(facts: Facts) -> Found:
    """Whether there is general provenance: the recipe of a version, and RO-Crate."""
    if not facts.version:
        return Found(None, _VERSION)
    if facts.writes(documents.RO_CRATE):
        return _all("the version's manifest has the recipe and every file's digest; RO-Crate can be written")
    advice = f"set {' and '.join(documents.RO_CRATE.lacking(facts.metadata))} for RO-Crate"
    return Found(50, "the version's manifest has the recipe and every file's digest", advice)


def metadata_follows_its_community(facts: Facts) -> Found:
    """Whether documents of the community's standards can be written: iFDO or Darwin Core."""
    return _document(facts, documents.IFDO, documents.DARWIN_CORE)


def metadata_follows_its_community_for_machines(facts: Facts) -> Found:
    """The same for machines: full points for Darwin Core, whose terms have addresses, half for iFDO, whose terms have none."""
    found = _document(facts, documents.DARWIN_CORE)
    if not found.points and facts.writes(documents.IFDO):
        return Found(50, "iFDO can be written, but its terms have no addresses", found.advice)
    return found
