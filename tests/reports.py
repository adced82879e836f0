"""Writes a data plane's files at the end of a run, for tests that play one over the fakes: sealed, and in its own store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.ports.authority import Authority
from pelagos.ports.fakes.authority import reported
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.pipelines import RunRequest
from pelagos_contract.progress import DOCUMENT
from pelagos_contract.sealing import PROGRESS


def leave(objects: ObjectsFake, authority: Authority, request: RunRequest, result: Mapping[str, Any]) -> None:
    """Write a result; the version or package that it names is moved into the store of the request."""
    content = dict(result)
    if "uri" in content:
        content["uri"] = inside(request, content["uri"])
        objects.put(f"{objects.path(content['uri'])}/manifest.json", {})
    if "model" in content:
        content["model"] = content["model"] | {"uri": inside(request, content["model"]["uri"])}
    folder = objects.path(request.parameters["report"])
    objects.put(f"{folder}/result.json", reported(authority, request, content))


def refuse(objects: ObjectsFake, authority: Authority, request: RunRequest, failure: Mapping[str, Any]) -> None:
    """Write a failure that a person must fix."""
    folder = objects.path(request.parameters["report"])
    objects.put(f"{folder}/failure.json", reported(authority, request, dict(failure)))


def tell(objects: ObjectsFake, authority: Authority, request: RunRequest, progress: Mapping[str, Any]) -> None:
    """Write the progress that a step reports."""
    folder = objects.path(request.parameters["report"])
    objects.put(f"{folder}/{DOCUMENT}", reported(authority, request, dict(progress), PROGRESS))


def inside(request: RunRequest, name: str) -> str:
    """A uri in the store of a request."""
    return f"{request.parameters['store']}/{name}"
