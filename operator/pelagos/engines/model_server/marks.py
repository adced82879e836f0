"""Names, labels and annotations by which the objects of an endpoint are recognized, whichever engine creates its pods. Pure.

The main object of an endpoint carries the desired service as annotations, so that the operator itself keeps no state.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from pelagos.api import meta
from pelagos.ports.serving import DesiredService
from pelagos_contract.training import MAX_DETECTIONS

DIGEST_ANNOTATION = "pelagos.dev/digest"
WANT_ANNOTATION = "pelagos.dev/want"
RESTARTS_ANNOTATION = "pelagos.dev/restarts"
"""How often the operator has restarted the server, and the digest that this count is for: ``<count> <digest>``."""
INFERENCE_SERVICE_LABEL = "serving.kserve.io/inferenceservice"
"""KServe sets it on the pods that it creates, in both of its modes."""
_LATER_OF_PLACEMENT = frozenset({"millicores", "millicores_limit", "memory_limit"})
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def object_name(name: str, longest: int) -> str:
    """An object name of at most ``longest`` characters for the resource ``name``: the same if valid, else a similar one."""
    if len(name) <= longest and _NAME.fullmatch(name):
        return name
    like = re.sub(r"[^-a-z0-9]", "-", name)
    like = like if like[0].isalpha() else f"m-{like}"
    return f"{like[: longest - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def labels(want: DesiredService, name: str) -> dict[str, str]:
    """Labels of every object of ``want``'s endpoint."""
    return {
        "app.kubernetes.io/name": "pelagos-model-server",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": meta.FIELD_MANAGER,
        "app.kubernetes.io/part-of": "pelagos",
        "app.kubernetes.io/component": "serving",
        meta.UID_LABEL: want.uid,
    }


def selector(want: DesiredService) -> dict[str, str]:
    """Labels that select the pods. They never change during an endpoint's life, since selectors are immutable."""
    return {meta.UID_LABEL: want.uid, "app.kubernetes.io/name": "pelagos-model-server"}


def metadata(want: DesiredService, name: str, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``metadata`` of an object that is deleted with its ModelService."""
    owner = {
        "apiVersion": meta.API_VERSION,
        "kind": "ModelService",
        "name": want.name,
        "uid": want.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    made: dict[str, Any] = {"name": name, "namespace": want.namespace, "labels": labels(want, name)}
    return made | {"annotations": dict(annotations or {}), "ownerReferences": [owner]}


def recorded(body: Mapping[str, Any]) -> DesiredService | None:
    """The desired service that an object was created for; None when it has no valid record."""
    try:
        return TypeAdapter(DesiredService).validate_json(annotation(body, WANT_ANNOTATION))
    except ValueError:
        return None


def record(want: DesiredService) -> dict[str, str]:
    """The annotations from which ``recorded`` restores ``want``."""
    told = dataclasses.asdict(want)
    # Leave out newer fields at their defaults, as earlier releases wrote it, so that an upgrade rewrites nothing.
    if want.max_detections == MAX_DETECTIONS:
        del told["max_detections"]
    if not want.scaling.old_first:
        del told["scaling"]["old_first"]
    told["placement"] = {
        name: value for name, value in told["placement"].items() if value or name not in _LATER_OF_PLACEMENT
    }
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return {DIGEST_ANNOTATION: want.pod_template_digest, WANT_ANNOTATION: text}


def annotation(body: Mapping[str, Any], name: str) -> str:
    """An annotation of an object; "" when it has none."""
    return str((body["metadata"].get("annotations") or {}).get(name, ""))


def restarts(body: Mapping[str, Any]) -> int:
    """How often the operator has restarted the server since the desired service last changed."""
    count, _, digest = annotation(body, RESTARTS_ANNOTATION).partition(" ")
    return int(count) if count.isdecimal() and digest == annotation(body, DIGEST_ANNOTATION) else 0
