"""Converts a dataset's metadata to that of an InvenioRDM record: its schema of drafts, `metadata.md` of its docs.

Values that the schema lacks, or that some servers would refuse, are only in the documents beside it: for example, ids of
affiliations and funders are terms of a server's own vocabulary, which may not have ours.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Any

from pelagos_contract import identifiers
from pelagos_contract.metadata import Area, Contributor, Funding, Metadata, Party, Related
from pelagos_contract.publication import repository_name
from pelagos_pipelines.metadata.content import filled

RESOURCE_TYPE = "dataset"
_SCHEMES = {"DOI": "doi", "arXiv": "arxiv", "Handle": "handle", "URN": "urn", "URL": "url"}
_KINDS = {
    "Dataset": "dataset",
    "Image": "image",
    "JournalArticle": "publication-article",
    "Software": "software",
    "Report": "publication-report",
    "Text": "publication",
    "Other": "other",
}
_LANGUAGES = {
    "ar": "ara", "bg": "bul", "bn": "ben", "bs": "bos", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu",
    "el": "ell", "en": "eng", "es": "spa", "et": "est", "eu": "eus", "fa": "fas", "fi": "fin", "fr": "fra", "ga": "gle",
    "gl": "glg", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "id": "ind", "is": "isl", "it": "ita", "ja": "jpn",
    "ka": "kat", "ko": "kor", "lt": "lit", "lv": "lav", "mk": "mkd", "ms": "msa", "mt": "mlt", "nl": "nld", "nb": "nob",
    "nn": "nno", "no": "nor", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sk": "slk", "sl": "slv", "sq": "sqi",
    "sr": "srp", "sv": "swe", "sw": "swa", "tr": "tur", "uk": "ukr", "ur": "urd", "zh": "zho",
    "th": "tha", "vi": "vie",  # codespell:ignore tha,vie
}  # fmt: skip
"""ISO 639-3 codes, which InvenioRDM uses, by ISO 639-1 codes; other languages are only in the documents."""


def version_urn(digest: str) -> str:
    """The identifier of exactly this version in its record and documents, by which the record is found again."""
    return f"urn:{digest}"


def owner_urn(uid: str) -> str:
    """The identifier of the Dataset in the records of its versions, by which they are found again."""
    return f"urn:uuid:{uid}"


def described(
    said: Metadata, *, url: str, version: str, owner: str, day: str, dois: Iterable[str] = ()
) -> dict[str, Any]:
    """The metadata of a version's record; ``day`` is the default day of publication.

    ``dois`` are the record's own. A different identifier of the dataset is added as that of an identical work elsewhere.
    """
    return filled(
        resource_type={"id": RESOURCE_TYPE},
        title=said.title,
        description=_html(said.description),
        additional_descriptions=list(_further(said, version)),
        creators=[_creator(each) for each in said.creators],
        contributors=list(_contributors(said)),
        publisher=said.publisher.name if said.publisher is not None else repository_name(url),
        publication_date=said.issued or day,
        version=version.removeprefix("sha256:")[:12],
        rights=[{"id": said.license.lower()}] if said.license else [],
        languages=list(_languages(said)),
        subjects=[{"subject": word} for word in _subjects(said)],
        dates=list(_dates(said)),
        identifiers=[{"identifier": version_urn(version), "scheme": "urn"}],
        related_identifiers=list(_related(said, owner, set(dois))),
        locations=filled(features=[_place(each) for each in said.coverage]),
        funding=[_funding(each) for each in said.funding],
    )


def access(said: Metadata) -> dict[str, str]:
    """Access to the files; the record itself is always public."""
    return {"record": "public", "files": "public" if said.is_open else "restricted"}


def _html(text: str | None) -> str | None:
    """Text escaped for an HTML field; None for an empty one."""
    if not text:
        return None
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    return "".join(
        f"<p>{'<br>'.join(html.escape(line) for line in part.strip().splitlines())}</p>" for part in paragraphs
    )


def _further(said: Metadata, version: str) -> Iterator[dict[str, Any]]:
    if said.methods:
        yield {"description": _html(said.methods), "type": {"id": "methods"}}
    told = f"This is the version {version}: manifest.json has the SHA-256 of every file."
    yield {"description": _html(told), "type": {"id": "technical-info"}}


def _person_or_org(party: Party) -> dict[str, Any]:
    if party.is_organization:
        ror = [{"scheme": "ror", "identifier": party.ror.rpartition("/")[2]}] if party.ror else []
        return filled(type="organizational", name=party.name, identifiers=ror)
    family, given = party.family_and_given
    orcid = [{"scheme": "orcid", "identifier": party.orcid}] if party.orcid else []
    return filled(type="personal", family_name=family, given_name=given, identifiers=orcid)


def _creator(party: Party) -> dict[str, Any]:
    # Without duplicates, which the repository would refuse.
    names = dict.fromkeys(each.name for each in party.affiliations)
    return filled(person_or_org=_person_or_org(party), affiliations=[{"name": name} for name in names])


def _contributors(said: Metadata) -> Iterator[dict[str, Any]]:
    contact = said.contact
    asked = [Contributor(name=contact.name, role="ContactPerson", orcid=contact.orcid)] if contact is not None else []
    for each in (*said.contributors, *asked):
        yield {**_creator(each), "role": {"id": each.role.lower()}}


def _languages(said: Metadata) -> Iterator[dict[str, str]]:
    code = (said.language or "").partition("-")[0]
    found = code if len(code) == 3 else _LANGUAGES.get(code)
    if found:
        yield {"id": found}


def _subjects(said: Metadata) -> Iterable[str]:
    taxa = (each.name for each in said.taxa)
    return dict.fromkeys((*said.keywords, *(each.term for each in said.subjects), *taxa))


def _dates(said: Metadata) -> Iterator[dict[str, Any]]:
    if said.period is not None:
        until = f"/{said.period.end}" if said.period.end else ""
        yield {"date": f"{said.period.start}{until}", "type": {"id": "collected"}}


def _related(said: Metadata, owner: str, dois: set[str]) -> Iterator[dict[str, Any]]:
    yield _relation(owner_urn(owner), "urn", "isversionof", "dataset")
    told = {owner_urn(owner)}
    same = said.identifier
    if same and same not in dois:
        yield _relation(same, "doi", "isidenticalto", "dataset")
        told.add(same)
    for each in said.related:
        scheme = _SCHEMES.get(each.type)
        if scheme is None or each.plain in told | dois:
            continue  # Only in the documents.
        told.add(each.plain)
        yield _relation(_normal(each), scheme, each.relation.lower(), _KINDS.get(each.kind or ""))


def _normal(each: Related) -> str:
    return each.plain.partition(":")[2] if each.type == "arXiv" else each.plain


def _relation(identifier: str, scheme: str, relation: str, kind: str | None) -> dict[str, Any]:
    return filled(
        identifier=identifier,
        scheme=scheme,
        relation_type={"id": relation},
        resource_type={"id": kind} if kind else None,
    )


def _place(area: Area) -> dict[str, Any]:
    south, west, north, east = area.box
    if area.is_point:
        geometry: dict[str, Any] = {"type": "Point", "coordinates": [west, south]}
    else:
        corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        geometry = {"type": "Polygon", "coordinates": [corners]}
    depths = " to ".join(f"{depth} m" for depth in (area.min_depth, area.max_depth) if depth)
    return filled(place=area.place, geometry=geometry, description=f"depth {depths}" if depths else None)


def _funding(each: Funding) -> dict[str, Any]:
    award = filled(
        title={"en": each.title} if each.title else None,
        number=each.award,
        identifiers=[{"scheme": "url", "identifier": each.url}] if each.url else [],
    )
    is_named = each.title is not None or each.award is not None
    return filled(funder={"name": each.funder}, award=award if is_named else None)


def plain_doi(text: object) -> str | None:
    """A DOI from a server's response; None if it is invalid."""
    try:
        found = identifiers.doi(str(text)) if text else ""
    except ValueError:
        return None
    return found if found and len(found) <= 300 and found.isascii() and found.isprintable() else None
