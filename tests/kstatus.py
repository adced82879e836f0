"""How Flux and kubectl read a status: kstatus itself (tools/upstream/kstatus), one process for all tests that run in one."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import threading
from collections.abc import Mapping
from enum import Enum
from typing import Any

import upstream
from pelagos.api import meta
from pelagos.ports.cluster import Resource


class Kstatus(Enum):
    """What kstatus makes of a resource."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"


def require() -> None:
    """Skips the test where kstatus has not been built: before anything runs that would take this for a fault of its own."""
    upstream.program("kstatus")


def read(resource: Resource) -> Kstatus:
    """What kstatus makes of ``resource``."""
    return read_body(body_of(resource))


def read_body(body: Mapping[str, Any] | None) -> Kstatus:
    """What kstatus makes of a resource as the API server shows it; None: it is gone. ValueError: it cannot be read."""
    return Kstatus.NOT_FOUND if body is None else _read(json.dumps(body))


def body_of(resource: Resource) -> dict[str, Any]:
    """A resource as the API server would show it."""
    metadata: dict[str, Any] = {
        "name": resource.name,
        "namespace": resource.namespace,
        "uid": resource.uid,
        "generation": resource.generation,
    }
    if resource.annotations:
        metadata["annotations"] = dict(resource.annotations)
    if resource.deleting:
        metadata["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    return {
        "apiVersion": meta.API_VERSION,
        "kind": resource.kind.kind,
        "metadata": metadata,
        "spec": dict(resource.spec),
        "status": dict(resource.status),
    }


@functools.lru_cache(maxsize=4096)
def _read(line: str) -> Kstatus:
    with _ONE_AT_A_TIME:
        process = _process()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
    if "status" not in answer:
        raise ValueError(f"kstatus: {answer['message']}: {line}")
    return Kstatus(answer["status"])


_ONE_AT_A_TIME = threading.Lock()


@functools.cache
def _process() -> subprocess.Popen[str]:
    """It ends by itself when this process, whose end of the pipe it reads, does."""
    made = subprocess.Popen(
        [upstream.program("kstatus")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    atexit.register(made.communicate)
    return made


def contradiction(body: Mapping[str, Any]) -> str:
    """What kstatus would make of ``body`` that our own conditions do not say; empty: it is read as it is meant."""
    status = body.get("status") or {}
    held = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    found = read_body(body)
    if not held or found is Kstatus.TERMINATING or status.get("observedGeneration") != body["metadata"]["generation"]:
        return ""
    meant = {"True": Kstatus.CURRENT}.get(held["Ready"], Kstatus.IN_PROGRESS)
    if held.get("Stalled") == "True":
        meant = Kstatus.FAILED
    return "" if found is meant else f"kstatus reads {found.value}, and {meant.value} is meant: {held}"
