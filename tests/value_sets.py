"""Values that tests install: those of kustomize's overlays and components, and one that sets every value."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from typing import Any

import yaml

import rendering

NAMESPACE = "pelagos-system"
"""The operator's namespace in manifests/base."""
DEFAULTS: Mapping[str, Any] = yaml.safe_load((rendering.CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: Mapping[str, Any] = json.loads((rendering.CHART / "values.schema.json").read_text(encoding="utf-8"))


def changed(given: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Values with a change merged in. None is kept: Helm then removes the chart's default."""
    merged = dict(given)
    for name, value in change.items():
        merged[name] = changed(merged.get(name) or {}, value) if isinstance(value, Mapping) else value
    return merged


def values(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values that correspond to manifests/base, with changes."""
    return functools.reduce(changed, changes, changed(DEFAULTS, {"createNamespace": True}))


def objects(given: Mapping[str, Any]) -> list[rendering.Body]:
    """All objects of an installation with these values, except those of manifests/monitoring."""
    return copy.deepcopy(_rendered(json.dumps(changed(given, {"monitoring": {"enabled": False}}))))


@functools.cache
def _rendered(text: str) -> list[rendering.Body]:
    return rendering.helm(json.loads(text), namespace=NAMESPACE)


_TO_BE_NAMED = {
    "peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)],
}
"""A placeholder address: each cluster has its API server elsewhere, so everyone who installs must replace it."""
COMPONENTS: Mapping[str, Mapping[str, Any]] = {
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
    "openshift": {
        "operator": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
        "engines": {"podUser": ""},
    },
    "networkpolicies": {"networkPolicies": {"enabled": True, "apiServer": _TO_BE_NAMED}},
    "monitoring": {"monitoring": {"enabled": True}},
    "admission": {"admission": {"enabled": True}},
    "kubeflow-token": {"kubeflow": {"token": True}},
    "kubeflow-multi-user": {"kubeflow": {"multiUser": True}},
    "kubeflow-multi-user-single-namespace": {"kubeflow": {"multiUser": True}},
    "tracking-basic-auth": {"tracking": {"auth": "Basic", "tenantSecret": "pelagos-tracking"}},
    "tracking-token": {"tracking": {"auth": "Token", "tenantSecret": "pelagos-tracking"}},
    "oscar": {"engines": {"serving": "oscar"}, "oscar": {"url": "https://oscar.example"}},
    "hub": {"hub": {"enabled": True}},
    "hub-single-namespace": {"hub": {"enabled": True}},
    "hub-networkpolicies": {"networkPolicies": {"identity": {"peers": [{"ipBlock": {"cidr": "192.0.2.2/32"}}]}}},
    "claims": {"storage": {"objects": "", "data": "", "objectsClaim": "pelagos-objects", "dataClaim": "pelagos-data"}},
}
"""The change of values that corresponds to each component of kustomize."""
BENEATH: Mapping[str, tuple[str, ...]] = {
    "hub-single-namespace": ("single-namespace",),
    "hub-networkpolicies": ("networkpolicies", "hub"),
    "kserve-single-namespace": ("single-namespace",),
    "kubeflow-multi-user-single-namespace": ("single-namespace",),
}
"""Components that a component requires."""
OVERLAYS: Mapping[str, tuple[str, ...]] = {
    "cluster": (),
    "triton-only": (),
    "kserve": ("kserve",),
    "gpu": ("gpu",),
    "single-namespace": ("single-namespace",),
    "networkpolicies": ("networkpolicies",),
    "monitoring": ("monitoring",),
}
"""The components of each overlay of kustomize."""


def of_components(*names: str) -> dict[str, Any]:
    """The values that correspond to manifests/base with these components."""
    return values(*(COMPONENTS[name] for name in names))


EVERYTHING: Mapping[str, Any] = {
    "image": {"digest": "sha256:" + "a1" * 32, "pullPolicy": "Always", "pullSecrets": [{"name": "registry"}]},
    "commonLabels": {"example.org/cost-centre": "42"},
    "scope": {"kind": "Namespace", "namespace": "marine-lab"},
    "engines": {
        "serving": "kserve",
        "trainerImage": "registry.example/trainer@sha256:" + "b2" * 32,
        "ca": "private-ca",
        "stepPods": {"labels": {"example.org/mesh": "off"}, "env": {"HTTPS_PROXY": "http://proxy.example:3128"}},
        "serverPods": {"priorityClassName": "serving", "tolerations": [{"key": "dedicated", "operator": "Exists"}]},
    },
    "kubeflow": {
        "url": "https://kubeflow.example/pipeline",
        "publicUrl": "https://kubeflow.example",
        "namespace": "runs",
        "multiUser": True,
        "token": True,
        "ca": "kubeflow-ca",
    },
    "tracking": {"url": "https://mlflow.example", "auth": "Token", "tenantSecret": "mlflow", "ca": "mlflow-ca"},
    "storage": {"objects": "s3://b/o", "data": "", "dataClaim": "images", "endpoint": "https://s3.example", "ca": "ca"},
    "operator": {
        "concurrentReconciles": 64,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "replicas": 2,
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "annotations": {"example.org/owner": "data team"},
        "podAnnotations": {"example.org/note": "a: b"},
        "podLabels": {"example.org/mesh": "off", "example.org/cost-centre": "7"},
        "env": [
            {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
            {"name": "PELAGOS_EXTENSIONS", "value": "fish"},
        ],
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None, "supplementalGroups": [2000]},
        "securityContext": {"seLinuxOptions": {"level": "s0:c1"}},
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/pelagos"},
    },
    "networkPolicies": {
        "enabled": True,
        "apiServer": {"peers": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]},
        "storage": {"peers": [{"ipBlock": {"cidr": "10.9.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        "identity": {"peers": [{"ipBlock": {"cidr": "10.8.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        "hubClients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "traefik"}}}],
        "clients": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"gateway": "yes"}}}],
        "monitoringNamespace": "prometheus",
    },
    "admission": {"enabled": True},
    "monitoring": {"enabled": True},
    "hub": {
        "enabled": True,
        "url": "https://models.example:8443",
        "image": "registry.example/hub@sha256:" + "c3" * 32,
        "secret": "hub",
        "oidc": {"issuer": "https://aai.example", "clientId": "hub", "name": "EGI Check-in"},
        "attestedEntitlements": "urn:mace:egi.eu:group:imagine:role=member#aai.egi.eu",
        "gatewayUrl": "http://pelagos-gateway.{namespace}.svc:8080",
        "storageSecret": "hub-s3",
        "env": [{"name": "PELAGOS_HUB_SESSION_HOURS", "value": "4"}],
    },
    "tenants": [
        {"namespace": "marine-lab", "experimentPrefix": "marine/", "queue": "gpus", "quota": {"requests.cpu": "8"}},
        {"namespace": "plankton", "maxGpus": "0"},
    ],
}
SHARDS: Mapping[str, Any] = {
    "operator": {
        "shards": [
            {"name": "north", "selector": "pelagos.dev/shard=north"},
            {"name": "others", "selector": "pelagos.dev/shard notin (north)"},
        ]
    }
}
"""The values that correspond to manifests/samples/shards."""
SETS: Mapping[str, Mapping[str, Any]] = {name: of_components(*parts) for name, parts in OVERLAYS.items()} | {
    "defaults of Helm": changed(DEFAULTS, {}),
    "claims": of_components("claims"),
    "basic auth": of_components("tracking-basic-auth"),
    "two replicas": of_components("high-availability"),
    "openshift": of_components("openshift"),
    "oscar": values(
        COMPONENTS["oscar"],
        COMPONENTS["networkpolicies"],
        {
            "oscar": {
                "auth": "RefreshToken",
                "vo": "vo.imagine-ai.eu",
                "bucket": "later",
                "storageUrl": "https://s3.example",
            }
        },
    ),
    "two replicas of each shard": values(COMPONENTS["high-availability"], SHARDS),
    "shards": values(SHARDS),
    "everything": changed(DEFAULTS, EVERYTHING),
}
