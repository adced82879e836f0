"""The Dockerfile, labels and name of an image with one model. Pure.

pelagos_pipelines.deepaas.settings, which reads the variables in the container, documents their meaning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pelagos.api.model_service import ModelServiceSpec, ServiceCard
from pelagos.cli.container_engines import RefusedError
from pelagos.ports.serving import USUAL_CONFIDENCE
from pelagos_contract.text import shown

PACKAGE, CARD = "package", "card.json"
"""Names in the folder that an image is built from."""
FILES = "/opt/model"
"""Their folder in the image."""
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?"
)
_LONGEST_REFERENCE, _LONGEST_LABEL = 255, 400
_TOLD = 12
"""How many characters of a digest a tag contains."""


@dataclass(frozen=True)
class Model:
    """The package in the image, its serving settings, and its description."""

    namespace: str
    name: str
    spec: ModelServiceSpec
    onnx_sha256: str
    manifest_sha256: str
    card: ServiceCard


def named(reference: str, option: str, *, with_digest: bool = True) -> str:
    """The repository part of an image's name. Raises RefusedError for an invalid one; ``option`` is where the user gave it."""
    found = _REFERENCE.fullmatch(reference) if len(reference) <= _LONGEST_REFERENCE else None
    if found is None or (found["digest"] and not with_digest):
        raise RefusedError(
            f"{option} {shown(reference)[:80]!r} is not a name of an image, like registry.example.org/marine/urchins:1"
        )
    return str(found["repository"])


def usual_name(model: Model) -> str:
    """The default name, for an image that stays on this machine."""
    plain = "-".join(re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in (model.namespace, model.name))
    return f"pelagos/{plain}:{model.manifest_sha256[:_TOLD]}"


def dockerfile(model: Model, base: str) -> str:
    """The Dockerfile that adds the model to ``base``, which must be the name of an image."""
    thresholds = model.spec.thresholds
    heeds = float(thresholds.confidence) == USUAL_CONFIDENCE if thresholds.per_class is None else thresholds.per_class
    variables = {
        "PELAGOS_PACKAGE": f"{FILES}/{PACKAGE}",
        "PELAGOS_MANIFEST_SHA256": model.manifest_sha256,
        "PELAGOS_CARD": f"{FILES}/{CARD}",
        "PELAGOS_CONFIDENCE": str(float(thresholds.confidence)),
        "PELAGOS_IOU": str(float(thresholds.iou)),
        "PELAGOS_MAX_DETECTIONS": str(model.spec.max_detections),
        "PELAGOS_CLASS_CONFIDENCES": "package" if heeds else "service",
    }
    told = " ".join(f"{name}={value}" for name, value in variables.items())
    return f"FROM {base}\nCOPY {PACKAGE} {FILES}/{PACKAGE}\nCOPY {CARD} {FILES}/{CARD}\nENV {told}\n"


def labels(model: Model) -> dict[str, str]:
    """The image's labels, which describe the model. The base's labels with the licences of its programs are kept."""
    card = model.card
    told = {
        "org.opencontainers.image.title": card.title or f"{model.namespace}/{model.name}",
        "org.opencontainers.image.description": card.summary or "",
        "org.opencontainers.image.url": card.source_code or "",
        "dev.pelagos.service": f"{model.namespace}/{model.name}",
        "dev.pelagos.onnx-sha256": model.onnx_sha256,
        "dev.pelagos.manifest-sha256": model.manifest_sha256,
        "dev.pelagos.model-license": card.license or "",
    }
    return {name: shown(value)[:_LONGEST_LABEL] for name, value in told.items() if value}
