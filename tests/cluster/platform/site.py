"""Pelagos on the test cluster: installed as a user would, with `kubectl apply -k` of an overlay and a patch with addresses."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.harness import machine
from cluster.harness.cluster import Cluster
from cluster.platform import services
from cluster.platform.environments import TRAINER

SYSTEM = "pelagos-system"
TENANT = "bay"
AUTHORITY = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "pelagos-authority", "namespace": SYSTEM},
    "stringData": {"current": secrets.token_hex(32)},
}
"""The operator's own key, created as docs/installing.md says."""
TENANT_SETTINGS: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": f"pelagos-tenant-{TENANT}", "namespace": "pelagos-system"},
    "data": {
        "serviceAccount": "pelagos-workload",
        "pipelineServiceAccount": "pelagos-pipelines",
        "trialsKeep": "5s",
    },
}
"""The platform's settings of the tenant."""
OPERATOR = "pelagos-operator"
HEALING_SECONDS = 60.0
"""Once a fault is repaired, everything must have converged within this time."""


@dataclass(frozen=True)
class Site:
    """An installed operator and one tenant's namespace."""

    cluster: Cluster
    folder: Path
    """The kustomization that was applied."""
    tenant: str = TENANT
    """The namespace in which the tests work."""

    @classmethod
    def install(
        cls,
        cluster: Cluster,
        folder: Path,
        *,
        overlay: str,
        components: tuple[str, ...] = (),
        images: Mapping[str, str],
        **settings: str,
    ) -> Site:
        """Apply ``manifests/overlays/<overlay>`` with components, our images and the addresses of the platform."""
        folder.mkdir(parents=True)
        usual = {
            "PELAGOS_TRAINER_IMAGE": images["trainer"],
            "PELAGOS_SERVING_IMAGE": images["serving"],
            "PELAGOS_KUBEFLOW_URL": services.PIPELINES,
            "PELAGOS_TRACKING_URI": services.MLFLOW,
            "PELAGOS_PROBE_INTERVAL": "5",
        }
        _write_kustomization(folder, overlay, components, images, {**usual, **settings})
        site = cls(cluster, folder)
        site.apply_manifests()
        site.await_operator()
        return site

    def apply_manifests(self) -> str:
        """`kubectl apply -k`, which fails for a field that the server does not know."""
        self.cluster.kubectl("create", "namespace", SYSTEM, check=False)  # it may exist
        self.cluster.apply(AUTHORITY)
        said = self.cluster.kubectl("apply", "-k", self.folder)
        self.cluster.apply(TENANT_SETTINGS)
        return said

    def change_overlay(self, overlay: str) -> None:
        """Apply ``manifests/overlays/<overlay>`` in place of the previous one, with the same components, images and settings."""
        path = self.folder / "kustomization.yaml"
        body = yaml.safe_load(path.read_text())
        (before,) = body["resources"]
        path.write_text(yaml.safe_dump(body | {"resources": [f"{before.rpartition('/')[0]}/{overlay}"]}))
        self.apply_manifests()
        self.cluster.kubectl("rollout", "status", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", "--timeout=120s")

    def await_operator(self) -> None:
        """Wait until the operator leads."""
        self.cluster.wait_for("Available", f"deployment/{OPERATOR}", SYSTEM, seconds=180)

    def uninstall(self) -> None:
        """Uninstall as docs/installing.md says: resources first, then the rest."""
        for plurals in ("trials", "datasets,trainingruns,modelservices"):
            self.kubectl("delete", plurals, "--all", "--timeout=120s")
        remove(self.cluster, self.folder)

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run kubectl in the tenant's namespace."""
        return self.cluster.kubectl(f"--namespace={self.tenant}", *arguments, text=text, check=check)

    def apply(self, *resources: Mapping[str, Any]) -> str:
        """`kubectl apply -f -` in the tenant's namespace."""
        return self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(resources))

    def get(self, kind: str, name: str) -> Any:
        """A resource of the tenant."""
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def ready(self, kind: str, name: str) -> Mapping[str, str]:
        """The condition Ready; empty if there is none."""
        conditions = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == "Ready"), {})

    def wait_ready(self, kind: str, name: str, seconds: int = 300) -> Any:
        """`kubectl wait --for=condition=Ready`; fails with the state of everything."""
        said = self.cluster.kubectl(
            *("wait", f"--namespace={self.tenant}", "--for=condition=Ready", f"{kind}/{name}", f"--timeout={seconds}s"),
            check=False,
            seconds=seconds + 30,
        )
        body = self.get(kind, name)
        if "condition met" not in said:
            pytest.fail(f"{kind} {name} is not Ready: {json.dumps(body.get('status'), indent=1)}\n{self.describe()}")
        return body

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = HEALING_SECONDS) -> Any:
        """Wait until ``holds`` returns something true; returns that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := holds():
                return found
            time.sleep(0.5)
        return pytest.fail(f"not within {seconds:.0f} s: {what}\n{self.describe()}")

    def pods(self, selector: str = "") -> list[Any]:
        """Pods of the tenant."""
        chosen = [f"--selector={selector}"] if selector else []
        return list(json.loads(self.kubectl("get", "pods", "-o", "json", *chosen))["items"])

    def describe(self) -> str:
        """The state of everything, for messages about failures."""
        parts = [
            self.kubectl("get", "pelagos", "-o", "wide", check=False),
            self.kubectl("get", "pods", "-o", "wide", check=False),
            self.cluster.describe(self.tenant)[-6000:],
            self.cluster.kubectl("logs", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", "--tail=40", check=False),
        ]
        return "\n".join(parts)

    def pelagos(self, *arguments: str | Path) -> str:
        """Run the command line, as on a user's own machine."""
        import subprocess

        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "PELAGOS_HOME": str(self.folder)}
        command = [str(machine.ENVIRONMENTS / "control-plane/bin/pelagos"), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            pytest.fail(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{self.describe()}"
            )
        return done.stdout


def make_tenant(cluster: Cluster) -> None:
    """Create a team's namespace as `manifests/tenant` does, with credentials for the object storage."""
    folder = cluster.folder / "tenant"
    folder.mkdir()
    base = os.path.relpath((machine.ROOT / "manifests/tenant/base").resolve(), folder.resolve())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": TENANT, "resources": [base]}))
    cluster.create_namespace(TENANT)
    cluster.kubectl("apply", "-k", folder)
    give_storage_credentials(cluster, TENANT)
    TRAINER.bind(cluster, TENANT)


def give_storage_credentials(cluster: Cluster, namespace: str) -> None:
    """Create the Secret that the default settings name."""
    metadata = {"name": "pelagos-s3", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": services.CREDENTIALS})


def remove(cluster: Cluster, folder: Path) -> None:
    """Delete the objects of a kustomization with our definitions; returns when all of it has been deleted."""
    cluster.kubectl("delete", "-k", folder, "--ignore-not-found", "--wait=false")

    def gone() -> bool:
        left = [each for each in cluster.kubectl("get", "crds", "-o", "name").split() if each.endswith(".pelagos.dev")]
        if left and "timed out" in cluster.kubectl("wait", "--for=delete", *left, "--timeout=5s", check=False):
            # Otherwise it may wait for a resync of the API server: see ControlPlane.definitions_left.
            cluster.kubectl("annotate", "--overwrite", *left, f"tests/reminded={time.monotonic()}", check=False)
        return not left

    cluster.wait(gone, "our kinds are gone", 330)
    cluster.kubectl("delete", "-k", folder, "--ignore-not-found", "--timeout=120s")


def _write_kustomization(
    folder: Path, overlay: str, components: tuple[str, ...], images: Mapping[str, str], settings: Mapping[str, str]
) -> None:
    manifests = os.path.relpath((machine.ROOT / "manifests").resolve(), folder.resolve())
    env = [{"name": key, "value": value} for key, value in settings.items()]
    env.append({"name": "PELAGOS_GATEWAY_MILLICORES", "value": "0"})
    patches = [_patch("operator", env)] + ([_patch("hub", [])] if "hub" in components else [])
    replaced = [(name, *images[name].split(":")) for name in ("operator", "hub") if name in images]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{manifests}/overlays/{overlay}"],
        "components": [f"{manifests}/components/{each}" for each in components],
        "images": [{"name": f"ghcr.io/pelagos/{name}", "newName": new, "newTag": tag} for name, new, tag in replaced],
        "patches": [{"patch": yaml.safe_dump(patch)} for patch in patches],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))


def _patch(name: str, env: list[dict[str, str]]) -> dict[str, Any]:
    """A patch for one of our Deployments. During an update two model servers of one core each must fit beside all of them."""
    container = {"name": name, "resources": {"requests": {"cpu": "0"}}, **({"env": env} if env else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"pelagos-{name}", "namespace": SYSTEM},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
