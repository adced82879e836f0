"""OSCAR's Functions Definition Language: services in the form of its REST interface and of its clients. Pure functions.

`document` is what is written for people, `service` what is sent to a cluster.
Source: docs/fdl.md and pkg/types/service.go of https://github.com/grycap/oscar (Apache-2.0), 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LONGEST_NAME = 39
"""Most characters of a service name."""
CLUSTER = "oscar-cluster"
"""Default identifier of the cluster in a document, by which OSCAR's clients know it."""
_NAME = re.compile(rf"[a-z]([a-z0-9-]{{0,{LONGEST_NAME - 2}}}[a-z0-9])?")


@dataclass(frozen=True)
class Exposed:
    """How a container is reached from outside of the cluster, and how it scales.

    ``cpu_threshold`` is the processor usage in percent above which another instance starts.
    """

    port: int
    health_path: str
    min_scale: int = 1
    max_scale: int = 1
    cpu_threshold: int = 80
    asks_for_login: bool = True
    login: str = "basic"
    """How callers log in: ``basic`` with the name of the service and its token, or ``forward``, where Traefik asks OSCAR."""
    is_default_command: bool = True
    """Whether the container runs its image's own command instead of the script."""


@dataclass(frozen=True)
class Service:
    """A service. ``cpu`` and ``memory`` are Kubernetes quantities, ``script`` is the text of the script that runs for each
    file."""

    name: str
    image: str
    script: str
    cpu: str = "1.0"
    memory: str = "1Gi"
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: Sequence[str] = ()
    has_gpu: bool = False
    vo: str = ""
    exposed: Exposed | None = None


def name_of(wanted: str) -> str:
    """A valid OSCAR name for a Kubernetes name, which may be longer or begin with a digit."""
    plain = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    begun = plain if plain[:1].isalpha() else f"s-{plain}"
    return begun[:LONGEST_NAME].rstrip("-")


def service(wanted: Service) -> dict[str, Any]:
    """The service in the form of OSCAR's REST interface and documents, without unset fields.

    Raises:
        ValueError: the name is invalid, or image or script are missing; OSCAR would refuse it.
    """
    if not _NAME.fullmatch(wanted.name):
        raise ValueError(
            f"{wanted.name!r} is not a name for an OSCAR service: it must begin with a letter and have up "
            f"to {LONGEST_NAME} lower-case letters, digits and '-'"
        )
    for name in ("image", "script"):
        if not getattr(wanted, name).strip():
            raise ValueError(f"an OSCAR service needs {name}, and that of {wanted.name} is empty")
    variables = {"variables": dict(wanted.environment), "secrets": dict(wanted.secrets)}
    optional: dict[str, Any] = {
        "vo": wanted.vo,
        "enable_gpu": wanted.has_gpu,
        "image_pull_secrets": list(wanted.pull_secrets),
        "environment": {key: values for key, values in variables.items() if values},
        "labels": dict(wanted.labels),
        "annotations": dict(wanted.annotations),
        "expose": _expose(wanted.exposed),
    }
    # OSCAR expects strings here; YAML would turn a bare 1.0 into a number.
    given = {"name": wanted.name, "cpu": str(wanted.cpu), "memory": wanted.memory, "image": wanted.image}
    return {**given, "script": wanted.script, **{key: value for key, value in optional.items() if value}}


def document(services: Sequence[Service], cluster: str = CLUSTER) -> dict[str, Any]:
    """A document with which OSCAR's clients deploy each service on ``cluster``. Raises as ``service`` does."""
    return {"functions": {"oscar": [{cluster: service(each)} for each in services]}}


def _expose(wanted: Exposed | None) -> dict[str, Any]:
    if wanted is None:
        return {}
    return {
        # OSCAR 4.1 requires a list here and refuses a number.
        "api_port": [wanted.port],
        "min_scale": wanted.min_scale,
        "max_scale": wanted.max_scale,
        "cpu_threshold": wanted.cpu_threshold,
        "set_auth": wanted.asks_for_login,
        "auth_type": wanted.login,
        "rewrite_target": False,
        "default_command": wanted.is_default_command,
        "health_path": wanted.health_path,
        "probe_mode": "direct",
    }
