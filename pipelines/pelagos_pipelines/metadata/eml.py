"""EML 2.1.1 in the GBIF profile 1.1: the description of a Darwin Core archive, ``eml.xml``."""

from __future__ import annotations

import calendar
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from pelagos_contract import identifiers
from pelagos_contract.metadata import Area, Metadata, Party
from pelagos_pipelines.metadata import datacite
from pelagos_pipelines.metadata.content import Content

_NAMESPACE = "eml://ecoinformatics.org/eml-2.1.1"
_LOCATION = f"{_NAMESPACE} http://rs.gbif.org/schema/eml-gbif-profile/1.1/eml.xsd"


def document(content: Content) -> bytes:
    """The document, with its elements in the order that the schema requires."""
    ET.register_namespace("eml", _NAMESPACE)
    root = ET.Element(
        f"{{{_NAMESPACE}}}eml",
        {
            "packageId": content.id,
            "system": "http://gbif.org",
            "scope": "system",
            "{http://www.w3.org/XML/1998/namespace}lang": "en",
            "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation": _LOCATION,
        },
    )
    _dataset(ET.SubElement(root, "dataset"), content)
    found: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return found


def _dataset(above: ET.Element, content: Content) -> None:
    said = content.metadata
    for identifier in (content.url, content.id):
        _text(above, "alternateIdentifier", identifier)
    _text(above, "title", said.title)
    for creator in said.creators:
        _party(above, "creator", creator)
    _party(above, "metadataProvider", said.creators[0])
    for contributor in said.contributors:
        _text(_party(above, "associatedParty", contributor), "role", contributor.role)
    _text(above, "pubDate", content.issued if content.issued.count("-") != 1 else content.issued[:4])
    _text(above, "language", said.language)
    _paragraphs(above, "abstract", said.description)
    if said.keywords or said.subjects:
        words = ET.SubElement(above, "keywordSet")
        for word in (*said.keywords, *(subject.term for subject in said.subjects)):
            _text(words, "keyword", word)
        _text(words, "keywordThesaurus", next((each.scheme for each in said.subjects if each.scheme), "n/a"))
    _rights(above, said)
    if content.url:
        online = ET.SubElement(ET.SubElement(above, "distribution", {"scope": "document"}), "online")
        ET.SubElement(online, "url", {"function": "information"}).text = content.url
    _coverage(above, content)
    contact = said.contact
    party = _party(above, "contact", Party(name=contact.name, orcid=contact.orcid) if contact else said.creators[0])
    if contact is not None and contact.email:
        address = ET.Element("electronicMailAddress")
        address.text = contact.email
        party.insert(_place_of_address(party), address)
    if said.methods:
        step = ET.SubElement(ET.SubElement(above, "methods"), "methodStep")
        _paragraphs(step, "description", said.methods)
    _project(above, said)


def _rights(above: ET.Element, said: Metadata) -> None:
    para = ET.SubElement(ET.SubElement(above, "intellectualRights"), "para")
    para.text = "This work is licensed under "
    link = ET.SubElement(para, "ulink", {"url": datacite.license_url(said.license or "")})
    _text(link, "citetitle", said.license)
    link.tail = "."


def _coverage(above: ET.Element, content: Content) -> None:
    said = content.metadata
    if not (said.coverage or said.period or content.taxa):
        return
    coverage = ET.SubElement(above, "coverage")
    for area in said.coverage:
        _area(ET.SubElement(coverage, "geographicCoverage"), area)
    if said.period is not None:
        when = ET.SubElement(coverage, "temporalCoverage")
        _dates(when, said.period.start, said.period.end or said.period.start)
    if content.taxa:
        taxa = ET.SubElement(coverage, "taxonomicCoverage")
        for taxon in content.taxa:
            group = ET.SubElement(taxa, "taxonomicClassification")
            _text(group, "taxonRankName", taxon.rank)
            _text(group, "taxonRankValue", taxon.name)


def _dates(above: ET.Element, first: str, last: str) -> None:
    """Add a period. EML only has years and days, so a month becomes its first and last day."""
    if first.count("-") == 1:
        first += "-01"
    if last.count("-") == 1:
        _, days = calendar.monthrange(int(last[:4]), int(last[5:]))
        last += f"-{days}"
    if first == last:
        _text(ET.SubElement(above, "singleDateTime"), "calendarDate", first)
        return
    between = ET.SubElement(above, "rangeOfDates")
    _text(ET.SubElement(between, "beginDate"), "calendarDate", first)
    _text(ET.SubElement(between, "endDate"), "calendarDate", last)


def _area(above: ET.Element, area: Area) -> None:
    south, west, north, east = area.box
    depths = [
        f"{word} {depth} m" for word, depth in (("from", area.min_depth), ("to", area.max_depth)) if depth is not None
    ]
    about = ", ".join(filter(None, [area.place, f"depth {' '.join(depths)}" if depths else None]))
    _text(above, "geographicDescription", about or f"{south} {west} {north} {east}")
    edges = ET.SubElement(above, "boundingCoordinates")
    for name, edge in (("west", west), ("east", east), ("north", north), ("south", south)):
        _text(edges, f"{name}BoundingCoordinate", str(edge))


def _project(above: ET.Element, said: Metadata) -> None:
    name = said.acquisition.project if said.acquisition else None
    if not (name or said.funding):
        return
    project = ET.SubElement(above, "project")
    titles: Sequence[str | None] = [name, *(each.title for each in said.funding)]
    _text(project, "title", next(filter(None, titles), said.title))
    person = _party(project, "personnel", said.creators[0])
    _text(person, "role", "principalInvestigator")
    words = [" ".join(filter(None, [each.funder, each.award, each.title])) for each in said.funding]
    _paragraphs(project, "funding", "\n".join(words) or None)


def _party(above: ET.Element, tag: str, party: Party) -> ET.Element:
    element = ET.SubElement(above, tag)
    if party.is_organization:
        _text(element, "organizationName", party.name)
    else:
        family, given = party.family_and_given
        name = ET.SubElement(element, "individualName")
        _text(name, "givenName", given)
        _text(name, "surName", family)
        for place in party.affiliations[:1]:
            _text(element, "organizationName", place.name)
    if party.orcid:
        user = ET.SubElement(element, "userId", {"directory": "https://orcid.org/"})
        user.text = identifiers.url(party.orcid)
    return element


def _place_of_address(party: ET.Element) -> int:
    """The index of the address among a party's elements: after its names."""
    return sum(child.tag in {"individualName", "organizationName"} for child in party)


def _paragraphs(above: ET.Element, tag: str, text: str | None) -> None:
    if text:
        element = ET.SubElement(above, tag)
        for line in filter(None, map(str.strip, text.splitlines())):
            _text(element, "para", line)


def _text(above: ET.Element, tag: str, text: str | None) -> None:
    if text:
        ET.SubElement(above, tag).text = text
