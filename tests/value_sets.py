"""Values of installations that tests render: those of the overlays, and one that sets all that can be set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generators.installation import variants
from generators.installation.values import Values

EVERYTHING: Mapping[str, Any] = {
    "image": {"digest": "sha256:" + "a1" * 32, "pullPolicy": "Always", "pullSecrets": [{"name": "registry"}]},
    "scope": {"kind": "Namespace", "namespace": "marine-lab"},
    "engines": {
        "serving": "kserve",
        "trainerImage": "registry.example/trainer@sha256:" + "b2" * 32,
        "ca": "private-ca",
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
        "podAnnotations": {"example.org/note": "a: b"},
    },
    "networkPolicies": {
        "enabled": True,
        "apiServer": {"peers": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]},
        "storage": {"peers": [{"ipBlock": {"cidr": "10.9.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        "clients": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"gateway": "yes"}}}],
        "monitoringNamespace": "prometheus",
    },
    "admission": {"enabled": True},
    "monitoring": {"enabled": True},
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
"""What manifests/samples/shards says."""
SETS: dict[str, Values] = {overlay.name: overlay.values for overlay in variants.OVERLAYS} | {
    "defaults of Helm": Values(),
    "claims": variants.values(variants.COMPONENTS["claims"]),
    "basic auth": variants.values(variants.COMPONENTS["tracking-basic-auth"]),
    "two replicas": variants.values(variants.COMPONENTS["high-availability"]),
    "two replicas of each shard": variants.values(variants.COMPONENTS["high-availability"], SHARDS),
    "shards": variants.values(SHARDS),
    "everything": Values.model_validate(EVERYTHING),
}
