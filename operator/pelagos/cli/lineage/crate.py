"""A lineage in standard vocabularies: RO-Crate 1.1, which lists the files of a bundle, and W3C PROV. Pure.

RO-Crate: https://w3id.org/ro/crate/1.1. PROV-O: https://www.w3.org/TR/prov-o/, as JSON-LD whose context is in the file, so that
it need not be fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pelagos.cli.lineage.records import (
    ANNOTATIONS,
    CARD,
    CRATE,
    MANIFEST,
    PACKAGE,
    RECORD,
    DatasetRecord,
    Record,
    ServiceRecord,
    TrainingRecord,
)

_CONFORMS_TO = "https://w3id.org/ro/crate/1.1"
_WORDS = {
    RECORD: "What Pelagos knows about each stage",
    MANIFEST: "Manifest of the dataset version: images with their digests, splits, recipe",
    ANNOTATIONS: "Annotations of the dataset version",
    PACKAGE: "Description of the model package, which pins its files",
    CARD: "Card of the model: what it is for, how good it is, its limits",
}
_FORMATS = {"jsonld": "application/ld+json", "md": "text/markdown"}
_PROV: dict[str, Any] = {
    "prov": "http://www.w3.org/ns/prov#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "label": "http://www.w3.org/2000/01/rdf-schema#label",
    **{
        name: {"@id": f"prov:{name}", "@type": "@id"}
        for name in ("used", "wasGeneratedBy", "wasDerivedFrom", "wasAssociatedWith", "atLocation")
    },
    **{name: {"@id": f"prov:{name}", "@type": "xsd:dateTime"} for name in ("startedAtTime", "endedAtTime")},
}


def crate(record: Record, files: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    """The content of ``ro-crate-metadata.json``; ``files`` has size and sha256 by path."""
    name = f"Lineage of {_subject(record)}"
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": name,
        "description": f"{name}, as digests that can be computed again: pelagos lineage verify",
        "datePublished": record.made_at,
        "license": {"@id": "#license"},
        "hasPart": [{"@id": path} for path in files],
    }
    listed = [
        {
            "@id": path,
            "@type": "File",
            "name": _WORDS.get(path, "Provenance as W3C PROV"),
            "encodingFormat": _FORMATS.get(path.rpartition(".")[2], "application/json"),
            "contentSize": str(size),
            "sha256": digest,
        }
        for path, (size, digest) in files.items()
    ]
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _CONFORMS_TO},
        "about": {"@id": "./"},
    }
    license_ = {"@id": "#license", "@type": "CreativeWork", "name": "As the collection and the model say"}
    return {"@context": f"{_CONFORMS_TO}/context", "@graph": [descriptor, root, license_, *listed]}


def prov(record: Record) -> dict[str, Any]:
    """The PROV document: entities, activities and agents, with ids derived from digests."""
    agent = {"@id": "#pelagos", "@type": "prov:SoftwareAgent", "label": record.made_by}
    graph = [agent, *_dataset(record.dataset), *_training(record.training), *_service(record.service)]
    return {"@context": _PROV, "@graph": graph}


def _dataset(found: DatasetRecord | None) -> Iterator[dict[str, Any]]:
    if found is None:
        return
    version: dict[str, Any] = {
        "@id": f"urn:{found.version}",
        "@type": "prov:Entity",
        "label": f"Dataset {found.namespace}/{found.name}",
    }
    doi = found.source.get("doi")
    if isinstance(doi, str) and doi:
        source = f"https://doi.org/{doi.removeprefix('https://doi.org/')}"
        yield {"@id": source, "@type": "prov:Entity", "label": "source"}
        version["wasDerivedFrom"] = source
    yield version


def _training(found: TrainingRecord | None) -> Iterator[dict[str, Any]]:
    if found is None:
        return
    activity: dict[str, Any] = {
        "@id": f"urn:{found.inputs_digest}",
        "@type": "prov:Activity",
        "label": f"TrainingRun {found.namespace}/{found.name}",
        "used": [f"urn:{found.dataset.get('version')}"],
        "wasAssociatedWith": "#pelagos",
    }
    moments = {"startedAtTime": found.started_at, "endedAtTime": found.finished_at}
    activity |= {name: moment for name, moment in moments.items() if moment}
    if packages := next((value for name, value in found.environment.items() if name.endswith("packages.sha256")), ""):
        environment = f"urn:sha256:{packages}"
        yield {"@id": environment, "@type": "prov:Entity", "label": "packages of the environment"}
        activity["used"].append(environment)
    yield activity
    yield {
        "@id": f"urn:sha256:{found.model.manifest_sha256}",
        "@type": "prov:Entity",
        "label": "model package",
        "wasGeneratedBy": activity["@id"],
        "wasDerivedFrom": f"urn:{found.dataset.get('version')}",
    }
    yield {
        "@id": f"urn:sha256:{found.model.onnx_sha256}",
        "@type": "prov:Entity",
        "label": "ONNX graph",
        "wasDerivedFrom": f"urn:sha256:{found.model.manifest_sha256}",
    }


def _service(found: ServiceRecord | None) -> Iterator[dict[str, Any]]:
    if found is None:
        return
    service: dict[str, Any] = {
        "@id": f"urn:uuid:{found.uid}",
        "@type": "prov:Activity",
        "label": f"ModelService {found.namespace}/{found.name}",
        "used": [f"urn:sha256:{found.model.manifest_sha256}"],
        "wasAssociatedWith": "#pelagos",
    }
    if found.url:
        service["atLocation"] = found.url
    yield service


def _subject(record: Record) -> str:
    for kind, found in (
        ("ModelService", record.service),
        ("TrainingRun", record.training),
        ("Dataset", record.dataset),
    ):
        if found is not None:
            return f"{kind} {found.namespace}/{found.name}"
    return "nothing"
