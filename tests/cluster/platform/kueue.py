"""The real Kueue on the test cluster, installed from its own manifests, as a pod with an image of the program built here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster import definitions
from cluster.harness import servers
from cluster.harness.cluster import Cluster

SYSTEM = "kueue-system"
TENANTS = {"app.kubernetes.io/part-of": "pelagos", "app.kubernetes.io/component": "tenant"}
"""Labels of the namespaces whose pods are queued, as manifests/tenant sets them."""
GPU = "nvidia.com/gpu"
_IMAGE = "us-central1-docker.pkg.dev/k8s-staging-images/kueue/kueue"
_MANAGER = "kueue-controller-manager"
_SETTINGS = "controller_manager_config.yaml"
_SECRET = "kueue-webhook-server-cert"


@dataclass(frozen=True)
class Kueue:
    """An installed Kueue; ``folder`` is the kustomization."""

    cluster: Cluster
    folder: Path

    @classmethod
    def install(cls, cluster: Cluster, folder: Path, program: Path) -> Kueue:
        """Apply its manifests; returns when it accepts pods: until then the cluster accepts no Deployments either."""
        folder.mkdir()
        made = cls(cluster, folder)
        _write_kustomization(folder, cluster.images.build_around(program))
        # Server-side as in Kueue's own instructions: the definitions are too large for the annotation of a client-side apply.
        cluster.kubectl("apply", "--server-side", "-k", folder)
        made._await_ready()
        return made

    def uninstall(self) -> None:
        """Uninstall it, its objects first, while it can still remove their finalizers."""
        self._delete_all("workloads", "localqueues", scope=("--all-namespaces",))
        self._delete_all("clusterqueues", "cohorts", "resourceflavors", "workloadpriorityclasses")
        # Without its server, its webhooks would refuse pods, and discovery would fail.
        self.cluster.kubectl("delete", "-k", self.folder, "--ignore-not-found", "--timeout=120s", seconds=150)

    def workloads(self, namespace: str) -> list[Any]:
        """Kueue's Workloads of pods that are or were queued."""
        return list(
            json.loads(
                self.cluster.kubectl("get", "workloads.kueue.x-k8s.io", f"--namespace={namespace}", "-o", "json")
            )["items"]
        )

    def _await_ready(self) -> None:
        self.cluster.wait(self._has_certificate, "Kueue has made its certificates", 90)
        # The kubelet would read the Secret again within a minute; it does so at once for a pod that changes.
        self._kubectl("annotate", "pods", "--all", "tests/look-again=now")
        self.cluster.wait_for("Available", f"deployment/{_MANAGER}", SYSTEM, seconds=120)
        self.cluster.wait_for("Available", "apiservice/v1beta2.visibility.kueue.x-k8s.io", seconds=60)

    def _delete_all(self, *kinds: str, scope: tuple[str, ...] = ()) -> None:
        named = ",".join(f"{kind}.kueue.x-k8s.io" for kind in kinds)
        self.cluster.kubectl("delete", named, "--all", *scope, "--timeout=60s")

    def _has_certificate(self) -> bool:
        return "tls.crt" in self.cluster.get("secret", _SECRET, SYSTEM).get("data", {})

    def _kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl(f"--namespace={SYSTEM}", *arguments)


def offer_gpus(cluster: Cluster, count: int) -> None:
    """Report that the node has this many GPUs, as a device plugin does, with the label of GPU feature discovery; 0: none.

    They are only counted. Steps that get one compute on the processor.
    """
    label = f"{GPU}.present=true" if count else f"{GPU}.present-"
    cluster.kubectl("label", "node", servers.NODE, label, "--overwrite")
    capacity = {GPU: str(count) if count else None}
    cluster.kubectl(
        *("patch", "node", servers.NODE, "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": {"capacity": capacity, "allocatable": capacity}})),
    )


def _write_kustomization(folder: Path, image: str) -> None:
    """Write Kueue's own manifests with our image and its documented settings for pods, for the namespaces of tenants."""
    base = definitions.KUEUE_MODULE / "config"
    settings = yaml.safe_load((base / "components" / "manager" / _SETTINGS).read_text())
    settings["integrations"] = {"frameworks": ["batch/job", "pod"]}
    settings["managedJobsNamespaceSelector"] = {"matchLabels": TENANTS}
    settings["fairSharing"] = {"preemptionStrategies": ["LessThanOrEqualToFinalShare", "LessThanInitialShare"]}
    # With one replica, it need not wait for an earlier leader's lease.
    settings["leaderElection"]["leaderElect"] = False
    quick = {"initialDelaySeconds": 1, "periodSeconds": 1}
    container = {
        "name": "manager",
        "imagePullPolicy": "Never",
        "resources": {"requests": {"cpu": "0"}},
        "readinessProbe": quick,
    }
    patches = [
        _patch("v1", "ConfigMap", "kueue-manager-config", {"data": {_SETTINGS: yaml.safe_dump(settings)}}),
        _patch("apps/v1", "Deployment", _MANAGER, {"spec": {"template": {"spec": {"containers": [container]}}}}),
    ]
    name, _, tag = image.partition(":")
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath((base / "default").resolve(), folder.resolve())],
        "images": [{"name": _IMAGE, "newName": name, "newTag": tag}],
        "patches": [{"patch": yaml.safe_dump(each)} for each in patches],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body))


def _patch(version: str, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": SYSTEM}, **body}
