"""A schema.org Dataset as JSON-LD: ``schema.jsonld``. Croissant and RO-Crate use the same terms from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pelagos_contract import documents, identifiers
from pelagos_contract.metadata import Area, Contact, Funding, Metadata, Party, Related
from pelagos_pipelines.metadata import datacite
from pelagos_pipelines.metadata.content import Content, File, Writer, filled, json_of

_RELATIONS = {
    "IsPartOf": "isPartOf", "HasPart": "hasPart", "IsDerivedFrom": "isBasedOn", "IsVersionOf": "isPartOf",
    "IsDescribedBy": "subjectOf", "IsDocumentedBy": "subjectOf", "IsReferencedBy": "subjectOf", "IsCitedBy": "subjectOf",
    "IsIdenticalTo": "sameAs",
}  # fmt: skip
"""schema.org properties by relation; `citation` for all others."""


def write(content: Content) -> Mapping[str, Iterator[bytes]]:
    """The documents by file name, as chunks of bytes."""
    images = {*content.names.values()}
    beside = [download(file) for file in content.files if file.path not in images]
    found = {"@context": "https://schema.org/", "@type": "Dataset", **dataset(content), **filled(distribution=beside)}
    return {"schema.jsonld": json_of(found)}


def dataset(content: Content, *, others: str = "Dataset") -> dict[str, Any]:
    """The properties of a schema.org Dataset, without its type and files.

    ``others`` is the type of related datasets: it must not be Dataset where readers expect exactly one Dataset.
    """
    said = content.metadata
    return filled(
        name=said.title,
        description=said.description,
        url=content.url,
        identifier=[value for value in (content.url, content.id) if value],
        version=content.version[:12],
        creator=[party(each) for each in said.creators],
        contributor=[party(each) for each in said.contributors],
        publisher=party(said.publisher) if said.publisher else None,
        license=datacite.license_url(said.license) if said.license else None,
        isAccessibleForFree=said.is_open,
        conditionsOfAccess=None if said.is_open else "restricted: ask the contact",
        datePublished=content.issued,
        dateCreated=content.made,
        inLanguage=said.language,
        keywords=keywords(said),
        temporalCoverage=temporal(said),
        spatialCoverage=[place(each) for each in said.coverage],
        about=[
            filled(**{"@type": "Taxon", "name": each.name, "taxonRank": each.rank, "sameAs": each.uri})
            for each in content.taxa
        ],
        funding=[grant(each) for each in said.funding],
        measurementTechnique=said.methods,
        contactPoint=contact(said.contact) if said.contact else None,
        size=f"{len(content.collection.images)} images",
        **related(said, others),
    )


def party(each: Party) -> dict[str, Any]:
    """A Person or an Organization."""
    family, given = ("", "") if each.is_organization else each.family_and_given
    address = each.orcid or each.ror
    return filled(
        **{"@type": "Organization" if each.is_organization else "Person"},
        **({"@id": identifiers.url(address)} if address else {}),
        name=f"{given} {family}" if given else each.name,
        givenName=given,
        familyName=family if given else None,
        affiliation=[
            filled(**{"@type": "Organization"}, **({"@id": place.ror} if place.ror else {}), name=place.name)
            for place in each.affiliations
        ],
    )


def keywords(said: Metadata) -> list[Any]:
    """Keywords as text, and subjects as terms with their vocabularies."""
    terms = [
        filled(**{"@type": "DefinedTerm", "@id": each.uri}, name=each.term, url=each.uri, inDefinedTermSet=each.scheme)
        for each in said.subjects
    ]
    return [*dict.fromkeys(said.keywords), *terms]


def temporal(said: Metadata) -> str | None:
    """The period as an ISO 8601 interval; None without one."""
    if said.period is None:
        return None
    return said.period.start if said.period.end is None else f"{said.period.start}/{said.period.end}"


def place(area: Area) -> dict[str, Any]:
    """A Place, with its depths below it."""
    south, west, north, east = area.box
    point = {"@type": "GeoCoordinates", "latitude": south, "longitude": west}
    box = {"@type": "GeoShape", "box": f"{south} {west} {north} {east}"}
    depths = [("minimum depth", area.min_depth), ("maximum depth", area.max_depth)]
    return filled(
        **{"@type": "Place"},
        **({"@id": area.uri} if area.uri else {}),
        name=area.place,
        geo=point if area.is_point else box,
        additionalProperty=[
            {"@type": "PropertyValue", "name": name, "value": float(depth), "unitText": "m"}
            for name, depth in depths
            if depth is not None
        ],
    )


def grant(each: Funding) -> dict[str, Any]:
    """A Grant with its funder."""
    funder = filled(**{"@type": "Organization"}, **({"@id": each.ror} if each.ror else {}), name=each.funder)
    return filled(**{"@type": "Grant"}, name=each.title, identifier=each.award, url=each.url, funder=funder)


def contact(each: Contact) -> dict[str, Any]:
    """A ContactPoint."""
    return filled(**{"@type": "ContactPoint"}, contactType="data", name=each.name, email=each.email, url=each.url)


def related(said: Metadata, others: str) -> dict[str, list[Any]]:
    """Related works, by the property for their relation."""
    found: dict[str, list[Any]] = {}
    for each in said.related:
        found.setdefault(_RELATIONS.get(each.relation, "citation"), []).append(_work(each, others))
    return found


def _work(each: Related, others: str) -> Any:
    address = identifiers.url(each.identifier)
    if each.relation == "IsIdenticalTo":
        return address or each.identifier
    kinds = {
        "Dataset": others,
        "Image": "ImageObject",
        "JournalArticle": "ScholarlyArticle",
        "Software": "SoftwareSourceCode",
    }
    kind = kinds.get(each.kind or "", "CreativeWork")
    return filled(**{"@type": kind}, **({"@id": address} if address else {}), identifier=each.identifier, url=address)


def download(file: File) -> dict[str, Any]:
    """A file beside the document."""
    return {
        "@type": "DataDownload",
        "name": file.path,
        "contentUrl": quote(file.path),
        "encodingFormat": file.media_type,
        "contentSize": f"{file.size} B",
        "sha256": file.sha256,
    }


WRITER = Writer(documents.SCHEMA_ORG, write)
