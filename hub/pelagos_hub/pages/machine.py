"""The catalogue for programs: JSON, linked data for search engines, and the sitemap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from starlette.responses import JSONResponse, PlainTextResponse, Response

from pelagos_contract import identifiers
from pelagos_hub.catalogue import browsing
from pelagos_hub.context import hub
from pelagos_hub.pages import visible

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.requests import Request

    from pelagos_hub.catalogue.entries import Entry
    from pelagos_hub.catalogue.numbers import Figure

_CACHED = {"Cache-Control": "no-store"}


async def models(request: Request) -> Response:
    """A page of the catalogue as JSON, with the same filters as the HTML page."""
    query = browsing.Query.parse(request.query_params.multi_items())
    found = browsing.browse(visible.entries(request), query)
    origin, probes = hub(request).settings.origin, hub(request).probes
    following = query.at_page(found.query.page + 1).address("/api/models") if found.query.page < found.pages else None
    body = {
        "total": found.total,
        "page": found.query.page,
        "pages": found.pages,
        "next": origin + following if following else None,
        "items": [described(each, origin, probes.last(each.namespace, each.name)) for each in found.entries],
    }
    return JSONResponse(body, headers=_CACHED)


async def model(request: Request) -> Response:
    """One model as JSON."""
    entry, at = visible.entry(request), hub(request)
    asked = at.probes.last(entry.namespace, entry.name)
    return JSONResponse(described(entry, at.settings.origin, asked), headers=_CACHED)


async def sitemap(request: Request) -> Response:
    """The sitemap: URLs of everything public."""
    origin = hub(request).settings.origin
    public = hub(request).shelf.seen_by(None)
    pages = "".join(f"<url><loc>{escape(origin + path)}</loc></url>" for path in ("/", *(each.path for each in public)))
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{pages}</urlset>\n'
    return Response(content, media_type="application/xml")


async def robots(request: Request) -> Response:
    """robots.txt: paths that search engines should not read."""
    lines = ("User-agent: *", "Disallow: /trials", "Disallow: /me", "Disallow: /login", "Disallow: /api/")
    return PlainTextResponse("\n".join([*lines, f"Sitemap: {hub(request).settings.origin}/sitemap.xml", ""]))


def described(entry: Entry, origin: str, asked: datetime | None) -> dict[str, Any]:
    """A model as JSON. Unknown values are null."""
    card, data, origins = entry.card, entry.data, entry.origin
    return {
        "namespace": entry.namespace,
        "name": entry.name,
        "url": origin + entry.path,
        "title": entry.title,
        "summary": card.summary,
        "intendedUse": card.intended_use,
        "limitations": card.limitations,
        "license": card.license,
        "doi": card.doi,
        "citation": card.citation,
        "contact": card.contact.written() if card.contact is not None else None,
        "catalogue": entry.visibility,
        "task": entry.task or None,
        "architecture": entry.architecture or None,
        "ready": entry.ready,
        "proof": {"state": entry.proof.state, "since": _time(entry.proof.since), "asked": _time(asked)},
        "metrics": {figure.name: _figure(figure) for figure in entry.numbers.overall},
        "primaryMetric": entry.numbers.primary.name if entry.numbers.primary else None,
        "dataset": {"name": data.name, "version": data.digest, "license": data.license or None, "doi": data.doi or None}
        if data.name
        else None,
        "trainingRun": origins.training or None,
        "onnxSha256": entry.onnx_sha256 or None,
        "manifestSha256": entry.manifest_sha256 or None,
        "endpoints": dict(entry.endpoints),
        "image": card.image,
        "documents": [f"{origin}{entry.path}/{each.name}" for each in entry.documents],
        "pictures": [
            {
                "url": f"{origin}{entry.path}/pictures/{number}",
                "description": picture.description,
                "credit": picture.credit,
            }
            for number, picture in enumerate(entry.pictures)
        ],
        "created": _time(entry.created),
    }


def linked(entry: Entry, origin: str) -> dict[str, Any]:
    """A model as JSON-LD in terms of schema.org, for search engines."""
    card, data = entry.card, entry.data
    found: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "SoftwareSourceCode" if card.source_code else "CreativeWork",
        "@id": origin + entry.path,
        "url": origin + entry.path,
        "name": entry.title,
        "description": card.summary,
        "license": f"https://spdx.org/licenses/{card.license}" if card.license else None,
        "identifier": identifiers.url(card.doi) if card.doi else None,
        "codeRepository": card.source_code,
        "citation": card.citation,
        "dateCreated": _time(entry.created),
        "keywords": ", ".join(word for word in (entry.task, entry.architecture, *data.taxa) if word) or None,
        "image": [f"{origin}{entry.path}/pictures/{number}" for number in range(len(entry.pictures))] or None,
        "isBasedOn": {
            "@type": "Dataset",
            "name": data.title or data.name,
            "identifier": identifiers.url(data.doi) if data.doi else data.digest,
        }
        if data.name
        else None,
    }
    if card.contact is not None:
        contact = {"name": card.contact.name, "email": card.contact.email, "url": card.contact.url}
        found["maintainer"] = {"@type": "Person", **{name: value for name, value in contact.items() if value}}
    return {name: value for name, value in found.items() if value is not None}


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "deviation": figure.deviation}


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z") if moment is not None else None
