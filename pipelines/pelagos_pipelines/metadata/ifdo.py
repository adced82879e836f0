"""iFDO v2.2.1 as JSON: ``ifdo.json``, with all annotations and the metadata of the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pelagos_contract import documents, identifiers
from pelagos_contract.metadata import Metadata, Party
from pelagos_pipelines.annotations import ifdo_writing
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.metadata import datacite
from pelagos_pipelines.metadata.content import Content, Writer, filled, json_of


def write(content: Content) -> Mapping[str, Iterator[bytes]]:
    """The documents by file name, as chunks of bytes."""
    names = _short(content.names)
    found = ifdo_writing.document(content.collection, names, Altered())
    header = found["image-set-header"]
    del header["image-set-local-path"]
    header |= _header(content)
    for label in header["image-annotation-labels"]:
        taxon = content.taxon(label["name"])
        if taxon is not None and taxon.uri:
            label["info"] = taxon.uri
    for image in content.collection.images:
        item = found["image-set-items"][names[image.path]]
        item["image-hash-sha256"] = content.digests[image.path]
        item |= _captured(image.capture)
        if "image-latitude" in item or "image-longitude" in item:
            header["image-coordinate-reference-system"] = "EPSG:4326"
    return {"ifdo.json": json_of(found)}


def _captured(capture: Capture | None) -> dict[str, Any]:
    """When and where an image was taken. Times are in UTC; dates without a time are left out."""
    if capture is None:
        return {}
    moment = capture.moments[0] if capture.moments is not None and capture.has_clock else None
    return filled(
        **{
            "image-datetime": None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S.%f}",
            "image-latitude": capture.latitude,
            "image-longitude": capture.longitude,
            "image-altitude-meters": None if capture.depth is None else 0.0 - capture.depth,
            "image-platform": capture.platform and {"name": capture.platform},
            "image-event": capture.deployment and {"name": capture.deployment},
        }
    )


def _short(names: Mapping[str, str]) -> Mapping[str, str]:
    """File names without folders, as readers of iFDO expect, unless two files would have the same name."""
    short = {path: name.rpartition("/")[2] for path, name in names.items()}
    return short if len({*short.values()}) == len(short) else names


def _header(content: Content) -> dict[str, Any]:
    said = content.metadata
    return filled(
        **{
            "image-set-name": said.title,
            "image-set-handle": content.url,
            "image-set-local-path": _common(content.names.values()) if content.has_images else None,
            "image-abstract": said.description,
            "image-creators": [_person(each) for each in said.creators],
            "image-pi": _person(said.creators[0]) if said.creators else None,
            "image-copyright": _holders(said),
            "image-license": {"name": said.license, "uri": datacite.license_url(said.license)}
            if said.license
            else None,
            "image-curation-protocol": said.methods,
            "image-set-related-material": [
                {"uri": identifiers.url(each.identifier), "title": each.identifier, "relation": each.relation}
                for each in said.related
                if identifiers.url(each.identifier)
            ],
        },
        **_acquired(said),
        **_edges(said),
    )


def _acquired(said: Metadata) -> dict[str, Any]:
    """By what and for which purpose images were taken."""
    found = said.acquisition.written() if said.acquisition is not None else {}
    return {f"image-{name}": {"name": value} for name, value in found.items()}


def _edges(said: Metadata) -> dict[str, Any]:
    """The box around all places, and the position of all images if there is only one point."""
    if not said.coverage:
        return {}
    if len(said.coverage) == 1 and said.coverage[0].is_point:
        south, west, _, _ = said.coverage[0].box
        return {
            "image-latitude": south,
            "image-longitude": west,
            "image-coordinate-reference-system": "EPSG:4326",
        }
    souths, wests, norths, easts = zip(*(area.box for area in said.coverage), strict=True)
    crosses = any(west > east for west, east in zip(wests, easts, strict=True))
    return {
        "image-set-min-latitude-degrees": min(souths),
        "image-set-max-latitude-degrees": max(norths),
        # A range across 180 degrees cannot be expressed by minimum and maximum, so the whole range is given.
        "image-set-min-longitude-degrees": -180.0 if crosses else min(wests),
        "image-set-max-longitude-degrees": 180.0 if crosses else max(easts),
        "image-coordinate-reference-system": "EPSG:4326",
    }


def _holders(said: Metadata) -> str | None:
    holders = [each.name for each in said.contributors if each.role == "RightsHolder"]
    return "; ".join(holders) or None


def _person(party: Party) -> dict[str, Any]:
    return filled(name=party.name, uri=identifiers.url(party.orcid or party.ror or ""))


def _common(names: Any) -> str | None:
    """The top-level folder of all files, or "." if there are several."""
    first, *others = sorted({name.rpartition("/")[0].partition("/")[0] for name in names})
    return first if not others else "."


WRITER = Writer(documents.IFDO, write)
