"""A model in the catalogue, assembled from its ModelService, the TrainingRun that produced it and the Dataset of that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from pelagos.api import reasons
from pelagos.api.model_service import Picture, ServiceCard
from pelagos_contract import families, identifiers
from pelagos_contract.metadata import Metadata
from pelagos_contract.model_card import Card
from pelagos_hub.catalogue import numbers, reading
from pelagos_hub.catalogue.numbers import Numbers

Body = Mapping[str, Any]
_MOST_DOCUMENTS, _MOST_WARNINGS, _MOST_CLASSES, _MOST_TAXA = 10, 40, 100, 20


@dataclass(frozen=True)
class Proof:
    """Whether the model answers correctly, by the operator's probes.

    ``since`` is when this state began; None when that is unknown.
    """

    state: Literal["Right", "Idle", "Off", "Wrong", "Unknown"]
    words: str
    since: datetime | None = None


@dataclass(frozen=True)
class Document:
    """A document that the training wrote beside the package. ``sha256`` is from the operator's status, not from the store."""

    name: str
    uri: str
    sha256: str


@dataclass(frozen=True)
class Data:
    """The data that the model was trained on; empty fields are unknown. ``digest`` is that of exactly this version."""

    name: str = ""
    digest: str = ""
    title: str = ""
    license: str = ""
    doi: str = ""
    creators: tuple[str, ...] = ()
    taxa: tuple[str, ...] = ()
    instrument: str = ""
    images: int | None = None
    classes: tuple[tuple[str, int | None], ...] = ()
    fair: int | None = None
    split: str = ""
    is_current: bool = False
    """Whether this is the Dataset's newest version, which images, classes and fair describe."""

    @property
    def short(self) -> str:
        """The first 12 hex digits of the digest, as shown to people."""
        return self.digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True)
class Origin:
    """The training that produced the model; empty when no TrainingRun of the namespace claims it."""

    training: str = ""
    tracking: str = ""
    finished: datetime | None = None
    energy: str = ""
    co2: str = ""
    method: str = ""


@dataclass(frozen=True)
class Entry:
    """Everything that pages show of one ModelService. Texts are plain and bounded in length."""

    namespace: str
    name: str
    uid: str
    generation: int
    card: ServiceCard
    visibility: str
    missing: tuple[str, ...]
    """Required fields that the card lacks; a model with any of them is not listed."""
    was_proven: bool
    ready: str
    """True, False or Unknown."""
    reason: str
    message: str
    proof: Proof
    task: str
    architecture: str
    family: str
    model_name: str
    reference: str
    onnx_sha256: str
    manifest_sha256: str
    numbers: Numbers
    data: Data
    origin: Origin
    documents: tuple[Document, ...]
    warnings: tuple[str, ...]
    endpoints: Mapping[str, str]
    created: datetime | None
    conditions: tuple[tuple[str, str, str, str, datetime | None], ...]
    """Type, status, reason, message and when the status last changed."""
    thresholds: tuple[str, str] = ("", "")
    """Confidence and IoU thresholds of the service."""
    cpu: str = "1"
    """CPU cores of one server, as a Kubernetes quantity."""

    @property
    def path(self) -> str:
        """The URL path of the model's page."""
        return f"/models/{self.namespace}/{self.name}"

    @property
    def title(self) -> str:
        """The card's title, else the resource's name."""
        return self.card.title or self.name

    @property
    def pictures(self) -> list[Picture]:
        """The pictures of its card."""
        return self.card.pictures

    @cached_property
    def text(self) -> str:
        """The case-folded text that searches look in."""
        card, data = self.card, self.data
        texts = (self.name, self.namespace, card.title, card.summary, card.intended_use, self.task, self.architecture)
        labels = (label for label, _ in data.classes)
        return " ".join(filter(None, (*texts, data.title, data.instrument, *data.taxa, *labels))).casefold()

    @property
    def is_ready(self) -> bool:
        """Whether the condition Ready is True: the service answers, and correctly."""
        return self.ready == "True"

    @property
    def is_listed(self) -> bool:
        """Whether the catalogue lists it for anyone: visible, with a complete card, and ready now or proven before."""
        return self.visibility in {"Namespace", "Public"} and not self.missing and (self.was_proven or self.is_ready)


