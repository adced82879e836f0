"""DataCite 4.5 as JSON: ``datacite.json``, the metadata for registering a DOI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pelagos_contract import documents, identifiers
from pelagos_contract.metadata import Area, Contributor, Funding, Metadata, Party, Related
from pelagos_pipelines.metadata.content import Content, Writer, filled, json_of

_RELATED = frozenset({"DOI", "arXiv", "Handle", "URN", "URL"})
"""Kinds of identifiers of identifiers.kind_of that DataCite supports."""


def write(content: Content) -> Mapping[str, Iterator[bytes]]:
    """The documents by file name, as chunks of bytes."""
    return {"datacite.json": json_of(document(content))}


def document(content: Content) -> dict[str, Any]:
    """The document. Metadata with a title and creators suffices."""
    said = content.metadata
    doi = said.identifier or content.doi
    return filled(
        doi=doi,
        types={"resourceTypeGeneral": "Dataset", "resourceType": "Annotated image collection"},
        creators=[_person(each) for each in said.creators],
        titles=[filled(title=said.title, lang=said.language)],
        publisher=_publisher(said.publisher),
        publicationYear=content.issued[:4],
        subjects=list(_subjects(content)),
        contributors=list(_contributors(said)),
        dates=list(_dates(content)),
        language=said.language,
        alternateIdentifiers=[{"alternateIdentifier": content.id, "alternateIdentifierType": "SHA-256 of the version"}],
        relatedIdentifiers=[_related(each) for each in said.related if each.type in _RELATED],
        sizes=[f"{len(content.collection.images)} images"],
        formats=sorted({file.media_type for file in content.files}),
        version=content.version[:12],
        rightsList=list(_rights(said)),
        descriptions=list(_descriptions(said)),
        geoLocations=[_place(each) for each in said.coverage],
        fundingReferences=[_funding(each) for each in said.funding],
        schemaVersion="http://datacite.org/schema/kernel-4",
    )


def _person(party: Party) -> dict[str, Any]:
    family, given = ("", "") if party.is_organization else party.family_and_given
    # Without a given name, the parts of the name cannot be distinguished.
    names = filled(givenName=given, familyName=family) if given else {}
    ids = [("ORCID", "https://orcid.org", party.orcid), ("ROR", "https://ror.org", party.ror)]
    found = [
        {"nameIdentifier": identifiers.url(value), "nameIdentifierScheme": scheme, "schemeUri": at}
        for scheme, at, value in ids
        if value
    ]
    places = [
        filled(
            name=each.name,
            affiliationIdentifier=each.ror,
            affiliationIdentifierScheme="ROR" if each.ror else None,
            schemeUri="https://ror.org" if each.ror else None,
        )
        for each in party.affiliations
    ]
    kind = "Organizational" if party.is_organization else "Personal"
    return filled(name=party.name, nameType=kind, **names, nameIdentifiers=found, affiliation=places)


def _publisher(party: Party | None) -> dict[str, Any]:
    if party is None:
        return {"name": "(:unav)"}  # DataCite's code for a value that is not known yet
    ids = {"publisherIdentifier": party.ror, "publisherIdentifierScheme": "ROR", "schemeUri": "https://ror.org"}
    return filled(name=party.name, **(ids if party.ror else {}))


def _subjects(content: Content) -> Iterator[dict[str, Any]]:
    said = content.metadata
    terms = {subject.term for subject in said.subjects}
    for keyword in dict.fromkeys(said.keywords):
        if keyword not in terms:
            yield {"subject": keyword}
    for subject in said.subjects:
        yield filled(subject=subject.term, subjectScheme=subject.scheme, valueUri=subject.uri)
    for taxon in content.taxa:
        yield filled(subject=taxon.name, subjectScheme="WoRMS" if taxon.uri else None, valueUri=taxon.uri)


def _contributors(said: Metadata) -> Iterator[dict[str, Any]]:
    yield from ({**_person(each), "contributorType": each.role} for each in said.contributors)
    if said.contact is not None:
        contact = Contributor(name=said.contact.name, role="ContactPerson", orcid=said.contact.orcid)
        yield {**_person(contact), "contributorType": contact.role}


def _dates(content: Content) -> Iterator[dict[str, Any]]:
    yield {"date": content.issued, "dateType": "Issued"}
    yield {"date": content.made, "dateType": "Created"}
    period = content.metadata.period
    if period is not None:
        yield {"date": period.start if period.end is None else f"{period.start}/{period.end}", "dateType": "Collected"}


def _related(each: Related) -> dict[str, Any]:
    return filled(
        relatedIdentifier=each.plain,
        relatedIdentifierType=each.type,
        relationType=each.relation,
        resourceTypeGeneral=each.kind,
    )


def _rights(said: Metadata) -> Iterator[dict[str, Any]]:
    if said.license:
        yield {
            "rights": said.license,
            "rightsUri": license_url(said.license),
            "rightsIdentifier": said.license,
            "rightsIdentifierScheme": "SPDX",
            "schemeUri": "https://spdx.org/licenses/",
        }
    access, address = ("open access", "abf2") if said.is_open else ("restricted access", "16ec")
    yield {"rights": access, "rightsUri": f"http://purl.org/coar/access_right/c_{address}"}


def license_url(license_id: str) -> str:
    """The URL of a licence of the SPDX list."""
    return f"https://spdx.org/licenses/{license_id}"


def _descriptions(said: Metadata) -> Iterable[dict[str, Any]]:
    for kind, text in (("Abstract", said.description), ("Methods", said.methods)):
        if text:
            yield filled(description=text, descriptionType=kind, lang=said.language)


def _place(area: Area) -> dict[str, Any]:
    south, west, north, east = area.box
    point = {"pointLatitude": south, "pointLongitude": west}
    box = {
        "westBoundLongitude": west,
        "eastBoundLongitude": east,
        "southBoundLatitude": south,
        "northBoundLatitude": north,
    }
    return filled(
        geoLocationPlace=area.place, **({"geoLocationPoint": point} if area.is_point else {"geoLocationBox": box})
    )


def _funding(each: Funding) -> dict[str, Any]:
    kind = {"funderIdentifier": each.ror, "funderIdentifierType": "ROR"} if each.ror else {}
    return filled(funderName=each.funder, **kind, awardNumber=each.award, awardUri=each.url, awardTitle=each.title)


WRITER = Writer(documents.DATACITE, write)
