"""A Darwin Core archive: ``dwca.zip`` with the organisms on each image (Occurrence), the images (Multimedia), and EML.

There is one row per class and image, with the count. The class of a row is its ``verbatimIdentification``. Its ``scientificName``
is that of the resolved taxon, with the taxa above it; otherwise the class name, with the AphiaID if spec.metadata.taxa has it.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any
from urllib.parse import quote

from pelagos_contract import documents
from pelagos_contract.metadata import Metadata
from pelagos_contract.taxonomy import Rank
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.metadata import datacite, eml, schema_org
from pelagos_pipelines.metadata.content import Content, Writer, filled

_TERMS = "http://rs.tdwg.org/dwc/terms/"
_DUBLIN = "http://purl.org/dc/terms/"
_RANKS: Mapping[str, Rank] = {
    "kingdom": "Kingdom", "phylum": "Phylum", "class": "Class", "order": "Order", "family": "Family", "genus": "Genus",
}  # fmt: skip
"""Darwin Core terms of the taxa above, with their ranks."""
_OCCURRENCE = (
    f"{_TERMS}occurrenceID",
    f"{_TERMS}datasetID",
    f"{_TERMS}datasetName",
    f"{_DUBLIN}license",
    f"{_TERMS}basisOfRecord",
    f"{_TERMS}occurrenceStatus",
    f"{_TERMS}scientificName",
    f"{_TERMS}scientificNameID",
    f"{_TERMS}taxonRank",
    *(f"{_TERMS}{rank}" for rank in _RANKS),
    f"{_TERMS}verbatimIdentification",
    f"{_TERMS}individualCount",
    f"{_TERMS}eventID",
    f"{_TERMS}parentEventID",
    f"{_TERMS}eventDate",
    f"{_TERMS}locality",
    f"{_TERMS}decimalLatitude",
    f"{_TERMS}decimalLongitude",
    f"{_TERMS}geodeticDatum",
    f"{_TERMS}footprintWKT",
    f"{_TERMS}minimumDepthInMeters",
    f"{_TERMS}maximumDepthInMeters",
    f"{_TERMS}samplingProtocol",
)
_MULTIMEDIA = (
    f"{_DUBLIN}type",
    f"{_DUBLIN}format",
    f"{_DUBLIN}identifier",
    f"{_DUBLIN}title",
    f"{_DUBLIN}creator",
    f"{_DUBLIN}license",
    f"{_DUBLIN}rightsHolder",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The fixed time of all members of the archive, so that equal content gives equal bytes."""
_PIECE = 1024 * 1024


def write(content: Content) -> Mapping[str, Iterator[bytes]]:
    """The documents by file name, as chunks of bytes."""
    return {"dwca.zip": _archive(content)}


def _archive(content: Content) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _member(archive, "meta.xml", [_META])
            _member(archive, "eml.xml", [eml.document(content)])
            _member(archive, "occurrence.csv", _lines(("id", *_OCCURRENCE), _occurrences(content)))
            _member(archive, "multimedia.csv", _lines(("coreid", *_MULTIMEDIA), _multimedia(content)))
        file.seek(0)
        yield from iter(lambda: file.read(_PIECE), b"")


def _member(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes]) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    opened: IO[bytes]
    with archive.open(entry, "w") as opened:
        for piece in pieces:
            opened.write(piece)


def _lines(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.rpartition("/")[2] for name in header])
    for row in rows:
        writer.writerow(row)
        if text.tell() > _PIECE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _occurrences(content: Content) -> Iterator[Sequence[Any]]:
    said = content.metadata
    above = {name: {term: one.ranked(rank) for term, rank in _RANKS.items()} for name, one in content.lineages.items()}
    fixed: dict[str, Any] = {
        "datasetID": content.url or content.id,
        "datasetName": said.title,
        "license": datacite.license_url(said.license) if said.license else "",
        "basisOfRecord": "MachineObservation",
        "occurrenceStatus": "present",
        "eventDate": schema_org.temporal(said),
        "samplingProtocol": (said.acquisition.platform if said.acquisition else None),
        **_whole(said),
    }
    for image, label, count, name in _seen(content):
        taxon = content.taxon(label)
        row = fixed | {
            "occurrenceID": name,
            "scientificName": taxon.name if taxon and label in above else label,
            "scientificNameID": taxon.uri if taxon else None,
            "taxonRank": taxon.rank if taxon else None,
            "verbatimIdentification": label,
            "individualCount": count,
            "eventID": f"urn:sha256:{content.digests[image.path]}",
            "parentEventID": image.group,
            **above.get(label, {}),
            **_captured(image.capture),
        }
        yield name, *(row.get(term.rpartition("/")[2], "") for term in _OCCURRENCE)