def entry(service: Body, training: Body | None, dataset: Body | None) -> Entry:
    """The entry of a service; ``training`` produced the served model, from ``dataset``."""
    metadata, spec, status = (reading.at(service, part) for part in ("metadata", "spec", "status"))
    trained = reading.at(training, "status")
    served, conditions = reading.at(status, "model"), tuple(_conditions(status))
    ready = next((each for each in conditions if each[0] == "Ready"), ("Ready", "Unknown", "", "", None))
    data = _data(trained, dataset)
    task = reading.line(reading.at(trained, "dataset").get("task"), 40)
    architecture = reading.line(reading.at(training, "spec", "model").get("architecture"), 100)
    known = families.by_architecture().get(architecture)
    card = _card(spec, training)
    thresholds = reading.at(spec, "thresholds")
    return Entry(
        namespace=reading.line(metadata.get("namespace")),
        name=reading.line(metadata.get("name")),
        uid=reading.line(metadata.get("uid")),
        generation=reading.count(metadata.get("generation")) or 0,
        card=card,
        visibility=reading.line(reading.at(spec, "publish").get("catalogue"), 20) or "Private",
        missing=card.missing(),
        was_proven=bool(served.get("proven")),
        ready=ready[1],
        reason=ready[2],
        message=ready[3],
        proof=_proof(conditions),
        task=task,
        architecture=architecture,
        family=known.name if known is not None else "",
        model_name=reading.line(served.get("name")),
        reference=reading.line(served.get("source")),
        onnx_sha256=reading.line(served.get("onnxSha256"), 64),
        manifest_sha256=reading.line(served.get("manifestSha256"), 64),
        numbers=numbers.of(trained, task),
        data=data,
        origin=_origin(training),
        documents=tuple(_documents(trained)),
        warnings=tuple(reading.line(each) for each in _texts(trained.get("warnings"), _MOST_WARNINGS)),
        endpoints=_endpoints(reading.at(status, "endpoints")),
        created=reading.moment(metadata.get("creationTimestamp")),
        conditions=conditions,
        thresholds=(reading.line(thresholds.get("confidence"), 10), reading.line(thresholds.get("iou"), 10)),
        cpu=reading.line(str(reading.at(spec, "resources").get("cpu") or 1), 20),
    )


def _endpoints(told: Body) -> dict[str, str]:
    """Public addresses: those of the gateway where there is one, so that addresses behind it are never shown."""
    found = {}
    for behind, before in (("http", "gatewayHttp"), ("grpc", "gatewayGrpc")):
        name = before if told.get(before) else behind
        if address := reading.line(told.get(name)):
            found[name] = address
    return found


def _card(spec: Body, training: Body | None) -> ServiceCard:
    own = reading.valid(ServiceCard, spec.get("card")) or ServiceCard()
    card = own.after(reading.valid(Card, reading.at(training, "spec").get("card")))
    plain = {
        "title": reading.line(card.title) or None,
        "summary": reading.line(card.summary) or None,
        "intended_use": reading.prose(card.intended_use) or None,
        "limitations": reading.prose(card.limitations) or None,
        "citation": reading.prose(card.citation) or None,
    }
    return card.model_copy(update=plain)


def _conditions(status: Body) -> list[tuple[str, str, str, str, datetime | None]]:
    found = []
    for each in reading.each(status.get("conditions"), 20):
        state = each.get("status")
        found.append(
            (
                reading.line(each.get("type"), 63),
                state if state in {"True", "False"} else "Unknown",
                reading.line(each.get("reason"), 100),
                reading.prose(each.get("message"))[:2000],
                reading.moment(each.get("lastTransitionTime")),
            )
        )
    return found


