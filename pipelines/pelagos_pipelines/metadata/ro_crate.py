"""RO-Crate 1.1: ``ro-crate-metadata.json``, which lists every file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pelagos_contract import documents
from pelagos_pipelines.metadata import schema_org
from pelagos_pipelines.metadata.content import Content, File, Writer, json_of

_NAME = "ro-crate-metadata.json"
_CONFORMS_TO = "https://w3id.org/ro/crate/1.1"


def write(content: Content) -> Mapping[str, Iterator[bytes]]:
    """The documents by file name, as chunks of bytes."""
    return {_NAME: _late(content)}


def _late(content: Content) -> Iterator[bytes]:
    """The document. It is a generator, so that it is built after the other documents were written."""
    yield from json_of(document(content))


def document(content: Content) -> dict[str, Any]:
    """A flat graph of entities that refer to each other by id, as RO-Crate requires."""
    graph = _Graph()
    files = [*content.files, *content.written]
    root = {"@id": "./", "@type": "Dataset", **graph.flat(schema_org.dataset(content, others="CreativeWork"))}
    root["hasPart"] = [*root.get("hasPart", ()), *({"@id": quote(file.path)} for file in files)]
    if isinstance(root.get("license"), str):
        name = content.metadata.license
        root["license"] = graph.add({"@id": root["license"], "@type": "CreativeWork", "name": name})
    for file in files:
        graph.add(_file(file))
    descriptor = {
        "@id": _NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _CONFORMS_TO},
        "about": {"@id": "./"},
    }
    return {"@context": f"{_CONFORMS_TO}/context", "@graph": [descriptor, root, *graph.entities.values()]}


def _file(file: File) -> dict[str, Any]:
    return {
        "@id": quote(file.path),
        "@type": "File",
        "name": file.path,
        "encodingFormat": file.media_type,
        "contentSize": str(file.size),
        "sha256": file.sha256,
    }


class _Graph:
    """Entities by id."""

    def __init__(self) -> None:
        self.entities: dict[str, dict[str, Any]] = {}

    def add(self, entity: Mapping[str, Any]) -> dict[str, str]:
        """Add an entity; returns a reference to it."""
        found = dict(entity)
        name = found.setdefault("@id", f"#{found['@type']}-{len(self.entities) + 1}")
        self.entities.setdefault(name, found)
        return {"@id": name}

    def flat(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with a reference in place of each nested entity."""
        return {name: self._flat(value) for name, value in document.items()}

    def _flat(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._flat(each) for each in value]
        if isinstance(value, Mapping):
            return self.add(self.flat(value))
        return value


WRITER = Writer(documents.RO_CRATE, write)