def _captured(capture: Capture | None) -> dict[str, Any]:
    """When and where an image was taken, as far as known; other images get the values of the whole dataset."""
    if capture is None:
        return {}
    told = filled(
        parentEventID=capture.deployment,
        eventDate=capture.time,
        locality=capture.site,
        minimumDepthInMeters=capture.depth,
        maximumDepthInMeters=capture.depth,
    )
    if capture.latitude is None or capture.longitude is None:
        return told
    place = {"decimalLatitude": capture.latitude, "decimalLongitude": capture.longitude, "geodeticDatum": "EPSG:4326"}
    return told | place | {"footprintWKT": None}


def _multimedia(content: Content) -> Iterator[Sequence[Any]]:
    said = content.metadata
    holders = "; ".join(each.name for each in said.contributors if each.role == "RightsHolder")
    fixed = {
        "type": "StillImage",
        "creator": "; ".join(each.name for each in said.creators),
        "license": datacite.license_url(said.license) if said.license else "",
        "rightsHolder": holders,
    }
    kinds = {file.path: file.media_type for file in content.files}
    for image, _, _, name in _seen(content):
        where = content.names[image.path]
        row = fixed | {"format": kinds.get(where, ""), "identifier": quote(where), "title": image.path}
        yield name, *(row.get(term.rpartition("/")[2], "") for term in _MULTIMEDIA)


def _seen(content: Content) -> Iterator[tuple[ImageRecord, str, int, str]]:
    """Every class of every image, its count, and the id of the occurrence, which is the same in other versions."""
    for image in content.collection.images:
        for label, count in sorted(Counter(shape.label for shape in image.marks).items()):
            yield image, label, count, f"urn:sha256:{content.digests[image.path]}#{quote(label)}"


def _whole(said: Metadata) -> dict[str, Any]:
    """The location that holds for all images, if there is exactly one."""
    if len(said.coverage) != 1:
        return {}
    (area,) = said.coverage
    south, west, north, east = area.box
    found: dict[str, Any] = {
        "locality": area.place,
        "geodeticDatum": "EPSG:4326",
        "minimumDepthInMeters": area.min_depth,
        "maximumDepthInMeters": area.max_depth or area.min_depth,
    }
    if area.is_point:
        return found | {"decimalLatitude": south, "decimalLongitude": west}
    if west > east:  # across 180 degrees, where a polygon would mean the rest of the world
        return found
    ring = ((west, south), (east, south), (east, north), (west, north), (west, south))
    return found | {"footprintWKT": f"POLYGON (({', '.join(f'{x} {y}' for x, y in ring)}))"}


def _file(tag: str, kind: str, file: str, key: str, terms: Sequence[str]) -> str:
    fields = "".join(f'    <field index="{index}" term="{term}"/>\n' for index, term in enumerate(terms, start=1))
    return (
        f'  <{tag} encoding="UTF-8" fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy="&quot;" '
        f'ignoreHeaderLines="1" rowType="{kind}">\n    <files><location>{file}</location></files>\n'
        f'    <{key} index="0"/>\n{fields}  </{tag}>\n'
    )


_META = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">\n'
    + _file("core", f"{_TERMS}Occurrence", "occurrence.csv", "id", _OCCURRENCE)
    + _file("extension", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.csv", "coreid", _MULTIMEDIA)
    + "</archive>\n"
).encode()

WRITER = Writer(documents.DARWIN_CORE, write)
