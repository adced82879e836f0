"""The container that clients reach in a pod: an Envoy in front of the model server, whichever engine creates the pod. Pure.

Called by the engines deployment and kserve for their manifests. Only inference, metadata and health of the one model pass; the
server behind it listens on Unix sockets in the pod and on no port. The container has the same image as the server, but shares
only the sockets with it: neither the package, nor the model repository, nor credentials.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pelagos.engines.envoy import config as envoy_config
from pelagos.engines.envoy.config import MIB, Limits, Ports, Service, Upstream
from pelagos.engines.model_server import pod_template

if TYPE_CHECKING:
    from pelagos.engines.model_server.options import Options
    from pelagos.ports.serving import DesiredService

NAME = "gateway"
CONFIG = "PELAGOS_GATEWAY_CONFIG"
LIMITS = Limits(connections=1024, all_connections=4096, heap_bytes=384 * MIB)
"""Envoy's limits; with its own needs they fit into the container's memory."""
_MEMORY = "128Mi"
_LIMITS = {"cpu": "1", "memory": "512Mi"}
"""An idle gateway needs little; the limits allow for images in flight, of up to 64 MiB each."""
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own network
_MODULE = "pelagos_pipelines.serving.gateway"
_COMMAND = ["python3", "-m", _MODULE]


def config(want: DesiredService) -> str:
    """Envoy's configuration as JSON. Any ``Host`` is accepted, as a pod has many names: the network decides who may connect."""
    folder = pod_template.SOCKETS
    # Triton appends a port to the path of its gRPC socket.
    upstream = Upstream(f"{folder}/http", f"{folder}/grpc:1", f"{folder}/metrics")
    ports = Ports(pod_template.HTTP, pod_template.GRPC, pod_template.METRICS)
    service = Service("server", want.model_name, _EVERYWHERE, ports, upstream, hosts=(), tells_config=True)
    return json.dumps(envoy_config.bootstrap(f"{folder}/admin", LIMITS, services=(service,)), sort_keys=True)


def container(want: DesiredService, given: Options) -> dict[str, Any]:
    """The container without its ports. It needs no probes: it opens its ports when the server is ready, and exits on failure."""
    return {
        "name": NAME,
        "image": given.image,
        "imagePullPolicy": given.pull_policy,
        "command": _COMMAND,
        "env": [
            {"name": CONFIG, "value": config(want)},
            {"name": "PELAGOS_SOCKETS", "value": pod_template.SOCKETS},
            pod_template.NO_GPUS,
        ],
        "resources": {"requests": {"cpu": f"{given.gateway_millicores}m", "memory": _MEMORY}, "limits": _LIMITS},
        "securityContext": pod_template.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"exec": {"command": [*_COMMAND, "drain"]}}},
        "volumeMounts": [{"name": "gateway", "mountPath": "/tmp"}, pod_template.SOCKETS_MOUNT],  # noqa: S108
    }


def volumes() -> list[dict[str, Any]]:
    """The volumes that it writes to, besides the one with the sockets."""
    return [{"name": "gateway", "emptyDir": {}}]