def _proof(conditions: tuple[tuple[str, str, str, str, datetime | None], ...]) -> Proof:
    by_type = {each[0]: each for each in conditions}
    ready, probed = by_type.get("Ready"), by_type.get("Probed")
    if ready is not None and ready[1] == "True" and ready[2] == reasons.SCALED_TO_ZERO:
        return Proof("Idle", "Idle, starts when asked", ready[4])
    if ready is not None and ready[1] == "False" and ready[2] == reasons.SUSPENDED:
        return Proof("Off", "Switched off by its owners", ready[4])
    if ready is None or probed is None or (ready[1] == "Unknown" and probed[1] != "False"):
        return Proof("Unknown", "Unknown whether it answers")
    if probed[1] == "True" and ready[1] == "True":
        return Proof("Right", "Answers correctly", probed[4])
    if probed[1] == "False":
        return Proof("Wrong", "Does not answer correctly", probed[4])
    if ready[1] == "False":
        return Proof("Wrong", "Does not answer correctly", ready[4])
    return Proof("Unknown", "Unknown whether it answers")


def _data(trained: Body, dataset: Body | None) -> Data:
    frozen = reading.at(trained, "dataset")
    if not frozen:
        return Data()
    name, digest = reading.line(frozen.get("name")), reading.line(frozen.get("version"), 80)
    if dataset is None:
        return Data(name, digest)
    status, spec = reading.at(dataset, "status"), reading.at(dataset, "spec")
    said = reading.valid(Metadata, spec.get("metadata")) or Metadata()
    is_current = status.get("version") == digest
    published = reading.at(status, "publication")
    doi = published.get("doi") if published.get("version") == digest else said.identifier
    classes = [
        (reading.line(each.get("name")), reading.count(each.get("annotations")))
        for each in reading.each(status.get("classes"), _MOST_CLASSES)
    ]
    acquisition = said.acquisition
    return Data(
        name,
        digest,
        title=reading.line(said.title),
        license=reading.line(said.license, 64),
        doi=reading.line(doi) if isinstance(doi, str) and identifiers.kind_of(doi) == "DOI" else "",
        creators=tuple(reading.line(each.name) for each in said.creators[:_MOST_TAXA]),
        taxa=tuple(reading.line(each.name) for each in said.taxa[:_MOST_TAXA]),
        instrument=reading.line(acquisition.sensor if acquisition is not None else None),
        images=reading.count(status.get("images")) if is_current else None,
        classes=tuple(classes) if is_current else (),
        fair=reading.count(reading.at(status, "fair").get("score")) if is_current else None,
        split=reading.line(reading.at(spec, "split").get("policy"), 40) if is_current else "",
        is_current=is_current,
    )


def _origin(training: Body | None) -> Origin:
    if training is None:
        return Origin()
    status = reading.at(training, "status")
    cost = reading.at(status, "cost")
    tracking = reading.line(reading.at(status, "tracking").get("url"), 2048)
    return Origin(
        training=reading.line(reading.at(training, "metadata").get("name")),
        tracking=tracking if tracking.startswith(("https://", "http://")) else "",
        finished=reading.moment(status.get("finishedAt")),
        energy=reading.line(cost.get("energy"), 100),
        co2=reading.line(cost.get("co2"), 100),
        method=reading.line(cost.get("energyMethod")),
    )


def _documents(trained: Body) -> list[Document]:
    found = []
    for each in reading.each(trained.get("documents"), _MOST_DOCUMENTS):
        name, uri, sha256 = (each.get(key) for key in ("name", "uri", "sha256"))
        if isinstance(name, str) and isinstance(uri, str) and isinstance(sha256, str):
            found.append(Document(name, uri, sha256))
    return found


def _texts(value: object, most: int) -> list[str]:
    return [each for each in value[:most] if isinstance(each, str)] if isinstance(value, list) else []
