"""What the schema of InvenioRDM's metadata allows by its reference (`metadata.md`): for a fake server that is as strict."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FIELDS = _words(
    "resource_type title description additional_descriptions creators contributors publisher publication_date version rights"
    " languages subjects dates identifiers related_identifiers locations funding"
)
RELATIONS = _words(
    "iscitedby cites issupplementto issupplementedby iscontinuedby continues isdescribedby describes hasmetadata ismetadatafor"
    " hasversion isversionof isnewversionof ispreviousversionof ispartof haspart ispublishedin isreferencedby references"
    " isdocumentedby documents iscompiledby compiles isvariantformof isoriginalformof isidenticalto isreviewedby reviews"
    " isderivedfrom issourceof isrequiredby requires isobsoletedby obsoletes iscollectedby collects"
)
ROLES = _words(
    "contactperson datacollector datacurator datamanager distributor editor hostinginstitution producer projectleader"
    " projectmanager projectmember registrationagency registrationauthority relatedperson researcher researchgroup rightsholder"
    " sponsor supervisor workpackageleader other"
)
RESOURCE_TYPES = _words("dataset image image-photo publication publication-article publication-report software other")
SCHEMES = _words("ark arxiv ads doi handle isbn issn lsid pmid purl upc url urn w3id")
LICENSES = _words("cc-by-4.0 cc0-1.0 cc-by-sa-4.0 cc-by-nc-4.0 mit")
DESCRIPTIONS = _words("abstract methods series-information table-of-contents technical-info other")
_MARKUP = re.compile(r"</?(p|br|strong|em|a)\b[^>]*>")
_DAY = r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?"
_TIME = re.compile(rf"{_DAY}(/{_DAY})?")
Wrong = Iterator[tuple[str, str]]


def wrong(metadata: Mapping[str, Any]) -> Wrong:
    """Each field that is not allowed, with the error message."""
    for name in ("resource_type", "creators", "title", "publication_date", "publisher"):
        if not metadata.get(name):
            yield name, "Missing data for required field."
    if len(metadata.get("title", "abc")) < 3:
        yield "title", "Shorter than minimum length 3."
    if not _TIME.fullmatch(metadata.get("publication_date", "2026")):
        yield "publication_date", "Please provide a valid date or interval."
    for name in set(metadata) - FIELDS:
        yield name, "Unknown field."
    for check in (_parties, _identifiers, _terms, _texts):
        yield from check(metadata)


def _parties(metadata: Mapping[str, Any]) -> Wrong:
    for name in ("creators", "contributors"):
        for number, each in enumerate(metadata.get(name, ())):
            yield from ((f"{name}.{number}.{part}", words) for part, words in _party(each))
            if name == "contributors" and (each.get("role") or {}).get("id") not in ROLES:
                yield f"{name}.{number}.role", "Invalid value."


def _party(each: Mapping[str, Any]) -> Wrong:
    party = each["person_or_org"]
    needed = {"personal": "family_name", "organizational": "name"}.get(party.get("type"))
    if needed is None:
        yield "person_or_org.type", "Invalid value. Choose one of ['organizational', 'personal']."
    elif not party.get(needed):
        yield f"person_or_org.{needed}", "Name cannot be blank."
    if any(one["scheme"] not in {"orcid", "ror", "isni", "gnd"} for one in party.get("identifiers", ())):
        yield "person_or_org.identifiers", "Invalid scheme."
    affiliations = [one["name"] for one in each.get("affiliations", ())]
    if len(affiliations) != len(set(affiliations)):
        yield "affiliations", "Duplicated affiliations."


def _identifiers(metadata: Mapping[str, Any]) -> Wrong:
    own, related = metadata.get("identifiers", ()), metadata.get("related_identifiers", ())
    schemes = [each["scheme"] for each in own]
    if len(schemes) != len(set(schemes)):
        yield "identifiers", "Only one identifier per scheme is allowed."
    for each in (*own, *related):
        if each["scheme"] not in SCHEMES or (each["scheme"] == "urn") != each["identifier"].startswith("urn:"):
            yield "identifiers", f"Invalid {each['scheme']} identifier."
    for each in related:
        kind = each.get("resource_type", {"id": "other"})["id"]
        if each["relation_type"]["id"] not in RELATIONS or kind not in RESOURCE_TYPES:
            yield "related_identifiers", "Invalid value."


def _terms(metadata: Mapping[str, Any]) -> Wrong:
    if (metadata.get("resource_type") or {"id": "dataset"})["id"] not in RESOURCE_TYPES:
        yield "resource_type", "Invalid value."
    for each in metadata.get("rights", ()):
        if each.get("id") not in LICENSES or len(each) > 1:
            yield "rights", f"Invalid value {each.get('id')}."
    for each in metadata.get("languages", ()):
        if not re.fullmatch("[a-z]{3}", each["id"]):
            yield "languages", f"Invalid value {each['id']}."
    for each in metadata.get("dates", ()):
        if not _TIME.fullmatch(each["date"]) or each["type"]["id"] != "collected":
            yield "dates", "Invalid value."


def _texts(metadata: Mapping[str, Any]) -> Wrong:
    further = metadata.get("additional_descriptions", ())
    for text in (metadata.get("description", ""), *(each["description"] for each in further)):
        if {"<", ">"} & set(_MARKUP.sub("", text)):
            yield "description", "Markup that is not allowed."
    for each in further:
        if each["type"]["id"] not in DESCRIPTIONS:
            yield "additional_descriptions", "Invalid value."
    for each in metadata.get("funding", ()):
        is_named = "award" not in each or {"title", "number"} & set(each["award"])
        if not (each.get("funder") or {}).get("name") or not is_named:
            yield "funding", "An existing id or either number or title must be present."
