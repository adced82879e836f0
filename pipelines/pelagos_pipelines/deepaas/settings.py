"""Environment variables that describe the model. `pelagos image build` writes them; for a mounted package, set them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import entrypoint, packages, predictions
from pelagos_pipelines.serving.packages import RefusedError

LARGEST_CARD = 1 << 20
"""Largest size of a card in bytes."""
CARD = ("title", "summary", "intendedUse", "limitations", "contact", "license", "citation", "doi", "sourceCode")
"""The fields of a card that are shown."""


@dataclass(frozen=True)
class Settings:
    """``package``: its folder; ``manifest_sha256``: the digest it must have; ``threads``: those of one inference."""

    package: Path
    manifest_sha256: str
    thresholds: predictions.Thresholds
    heeds_classes: bool
    threads: int
    card: Mapping[str, Any] = field(default_factory=dict)


def read(variables: Mapping[str, str]) -> Settings:
    """Settings from the environment. Raises RefusedError if one is missing or invalid."""
    digest = variables.get("PELAGOS_MANIFEST_SHA256", "")
    if not packages.is_digest(digest):
        raise RefusedError(
            f"PELAGOS_MANIFEST_SHA256 is {digest!r}, and must be the sha256 of {packages.DESCRIPTION} of the package: `pelagos"
            " image build` writes it into an image; for a mounted package set status.model.manifestSha256 of its ModelService"
        )
    general = predictions.Thresholds(
        confidence=_share(variables, "PELAGOS_CONFIDENCE", 0.25),
        iou=_share(variables, "PELAGOS_IOU", 0.7),
        max_detections=_count(variables, "PELAGOS_MAX_DETECTIONS", predictions.MAX_DETECTIONS),
    )
    heeds = variables.get("PELAGOS_CLASS_CONFIDENCES") or "package"
    if heeds not in ("package", "service"):
        raise RefusedError(f"PELAGOS_CLASS_CONFIDENCES is {heeds!r}; it is package or service")
    try:
        Ceilings.read(variables)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return Settings(
        package=Path(variables.get("PELAGOS_PACKAGE") or entrypoint.PACKAGE),
        manifest_sha256=digest,
        thresholds=general,
        heeds_classes=heeds == "package",
        threads=_count(variables, "PELAGOS_THREADS", len(os.sched_getaffinity(0))),
        card=_card(variables.get("PELAGOS_CARD", "")),
    )


def _share(variables: Mapping[str, str], name: str, usual: float) -> float:
    text = variables.get(name) or str(usual)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise RefusedError(f"{name} is {text!r}; it must be a number from 0 to 1")
    return value


def _count(variables: Mapping[str, str], name: str, usual: int) -> int:
    text = variables.get(name) or str(usual)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 1_000_000) or len(text) > 7:
        raise RefusedError(f"{name} is {text!r}; it must be a whole number from 1 to 1000000")
    return int(text)


def _card(place: str) -> dict[str, Any]:
    """The card: only known fields, each a text or a few texts by name. Raises RefusedError if it cannot be read."""
    if not place:
        return {}
    with packages.opened(Path(place)) as file:
        content = file.read(LARGEST_CARD + 1)
    if len(content) > LARGEST_CARD:
        raise RefusedError(f"PELAGOS_CARD={place} is larger than the {LARGEST_CARD} bytes that a card may have")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"PELAGOS_CARD={place} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RefusedError(f"PELAGOS_CARD={place} does not hold a JSON object")
    return {name: found[name] for name in CARD if _is_said(found.get(name))}


def _is_said(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(part, str) for part in value.values())
    return isinstance(value, str) and bool(value)
