"""The installations that are committed as kustomize overlays, each with the values that give the same objects with Helm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from generators.installation.values import Values
from pelagos.api import merge_patches

NAMESPACE = "pelagos-system"
VERSION = "0.1.0"
Scope = Literal["cluster", "namespace"]
Changes = Mapping[str, Any]


def values(*changes: Changes) -> Values:
    """The values of the kustomize base, with changes."""
    merged: dict[str, Any] = {"createNamespace": True}
    for change in changes:
        merged = merge_patches.merged(merged, change)
    return Values.model_validate(merged)


_TO_BE_NAMED = {
    "peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)],
}
"""An address that nobody has: whoever installs replaces it, since each cluster has its API server elsewhere."""
COMPONENTS: dict[str, Changes] = {
    "kserve": {"engines": {"serving": "kserve"}},
    "kserve-single-namespace": {"engines": {"serving": "kserve"}},
    "gpu": {
        "engines": {
            "trainerImage": "ghcr.io/pelagos/trainer:0.1.0",
            "servingImage": "ghcr.io/pelagos/serving:0.1.0",
        }
    },
    "single-namespace": {"scope": {"kind": "Namespace"}},
    "high-availability": {"operator": {"replicas": 2}},
    "networkpolicies": {"networkPolicies": {"enabled": True, "apiServer": _TO_BE_NAMED}},
    "monitoring": {"monitoring": {"enabled": True}},
    "admission": {"admission": {"enabled": True}},
    "kubeflow-token": {"kubeflow": {"token": True}},
    "kubeflow-multi-user": {"kubeflow": {"multiUser": True}},
    "kubeflow-multi-user-single-namespace": {"kubeflow": {"multiUser": True}},
    "tracking-basic-auth": {"tracking": {"auth": "Basic", "tenantSecret": "pelagos-tracking"}},
    "tracking-token": {"tracking": {"auth": "Token", "tenantSecret": "pelagos-tracking"}},
    "claims": {"storage": {"objects": "", "data": "", "objectsClaim": "pelagos-objects", "dataClaim": "pelagos-data"}},
}
"""Changes of values, each a component; they combine."""
_ONE_NAMESPACE = COMPONENTS["single-namespace"]
BENEATH: dict[str, Changes] = {
    "kserve-single-namespace": _ONE_NAMESPACE,
    "kubeflow-multi-user-single-namespace": _ONE_NAMESPACE,
}
"""What a component takes as given."""


@dataclass(frozen=True)
class Overlay:
    """A whole installation: its scope, its serving engine's role, and components."""

    name: str
    components: tuple[str, ...] = ()
    scope: Scope = "cluster"

    @property
    def serving(self) -> str:
        """The engine that serves models."""
        return "kserve" if "kserve" in self.components else "deployment"

    @property
    def values(self) -> Values:
        """The values that say the same."""
        return values(*(COMPONENTS[name] for name in self.components))


OVERLAYS = (
    Overlay("cluster"),
    Overlay("triton-only"),
    Overlay("kserve", ("kserve",)),
    Overlay("gpu", ("gpu",)),
    Overlay("single-namespace", ("single-namespace",), scope="namespace"),
    Overlay("networkpolicies", ("networkpolicies",)),
    Overlay("monitoring", ("monitoring",)),
)
