"""How Flux and kubectl read a status: kstatus itself (tools/upstream/kstatus), one process for all tests of this process."""

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
    """The states that kstatus knows."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"


def require() -> None:
    """Skip the test if kstatus is not built. Called first, so that the skip is not raised inside the code under test."""
    upstream.program("kstatus")


def read(resource: Resource) -> Kstatus:
    """The state that kstatus sees in ``resource``."""
    return read_body(body_of(resource))


def read_body(body: Mapping[str, Any] | None) -> Kstatus:
    """The state that kstatus sees in a resource from the API server; None: it was deleted. ValueError: it cannot be read."""
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
    """Start kstatus. It ends by itself with this process, because the pipe that it reads from then closes."""
    made = subprocess.Popen(
        [upstream.program("kstatus")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    atexit.register(made.communicate)
    return made


def contradiction(body: Mapping[str, Any]) -> str:
    """How kstatus' reading of ``body`` contradicts our own conditions; empty if it does not."""
    status = body.get("status") or {}
    held = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    found = read_body(body)
    if not held or found is Kstatus.TERMINATING or status.get("observedGeneration") != body["metadata"]["generation"]:
        return ""
    meant = {"True": Kstatus.CURRENT}.get(held["Ready"], Kstatus.IN_PROGRESS)
    if held.get("Stalled") == "True":
        meant = Kstatus.FAILED
    return "" if found is meant else f"kstatus reads {found.value}, and {meant.value} is meant: {held}"
