"""The common input of all metadata documents."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from pelagos_contract.documents import DocumentDescription
from pelagos_contract.metadata import Metadata, Taxon
from pelagos_contract.taxonomy import Lineage
from pelagos_pipelines.annotations.model import Collection


@dataclass(frozen=True)
class File:
    """A file beside the documents. ``path`` is relative to their folder, ``size`` in bytes."""

    path: str
    sha256: str
    size: int

    @property
    def media_type(self) -> str:
        """The IANA media type by the file's suffix."""
        return mimetypes.guess_type(self.path)[0] or "application/octet-stream"


@dataclass(frozen=True)
class Content:
    """A version, and what people say of it.

    ``dataset`` is NAMESPACE/NAME, ``version`` the digest in hexadecimal, ``made`` the day on which the version was made, ``doi``
    that under which it is, or will be, published. ``digests`` are those of images by their paths in the source, ``names`` where
    they lie below the folder of the documents; without images beside the documents, their paths in the source.
    """

    metadata: Metadata
    dataset: str
    version: str
    made: str
    collection: Collection
    digests: Mapping[str, str]
    names: Mapping[str, str]
    doi: str | None = None
    files: tuple[File, ...] = ()
    written: list[File] = field(default_factory=list)
    """The documents that were written before the present one."""

    @property
    def issued(self) -> str:
        """Year, month or day of publication; by default the day of the version."""
        return self.metadata.issued or self.made

    @cached_property
    def lineages(self) -> Mapping[str, Lineage]:
        """The taxa of its classes by name, if spec.labels.taxonomy requests them."""
        named = self.collection.taxonomy
        return {} if named is None else {each.name: each for each in named.classes}

    @cached_property
    def taxa(self) -> Sequence[Taxon]:
        """The organisms in the dataset: those that people name in the metadata, and those of its classes."""
        said = self.metadata.taxa
        known = {(taxon.name, taxon.aphia_id) for taxon in said}
        return [
            *said,
            *(one.taxon for one in self.lineages.values() if (one.taxon.name, one.taxon.aphia_id) not in known),
        ]

    def taxon(self, label: str) -> Taxon | None:
        """The taxon of a class, by the register, else by the name in the metadata; None without one."""
        return self.lineages[label].taxon if label in self.lineages else self._said.get(label.casefold())

    @cached_property
    def _said(self) -> Mapping[str, Taxon]:
        return {taxon.name.casefold(): taxon for taxon in self.metadata.taxa}

    @cached_property
    def has_images(self) -> bool:
        """Whether the images are beside the documents."""
        known = {file.path for file in self.files}
        return bool(self.names) and all(name in known for name in self.names.values())

    @cached_property
    def url(self) -> str | None:
        """The URL of its publication; None if it is not published."""
        doi = self.metadata.identifier or self.doi
        return f"https://doi.org/{doi}" if doi else None

    @property
    def id(self) -> str:
        """The globally unique identifier of exactly this version."""
        return f"urn:sha256:{self.version}"


@dataclass(frozen=True)
class Writer:
    """Writes one kind of document: each of its files, as pieces of bytes."""

    description: DocumentDescription
    write: Callable[[Content], Mapping[str, Iterator[bytes]]]

    @property
    def name(self) -> str:
        """The name for `pelagos export --metadata`."""
        return self.description.name


def put(folder: Path, name: str, pieces: Iterator[bytes]) -> File:
    """Write a file from pieces; returns it with its digest and size."""
    digest, size = hashlib.sha256(), 0
    with (folder / name).open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            size += file.write(piece)
    return File(name, digest.hexdigest(), size)


def json_of(document: Mapping[str, Any]) -> Iterator[bytes]:
    """The document as indented JSON."""
    yield orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def filled(**fields: Any) -> dict[str, Any]:
    """Those that say something: neither None nor empty."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {}, ())}
