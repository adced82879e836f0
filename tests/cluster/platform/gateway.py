"""A tenant's gateway as `manifests/tenant/gateway` has it, and requests to it from outside of the cluster."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import model_clients
import rendering
from cluster.platform.site import Site

NAME = "pelagos-gateway"
SETTINGS = {
    "PELAGOS_GATEWAY_HTTP": f"http://{NAME}.{{namespace}}:8080",
    "PELAGOS_GATEWAY_GRPC": f"{NAME}.{{namespace}}:9000",
}
"""Settings of the operator: the gateway's addresses, here those within the cluster."""
_PORTS = {"http": 8080, "grpc": 9000}


@dataclass(frozen=True)
class Gateway:
    """The gateway of the site's tenant; ``folder`` is the kustomization."""

    site: Site
    folder: Path

    @classmethod
    def start(cls, site: Site, folder: Path, image: str, envoy: str) -> Gateway:
        """Apply the component for the tenant; returns when the gateway is ready."""
        folder.mkdir()
        given = {"ghcr.io/pelagos/gateway": image, "docker.io/envoyproxy/envoy": envoy}
        images = [
            {"name": name, "newName": tag.rpartition(":")[0], "newTag": tag.rpartition(":")[2]}
            for name, tag in given.items()
        ]
        # During an update two model servers of one core each must fit beside it.
        requests = "/spec/template/spec/containers/{}/resources/requests/cpu"
        less = [{"op": "replace", "path": requests.format(number), "value": "0"} for number in (0, 1)]
        patches = [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(less)}]
        rendering.kustomization(
            folder,
            resources=(),
            components=["tenant/gateway"],
            namespace=site.tenant,
            images=images,
            patches=patches,
        )
        site.cluster.kubectl("apply", "-k", folder)
        site.cluster.wait_for("Available", f"deployment/{NAME}", site.tenant)
        return cls(site, folder)

    def stop(self) -> None:
        """Delete it. Its pod keeps serving for a grace period, for clients that have not noticed the deletion."""
        self.site.cluster.kubectl("delete", "-k", self.folder, "--wait=false")

    def address(self, kind: str) -> str:
        """The address outside of the cluster for `http` or `grpc`."""
        return f"127.0.0.1:{self.site.cluster.forward_service(NAME, _PORTS[kind], self.site.tenant)}"

    def asking(self, kind: str, token: str, service: str, image: bytes) -> Callable[[], Any]:
        """Asks by the token of a trial: see model_clients."""
        address = self.address(kind) + (f"/{self.site.tenant}/{service}" if kind == "http" else "")
        return model_clients.asking(kind, address, service, image, {"authorization": f"Bearer {token}"})

    def status(self, token: str, service: str) -> int:
        """The HTTP status of a request for the health of a service; an empty token is not sent."""
        url = f"http://{self.address('http')}/{self.site.tenant}/{service}/v2/health/ready"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def opened(self, name: str, annotations: dict[str, str] | None = None, **spec: Any) -> str:
        """Create a Trial of the tenant and wait until it is open; returns its token, of the Secret that the operator made."""
        metadata = {"name": name, "annotations": annotations or {}}
        self.site.apply({"apiVersion": "pelagos.dev/v1alpha1", "kind": "Trial", "metadata": metadata, "spec": spec})
        self.site.wait_ready("trial", name, 120)
        secret = self.site.get("secret", self.site.get("trial", name)["status"]["tokenSecretRef"]["name"])
        token = base64.b64decode(secret["data"]["token"]).decode()
        self.site.wait("the gateway knows the trial", lambda: self.status(token, self.tried(name)) == 200, 10)
        return token

    def tried(self, name: str) -> str:
        """The ModelService that a Trial is of."""
        return str(self.site.get("trial", name)["status"]["service"]["name"])
