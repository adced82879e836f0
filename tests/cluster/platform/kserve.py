"""KServe on the test cluster: definitions, roles, settings, webhooks and storage initializer of its release.

Its controller runs on the node, outside of a pod, under its own ServiceAccount; the API server calls its webhooks there.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import yaml

from cluster import definitions
from cluster.harness import machine, servers
from cluster.harness.cluster import Cluster

NAMESPACE = "kserve"
ACCOUNT = "kserve-controller-manager"
PART = "kserve"
"""The name of the node's part, and of its log."""
_PORT = 9443
_CONFIG = definitions.KSERVE_MODULE / "config"
_ROLES = ("service_account", "role", "role_binding", "leader_election_role", "leader_election_role_binding")
_DEFINITIONS = ("inferenceservices", "servingruntimes", "clusterservingruntimes", "trainedmodels", "inferencegraphs")
_WEBHOOKS = frozenset({"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"})


@dataclass(frozen=True)
class Kserve:
    """A running KServe in Standard mode, without any ingress."""

    cluster: Cluster
    manager: Path
    """The path of the controller's program."""

    @classmethod
    def start(cls, cluster: Cluster, manager: Path) -> Kserve:
        """Install it and start its controller; returns when InferenceServices are accepted."""
        running = cls(cluster, manager)
        initializer = _build_storage_initializer(cluster)
        cluster.create_namespace(NAMESPACE)
        kinds = [_CONFIG / f"crd/full/serving.kserve.io_{name}.yaml" for name in _DEFINITIONS]
        kinds.append(_CONFIG / "crd/full/clusterstoragecontainer/serving.kserve.io_clusterstoragecontainers.yaml")
        # Server-side as in KServe's own instructions: the definitions are too large for the annotation of a client-side apply.
        cluster.kubectl("apply", "--server-side", *(f"--filename={path}" for path in kinds))
        names = [f"crd/{path.stem.partition('_')[2]}.serving.kserve.io" for path in kinds]
        # kubectl gives up at once while their conditions are null, as they are in these files.
        established = ("wait", "--for=condition=Established", "--timeout=30s", *names)
        cluster.wait(
            lambda: cluster.kubectl(*established, check=False).count("condition met") == len(names),
            "the API server has KServe's kinds",
        )
        cluster.apply(*_settings(initializer), *_roles())
        running.begin()
        cluster.apply(*_webhooks(cluster.keys.authority))
        return running

    def begin(self) -> None:
        """Start the controller; returns when its webhooks answer."""
        node, keys = self.cluster.node, self.cluster.keys
        scratch = self.cluster.folder / PART
        certificates = scratch / "k8s-webhook-server" / "serving-certs"
        certificates.mkdir(parents=True, exist_ok=True)
        for path, name in zip(keys.certificate("server"), ("tls.crt", "tls.key"), strict=True):
            shutil.copy(path, certificates / name)
        token = self.cluster.kubectl("create", "token", ACCOUNT, f"--namespace={NAMESPACE}", "--duration=24h").strip()
        kubeconfig = keys.write_kubeconfig(scratch / "kubeconfig", servers.API, token, NAMESPACE)
        variables = (f"KUBECONFIG={kubeconfig}", f"POD_NAMESPACE={NAMESPACE}", f"TMPDIR={scratch}")
        ports = (f"--webhook-port={_PORT}", "--metrics-addr=127.0.0.1:8090", "--health-probe-addr=127.0.0.1:8091")
        node.spawn(PART, ["env", *variables, self.manager, *ports])
        # It listens once its caches are filled.
        listens = ("bash", "-c", f"exec 3<>/dev/tcp/{servers.HOST}/{_PORT}")
        self.cluster.wait(lambda: node.run(*listens, check=False).returncode == 0, "KServe's webhooks answer", 60)

    def end(self) -> None:
        """End the controller; its objects stay."""
        self.cluster.node.signal(PART, SIGTERM)
        self.cluster.node.parts.pop(PART).wait(30)

    def log(self) -> str:
        """The controller's log."""
        return self.cluster.node.log(PART).read_text(encoding="utf-8", errors="replace")


def _build_storage_initializer(cluster: Cluster) -> str:
    folder = Path(__file__).parent / "storage_initializer"
    context = cluster.folder / "storage-initializer"
    context.mkdir()
    shutil.copy(definitions.KSERVE_MODULE / "python/storage-initializer/scripts/initializer-entrypoint", context)
    shutil.copy(machine.ROOT / "requirements/kserve-storage.txt", context)
    return cluster.images.build_from(folder / "Dockerfile", context, "storage-initializer", "kserve-storage")


def _read(path: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all((_CONFIG / path).read_text(encoding="utf-8"))


def _settings(initializer: str) -> Iterator[dict[str, Any]]:
    (config,) = _read("configmap/inferenceservice.yaml")
    data = config["data"]
    changes: Mapping[str, Mapping[str, Any]] = {
        "deploy": {"defaultDeploymentMode": "Standard"},
        "ingress": {"disableIngressCreation": True},
        "storageInitializer": {"image": initializer},
    }
    for name, change in changes.items():
        data[name] = json.dumps(json.loads(data[name]) | change)
    yield config
    (container,) = _read("storagecontainers/default.yaml")
    container["spec"]["container"]["image"] = initializer
    yield container


def _roles() -> Iterator[dict[str, Any]]:
    for name in _ROLES:
        for body in _read(f"rbac/{name}.yaml"):
            if not body["kind"].startswith("Cluster"):
                body["metadata"]["namespace"] = NAMESPACE
            for subject in body.get("subjects", ()):
                subject["namespace"] = NAMESPACE
            yield body


def _webhooks(authority: Path) -> Iterator[dict[str, Any]]:
    """KServe's webhook configurations, which name a Service. Here they get an address, whose certificate our authority signed."""
    trusted = base64.b64encode(authority.read_bytes()).decode()
    for body in _read("webhook/manifests.yaml"):
        if body["kind"] in _WEBHOOKS:
            for webhook in body["webhooks"]:
                path = webhook["clientConfig"]["service"]["path"]
                url = f"https://{servers.HOST}:{_PORT}{path}"
                webhook["clientConfig"] = {"url": url, "caBundle": trusted}
            body["metadata"].pop("creationTimestamp", None)
            yield body
