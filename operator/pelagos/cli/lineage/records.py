"""The record of a lineage's stages, as in a bundle's ``lineage.json``. A bundle is untrusted: anybody may have written it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pelagos.decisions import digests
from pelagos_contract import model_card
from pelagos_contract.base import Strict

RECORD, MANIFEST, ANNOTATIONS, PACKAGE = (
    "lineage.json",
    "dataset/manifest.json",
    "dataset/annotations.json",
    "model/package.json",
)
CARD = "model/model-card.md"
CRATE, PROV = "ro-crate-metadata.json", "prov.jsonld"
FILES = (RECORD, MANIFEST, ANNOTATIONS, PACKAGE, CARD, CRATE, PROV)
_MOST_SHOWN = 200
LARGEST = {
    RECORD: 4 << 20,
    MANIFEST: 512 << 20,
    ANNOTATIONS: 512 << 20,
    PACKAGE: 4 << 20,
    CARD: model_card.LARGEST,
    CRATE: 1 << 20,
    PROV: 1 << 20,
}
"""Largest size of each file in a bundle, in bytes; it has no other files."""
Text = Annotated[str, Field(max_length=4096)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Model(Strict):
    """The digests of a model package and its graph, as in a resource's status."""

    manifest_sha256: Sha256
    onnx_sha256: Sha256


class Named(Strict):
    """A resource, by namespace, name and uid."""

    namespace: Text
    name: Text
    uid: Text


class DatasetRecord(Named):
    """A version of a Dataset. ``source``: its origin, as in status."""

    version: Digest
    source: dict[str, Any] = Field(default_factory=dict)


class TrainingRecord(Named):
    """A TrainingRun with a model. ``inputs_digest`` covers ``inputs`` and ``dataset``."""

    inputs_digest: Digest
    inputs: dict[str, Any]
    dataset: dict[str, Any]
    model: Model
    run: Text = ""
    started_at: Text = ""
    finished_at: Text = ""
    metrics: dict[str, Text] = Field(default_factory=dict)
    environment: dict[str, Text] = Field(default_factory=dict)
    """Tags of the MLflow run; empty when MLflow could not be reached."""


class ServiceRecord(Named):
    """A ModelService, and the model that it serves."""

    model: Model
    url: Text = ""


class Record(Strict):
    """A lineage. A stage that is None is not part of it, or unknown; at least one must be present."""

    schema_version: Literal[1] = 1
    made_at: Text
    made_by: Text
    dataset: DatasetRecord | None = None
    training: TrainingRecord | None = None
    service: ServiceRecord | None = None

    @model_validator(mode="after")
    def _is_of_something(self) -> Self:
        if self.dataset is None and self.training is None and self.service is None:
            raise ValueError("it belongs to no Dataset, no TrainingRun and no ModelService")
        return self


@dataclass(frozen=True)
class Link:
    """A link of the chain; ``holds`` is None when it could not be checked here; ``words`` describe the compared values."""

    name: str
    holds: bool | None
    words: str


def sha256(content: bytes) -> str:
    """The SHA-256 of ``content`` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def dataset_link(record: Record, found: str | None, why: str) -> Link:
    """The link to the version. ``found`` is the digest of manifest and annotations, None if not computed (``why``)."""
    assert record.dataset is not None
    stated = record.dataset.version
    name = "manifest and annotations → dataset version"
    if found is None:
        return Link(name, None, why)
    if found != stated:
        return Link(name, False, f"their digest is {found}, and Dataset {record.dataset.name} names {stated}")
    return Link(name, True, stated)


def links(record: Record, folder: Path) -> list[Link]:
    """The links after the version, in order: the frozen inputs, the package, its graph and the service."""
    return [*_training(record), *_package(record, folder)]


def _training(record: Record) -> list[Link]:
    training, dataset = record.training, record.dataset
    if training is None:
        return []
    name = f"inputs → TrainingRun {training.name}"
    try:
        digest = digests.digest({"inputs": training.inputs, "dataset": training.dataset})
    except (ValueError, RecursionError):  # a lone surrogate, or a number with thousands of digits
        digest = "none, as they are not JSON that Pelagos writes"
    if digest != training.inputs_digest:
        inputs = Link(name, False, f"the digest of its inputs is {digest}, and it names {training.inputs_digest}")
    else:
        inputs = Link(name, True, digest)
    version = training.dataset.get("version")
    name = "dataset version → inputs"
    if dataset is None:
        trained_on = Link(name, None, f"version {_brief(version)} is not part of this lineage")
    elif version != dataset.version:
        trained_on = Link(name, False, f"the inputs name {_brief(version)}, and the version is {dataset.version}")
    else:
        trained_on = Link(name, True, dataset.version)
    return [trained_on, inputs]


def _package(record: Record, folder: Path) -> list[Link]:
    training, service = record.training, record.service
    if not (folder / PACKAGE).is_file():
        why = "the description of the package is missing"
        found = [Link(f"TrainingRun {training.name} → model package", None, why)] if training is not None else []
        return found + (
            [Link(f"model package → ModelService {service.name}", None, why)] if service is not None else []
        )
    content = (folder / PACKAGE).read_bytes()
    package, described = sha256(content), _object(content)
    found = []
    version = record.dataset.version if record.dataset is not None else None
    if training is not None:
        name = f"TrainingRun {training.name} → model package"
        found.append(same(name, package, training.model.manifest_sha256, "package.json"))
        version = training.dataset.get("version")
    if training is not None or version is not None:
        found.append(
            same(
                "dataset version → model package",
                f"sha256:{str(_in(described, 'dataset', 'version')).removeprefix('sha256:')}",
                str(version),
                "the version that the package names",
            )
        )
    if training is not None:
        found += [
            same(
                "architecture → model package",
                str(described.get("architecture")),
                str(_in(training.inputs, "model", "architecture")),
                "its architecture",
            ),
            same(
                "model package → graph", str(described.get("onnxSha256")), training.model.onnx_sha256, "the ONNX graph"
            ),
        ]
    if service is not None:
        name = f"model package → ModelService {service.name}"
        found += [
            same(name, service.model.manifest_sha256, package, "what it serves"),
            same(
                "graph → ModelService",
                service.model.onnx_sha256,
                str(described.get("onnxSha256")),
                "the graph it serves",
            ),
        ]
    return found


def same(name: str, found: str, wanted: str, what: str) -> Link:
    """A link that holds if ``found`` equals ``wanted``; ``what`` names ``found`` in the message."""
    if found == wanted:
        return Link(name, True, _brief(found))
    return Link(name, False, f"{what} is {_brief(found)} instead of {_brief(wanted)}")


def _brief(value: Any) -> str:
    """An untrusted value for a message, shortened."""
    text = str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _in(document: Mapping[str, Any], *names: str) -> Any:
    found: Any = document
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
