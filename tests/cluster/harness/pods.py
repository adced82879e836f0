"""Resources that the tests of the cluster make: restricted pods, as a careful tenant would write them."""

from __future__ import annotations

from typing import Any

USER = 10001
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
}
"""The securityContext of every container."""


def container(image: str, *command: str, **fields: Any) -> dict[str, Any]:
    """A container that can write only to its mounts; without ``command`` it runs the image's own."""
    base = {"name": "main", "image": image, "imagePullPolicy": "Never", "securityContext": CONTAINER}
    return {**base, **({"command": list(command)} if command else {}), **fields}


def spec(*containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A pod's spec, without a grace period."""
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    return {"containers": list(containers), "securityContext": seccomp, "terminationGracePeriodSeconds": 2, **fields}


def pod(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A pod that runs once."""
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"restartPolicy": "Never", **spec}}


def deployment(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of one pod."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service(name: str, namespace: str, port: int, **fields: Any) -> dict[str, Any]:
    """A Service for the pods of the same name."""
    metadata = {"name": name, "namespace": namespace}
    ports = [{"name": "http", "port": port}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": name}, "ports": ports, **fields},
    }
