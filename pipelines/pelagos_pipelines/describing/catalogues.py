"""Catalogue entries of a model: the metadata of AI4OS modules (schema 2.3.0), and MLDCAT-AP as JSON-LD.

Schema: https://docs.ai4os.eu/projects/ai4-metadata. MLDCAT-AP: https://semiceu.github.io/MLDCAT-AP/releases/2.1.0/; the context
is embedded in the document, so that it need not be fetched, and entities are named by vocabulary URLs or by URNs of digests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from pelagos_contract import identifiers
from pelagos_contract.metrics import TEST
from pelagos_contract.tasks import Task
from pelagos_contract.text import shown, shown_in
from pelagos_pipelines.describing import card
from pelagos_pipelines.describing.facts import Facts

SCHEMA = "2.3.0"
_AI4 = "http://w3id.org/ai4os/vocabulary"
_IT6 = "http://data.europa.eu/it6/"
_CONTEXT = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "it6": _IT6,
    "mls": "http://www.w3.org/ns/mls#",
    "prov": "http://www.w3.org/ns/prov#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "spdx": "http://spdx.org/rdf/terms#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}


def lacking(facts: Facts) -> list[str]:
    """The fields that the AI4OS schema needs and that are not set."""
    return [] if facts.card.source_code else ["spec.card.sourceCode"]


def ai4_metadata(facts: Facts) -> str:
    """The metadata of a module, as YAML. Only call it if nothing is `lacking`."""
    said, data = facts.card, facts.dataset
    assert said.source_code is not None
    doi = data.doi or data.identifier
    links = {"source_code": said.source_code}
    if doi and (address := identifiers.url(doi)):
        links["dataset"] = address
    found = {
        "metadata_version": SCHEMA,
        "title": facts.title,
        "summary": facts.summary,
        # Dashboards show it as Markdown.
        "description": _description(facts, card.prose),
        "links": links,
        "dates": {"created": facts.day, "updated": facts.day},
        "libraries": [_library(facts)],
        "tasks": _tasks(facts),
        "categories": ["AI4 pre trained", "AI4 inference"],
        "tags": _tags(facts),
        "data-type": ["Image"],
    }
    if said.license:
        found["license"] = said.license
    return yaml.safe_dump(_shown(found), sort_keys=False, allow_unicode=True, width=120)


def mldcat_ap(facts: Facts) -> dict[str, Any]:
    """The model as it6:MachineLearningModel, with its training data and metrics."""
    said, data = facts.card, facts.dataset
    model: dict[str, Any] = {
        "@id": f"urn:sha256:{facts.package}",
        "@type": ["it6:MachineLearningModel", "dcat:Dataset"],
        "dct:identifier": f"sha256:{facts.package}",
        "dct:title": _english(facts.title),
        "it6:shortDescription": _english(facts.summary),
        "dct:description": _english(_description(facts, str)),
        "dct:created": {"@type": "xsd:date", "@value": facts.day},
        "dcat:keyword": [_english(tag) for tag in _tags(facts)],
        "it6:hasTaskType": [
            {
                "@id": f"{_AI4}/tasktype/{task.replace(' ', '_')}",
                "@type": "it6:TaskType",
                "skos:prefLabel": _english(task),
            }
            for task in _tasks(facts)
        ],
        "it6:hasMachineLearningLibrary": [
            {
                "@id": f"{_AI4}/library/{_library(facts)}",
                "@type": "it6:Library",
                "dct:title": _english(_library(facts)),
            }
        ],
        "it6:trainedOn": [_dataset(facts)],
        "mls:hasQuality": _qualities(facts),
        "spdx:checksum": {
            "@type": "spdx:Checksum",
            "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
            "spdx:checksumValue": facts.onnx,
        },
    }
    if said.license:
        model["dct:license"] = {
            "@id": f"https://spdx.org/licenses/{said.license}",
            "@type": "dct:LicenseDocument",
            "dct:title": _english(said.license),
        }
    if said.source_code:
        model["it6:hasRepository"] = {"@id": said.source_code}
    if said.citation:
        model["dct:bibliographicCitation"] = said.citation
    if said.contact is not None:
        contact: dict[str, Any] = {"@type": "vcard:Kind", "vcard:fn": said.contact.name}
        if said.contact.email:
            contact["vcard:hasEmail"] = {"@id": f"mailto:{said.contact.email}"}
        if said.contact.url:
            contact["vcard:hasURL"] = {"@id": said.contact.url}
        model["dcat:contactPoint"] = contact
    if data.license:
        model["it6:trainedOn"][0]["dct:license"] = {"@id": f"https://spdx.org/licenses/{data.license}"}
    document: dict[str, Any] = _shown({"@context": _CONTEXT, "@graph": [model]})
    return document


def _dataset(facts: Facts) -> dict[str, Any]:
    said, dataset = facts.dataset, facts.request.dataset
    doi = said.doi or said.identifier
    found: dict[str, Any] = {
        "@id": identifiers.url(doi) if doi else f"urn:{dataset.version}",
        "@type": "dcat:Dataset",
        "dct:title": _english(said.title or dataset.name),
        "dct:identifier": dataset.version,
    }
    if said.creators:
        found["dct:creator"] = [{"@type": "foaf:Agent", "foaf:name": name} for name in said.creators]
    return found


def _qualities(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "@type": "mls:ModelEvaluation",
            "dct:title": _english(f"{TEST}{name}"),
            "mls:specifiedBy": {"@type": "mls:EvaluationMeasure", "dct:title": _english(name)},
            "mls:hasValue": {"@type": "xsd:double", "@value": repr(float(value.value))},
        }
        for name, value in facts.overall.items()
        if value.value is not None
    ]


def _description(facts: Facts, fit: Callable[[str], str]) -> str:
    """The description in paragraphs; ``fit`` escapes texts of people and datasets for the output format."""
    said = facts.card
    parts = [
        fit(facts.summary),
        f"Intended use: {fit(said.intended_use)}" if said.intended_use else "",
        f"Limitations: {fit(said.limitations)}" if said.limitations else "",
        f"On the test split of {facts.request.dataset.version}: {facts.primary} {facts.primary_value.words}."
        + (f" Intervals are {facts.resampling}." if facts.resampling else ""),
        f"Classes: {', '.join(fit(label) for label in facts.labels[: card.MOST_CLASSES])}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _tasks(facts: Facts) -> list[str]:
    return ["Computer Vision"] + (["Classification"] if facts.request.task is Task.CLASSIFICATION else [])


def _library(facts: Facts) -> str:
    return "PyTorch" if "torch" in facts.environment else "Other"


def _tags(facts: Facts) -> list[str]:
    return ["aquatic sciences", facts.request.task.value, facts.request.model.architecture, "ONNX"]


def _english(text: str) -> dict[str, str]:
    return {"@language": "en", "@value": text}


def _shown(value: Any) -> Any:
    """The value with invisible characters escaped in all of its texts; line feeds stay."""
    if isinstance(value, str):
        return shown(value, lines=True)
    if isinstance(value, dict):
        return {shown_in(name): _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value
