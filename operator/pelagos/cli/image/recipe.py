"""What an image of one model is made of, and how OSCAR is told of it. Pure.

What the variables mean is in pelagos_pipelines.deepaas.settings, which reads them in the container.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pelagos.api.model_service import ModelServiceSpec, ServiceCard
from pelagos.cli.container_engines import RefusedError
from pelagos.ports.serving import USUAL_CONFIDENCE
from pelagos_contract import fdl
from pelagos_contract.text import shown

PORT, HEALTH = 5000, "/v2/models/"
PACKAGE, CARD = "package", "card.json"
"""Of the folder that an image is built from."""
FILES = "/opt/model"
"""Where they are in the image."""
SCRIPT = """#!/bin/sh
# For an image NAME: NAME.json with what is found, and NAME.status.json, which alone says whether that went well: OSCAR says of
# every script that it did.
name=$(basename "$INPUT_FILE_PATH")
deepaas-cli --deepaas_method_output="$TMP_OUTPUT_DIR/$name.json" predict --image="$INPUT_FILE_PATH"
code=$?
if [ "$code" = 0 ]; then state=Succeeded; else state=Failed; fi
printf '{"state": "%s", "exitCode": %d}\\n' "$state" "$code" >"$TMP_OUTPUT_DIR/$name.status.json"
exit "$code"
"""
"""Of an OSCAR service, for each file that it is sent."""
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?"
)
_LONGEST_REFERENCE, _LONGEST_LABEL = 255, 400
_TOLD = 12
"""Characters of a digest in a tag."""


@dataclass(frozen=True)
class Model:
    """Which package is baked in, how it answers, and what is said of it."""

    namespace: str
    name: str
    spec: ModelServiceSpec
    onnx_sha256: str
    manifest_sha256: str
    card: ServiceCard


def named(reference: str, option: str, *, with_digest: bool = True) -> str:
    """The repository of an image's name. Raises RefusedError for what is none; ``option`` is how a person gave it."""
    found = _REFERENCE.fullmatch(reference) if len(reference) <= _LONGEST_REFERENCE else None
    if found is None or (found["digest"] and not with_digest):
        raise RefusedError(
            f"{option} {shown(reference)[:80]!r} is no name of an image, like registry.example.org/marine/urchins:1"
        )
    return str(found["repository"])


def usual_name(model: Model) -> str:
    """For an image that stays on this machine."""
    plain = "-".join(re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in (model.namespace, model.name))
    return f"pelagos/{plain}:{model.manifest_sha256[:_TOLD]}"


def dockerfile(model: Model, base: str) -> str:
    """All that is put on top of the base, which must be a name of an image."""
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
    """Of the image: what it holds. The licences of its programs are labelled by its base, and stay."""
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


def described(model: Model, image: str, memory: str) -> fdl.Service:
    """The image as a service of OSCAR, which is exposed, and answers files that it is sent, too."""
    return fdl.Service(
        name=fdl.name_of(model.name),
        image=image,
        script=SCRIPT,
        cpu=str(model.spec.resources.cpu),
        memory=memory,
        labels={"pelagos.dev/onnx": model.onnx_sha256[:_TOLD]},
        exposed=fdl.Exposed(port=PORT, health_path=HEALTH),
    )


def written(document: Mapping[str, Any]) -> str:
    """A document for people to read: scripts line by line."""
    return yaml.dump(document, Dumper=_Lines, sort_keys=False, width=1000)


class _Lines(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


_Lines.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
