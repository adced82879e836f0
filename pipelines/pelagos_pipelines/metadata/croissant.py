"""Croissant 1.0: ``croissant.json``, and ``images.csv`` and ``annotations.csv``, the tables that it describes.

The tables are separate files, so programs can read all annotations whatever the layout of the images.
"""

from __future__ import annotations

import csv
import glob
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pelagos_contract import documents
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.metadata import schema_org
from pelagos_pipelines.metadata.content import Content, File, Writer, json_of

IMAGES, ANNOTATIONS = "images.csv", "annotations.csv"
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_TEXT, _INTEGER, _FLOAT = "sc:Text", "sc:Integer", "sc:Float"
_COLUMNS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    IMAGES: {
        "image": (_TEXT, "The image: its path beside this file, or in the source where no images are beside it."),
        "split": (_TEXT, "train, validation or test."),
        "width": (_INTEGER, "Pixels from left to right."),
        "height": (_INTEGER, "Pixels from top to bottom."),
        "group": (_TEXT, "What a split must not cut, such as a station; empty where there is none."),
        "sha256": (_TEXT, "Digest of its file."),
    },
    ANNOTATIONS: {
        "image": (_TEXT, "The image that it is on."),
        "label": (_TEXT, "Its class."),
        "taxon": (
            _TEXT,
            "LSID of the taxon that its class is, in the World Register of Marine Species; empty for others.",
        ),
        "shape": (_TEXT, "What it was drawn as; tag: of the whole image."),
        "x": (_FLOAT, "Left edge of the box around it in pixels; empty for a tag."),
        "y": (_FLOAT, "Upper edge in pixels."),
        "width": (_FLOAT, "Width in pixels."),
        "height": (_FLOAT, "Height in pixels."),
    },
}
_CAPTURE: Mapping[str, tuple[str, str]] = {
    "site": (_TEXT, "Where it was taken, by name."),
    "deployment": (_TEXT, "The dive, tow or deployment on which it was taken."),
    "platform": (_TEXT, "What carried the camera."),
    "time": (_TEXT, "When it was taken: ISO 8601 with the offset from UTC, or a date."),
    "depth": (_FLOAT, "Meters below the surface."),
    "latitude": (_FLOAT, "Decimal degrees, WGS 84."),
    "longitude": (_FLOAT, "Decimal degrees, WGS 84."),
}
"""Columns of images, present if known for at least one image; empty where unknown."""
_LONGEST = 64 * 1024
"""Characters that are buffered before they are written."""
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write(content: Content) -> Mapping[str, Iterator[bytes]]:
    """Write the document and its tables. The tables come first, because the document has their digests."""
    return {
        IMAGES: _table(_columns(IMAGES, content), _images(content)),
        ANNOTATIONS: _table(_columns(ANNOTATIONS, content), _annotations(content)),
        "croissant.json": _late(content),
    }


def _late(content: Content) -> Iterator[bytes]:
    """Lazy: the document is created when the tables are already written."""
    yield from json_of(_document(content))


def _document(content: Content) -> dict[str, Any]:
    said = schema_org.dataset(content, others="CreativeWork")
    said.pop("size")
    language = content.metadata.language
    if "keywords" in said:  # in Croissant these are plain words
        said["keywords"] = [word if isinstance(word, str) else word["name"] for word in said["keywords"]]
    tables = [file for file in content.written if file.path in _COLUMNS]
    return {
        "@context": {**_CONTEXT, "@language": language or "en"},
        "@type": "sc:Dataset",
        **said,
        "conformsTo": CONFORMS_TO,
        # Croissant requires three numbers; the beginning of the digest, as build metadata, tells versions apart.
        "version": f"1.0.0+{content.version[:12]}",
        "citeAs": citation(content),
        "distribution": [*(_file(file) for file in tables), *_pictures(content)],
        "recordSet": [_records(name, _columns(name, content)) for name in _COLUMNS],
    }


def citation(content: Content) -> str:
    """The citation of the dataset, in one line."""
    said = content.metadata
    names = "; ".join(party.name for party in said.creators)
    publisher = f" {said.publisher.name}." if said.publisher else ""
    return f"{names} ({content.issued[:4]}): {said.title}.{publisher} {content.url or content.id}"


def _file(file: File) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "encodingFormat": file.media_type,
        "contentSize": f"{file.size} B",
        "sha256": file.sha256,
    }


def _pictures(content: Content) -> Iterator[dict[str, Any]]:
    """The image files, as one file set for each folder and file type."""
    if not content.has_images:
        return
    known = {file.path: file.media_type for file in content.files}
    folders: dict[tuple[str, str], str] = {}
    for name in content.names.values():
        folder, _, file = name.rpartition("/")
        folders.setdefault((folder, file.rpartition(".")[2]), known[name])
    for number, ((folder, suffix), media_type) in enumerate(sorted(folders.items()), start=1):
        includes = f"{glob.escape(folder)}/*.{suffix}" if folder else f"*.{suffix}"
        yield {
            "@type": "cr:FileSet",
            "@id": f"image-files-{number}",
            "name": f"image-files-{number}",
            "encodingFormat": media_type,
            "includes": includes,
        }


def _columns(table: str, content: Content) -> Mapping[str, tuple[str, str]]:
    is_known = table == IMAGES and any(image.capture is not None for image in content.collection.images)
    return {**_COLUMNS[table], **(_CAPTURE if is_known else {})}


def _records(table: str, columns: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    name = table.removesuffix(".csv")
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": f"{name}/{column}",
            "description": description,
            "dataType": kind,
            "source": {"fileObject": {"@id": table}, "extract": {"column": column}},
            **({"references": {"field": {"@id": "images/image"}}} if (table, column) == (ANNOTATIONS, "image") else {}),
        }
        for column, (kind, description) in columns.items()
    ]
    key = {"key": {"@id": "images/image"}} if table == IMAGES else {}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **key, "field": fields}


def _images(content: Content) -> Iterator[Sequence[Any]]:
    more = [name for name in _columns(IMAGES, content) if name in _CAPTURE]
    for image in content.collection.images:
        told = {} if image.capture is None else image.capture.document()
        yield (
            content.names[image.path],
            image.split,
            image.width,
            image.height,
            image.group,
            content.digests[image.path],
            *(told.get(name, "") for name in more),
        )


def _annotations(content: Content) -> Iterator[Sequence[Any]]:
    taxa = {label: content.taxon(label) for label in content.collection.classes}
    uris = {label: taxon.uri if taxon is not None else None for label, taxon in taxa.items()}
    for image in content.collection.images:
        for shape in image.marks:
            yield content.names[image.path], shape.label, uris.get(shape.label), shape.kind.value, *_box(shape)


def _box(shape: Shape) -> Sequence[Any]:
    """x, y, width and height in pixels; a point has no extent, and a tag no position."""
    if shape.kind is Kind.POINT:
        return *shape.coordinates[:2], 0, 0
    return shape.sides or ("",) * 4


def _table(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """CSV according to RFC 4180, in UTF-8, in pieces."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        if text.tell() > _LONGEST:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


WRITER = Writer(documents.CROISSANT, write)
