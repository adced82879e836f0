"""The servers of the embedded mode: how each is started and how one sees that it works. Pure data for the supervisor."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.embedded import hub_credentials, tracking_credentials
from pelagos.embedded.addresses import HOST
from pelagos.engines.processes import groups, sockets
from pelagos.engines.triton_local.server import site_packages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pelagos.embedded.layout import Layout
    from pelagos.embedded.releases import Binaries
    from pelagos.settings import Settings

PORTS = ("apiserver", "etcd", "mlflow", "operator", "gateway", "gateway-grpc", "gateway-metrics", "hub", "hub-metrics")
"""Names of the ports that an installation keeps."""
_STORE, _PEER = "unix://client:1", "unix://peer:1"
"""Sockets in the working folder of etcd and API server, which is closed to other users: etcd knows no passwords, and whoever
reaches it is an administrator. Relative, because the path of a socket may have 107 bytes only."""


@dataclass(frozen=True)
class ManagedProcess:
    """One supervised server."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The complete environment."""
    folder: Path
    """What it runs in."""
    ports: tuple[int, ...]
    """What it listens on; all must be free before it starts."""
    url: str
    """For people."""
    ready: str
    """Answers 200 when the part does its work."""
    alive: str
    """Answers 200 as long as a restart would not help."""
    start_seconds: float
    """Killed when neither ready nor alive after this time. Generous: machines under load are slow."""
    sockets: tuple[Path, ...] = ()
    """Removed before it starts: a server that was killed leaves them, and they would be in the way."""
    headers: Mapping[str, str] = field(default_factory=dict)
    authority: Path | None = None
    """Certificate to trust for https."""


def etcd(layout: Layout, binaries: Binaries, ports: Mapping[str, int], *, durable: bool = True) -> ManagedProcess:
    """The store of the API server. Its port serves health and metrics only. ``durable=False`` skips fsync, for tests alone."""
    url = f"http://{HOST}:{ports['etcd']}"
    command = [
        str(binaries.etcd),
        "--name=pelagos",
        f"--data-dir={layout.store}",
        f"--listen-client-urls={_STORE}",
        f"--advertise-client-urls={_STORE}",
        f"--listen-peer-urls={_PEER}",
        f"--initial-advertise-peer-urls={_PEER}",
        f"--initial-cluster=pelagos={_PEER}",
        f"--listen-metrics-urls={url}",
        "--log-level=warn",
        "--logger=zap",
    ]
    if not durable:
        command.append("--unsafe-no-fsync")
    health = f"{url}/health"
    return ManagedProcess(
        name="etcd",
        command=tuple(command),
        environment=_environment(layout),
        folder=layout.etcd,
        ports=(ports["etcd"],),
        url=f"{url}/metrics",
        ready=health,
        alive=health,
        start_seconds=60,
        sockets=tuple(layout.etcd / address.removeprefix("unix://") for address in (_STORE, _PEER)),
    )


def apiserver(layout: Layout, binaries: Binaries, ports: Mapping[str, int], token: str) -> ManagedProcess:
    """The Kubernetes API server, on loopback with RBAC."""
    url = f"https://{HOST}:{ports['apiserver']}"
    keys = layout.certificates
    command = (
        str(binaries.kube_apiserver),
        f"--etcd-servers={_STORE}",
        f"--secure-port={ports['apiserver']}",
        f"--bind-address={HOST}",
        # Named, because without it the server looks for a default route and does not start on a machine that is offline.
        f"--advertise-address={HOST}",
        # Loopback is no valid endpoint for other nodes; there are none.
        "--endpoint-reconciler-type=none",
        f"--cert-dir={keys}",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--token-auth-file={layout.tokens}",
        "--authorization-mode=RBAC",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        # No controller makes service accounts here, so nothing may wait for them.
        "--disable-admission-plugins=ServiceAccount",
        # Beta versions that nothing here uses cost this server half of its processor time, at its start and later. It does not
        # start without those of priority and fairness; disruption budgets had no other version then.
        "--runtime-config=api/beta=false,flowcontrol.apiserver.k8s.io/v1beta1=true,policy/v1beta1=true",
        "--profiling=false",
    )
    return ManagedProcess(
        name="apiserver",
        command=command,
        environment=_environment(layout),
        folder=layout.etcd,
        ports=(ports["apiserver"],),
        url=url,
        ready=f"{url}/readyz",
        # When etcd is away, restarting the API server does not bring it back.
        alive=f"{url}/livez?exclude=etcd",
        start_seconds=120,
        headers={"Authorization": f"Bearer {token}"},
        authority=keys / "apiserver.crt",
    )


def mlflow(layout: Layout, settings: Settings, ports: Mapping[str, int]) -> ManagedProcess:
    """The tracking server, from its own environment. Its credentials must be there (``tracking_credentials``)."""
    url = f"http://{HOST}:{ports['mlflow']}"
    command = (
        str(settings.environments / "tracking" / "bin" / "python"),
        *("-I", "-W", "ignore"),
        str(Path(__file__).with_name("tracking_server.py")),
        str(layout.mlflow),
        str(layout.tracking_credentials),
        str(ports["mlflow"]),
    )
    return ManagedProcess(
        name="mlflow",
        command=command,
        environment=_environment(layout),
        folder=layout.mlflow,
        ports=(ports["mlflow"],),
        url=url,
        ready=f"{url}/health",
        alive=f"{url}/health",
        start_seconds=300,
    )


def operator(layout: Layout, settings: Settings, ports: Mapping[str, int]) -> ManagedProcess:
    """The operator, with the engines of this machine."""
    url = f"http://{HOST}:{ports['operator']}"
    tracking = f"http://{HOST}:{ports['mlflow']}"
    return ManagedProcess(
        name="operator",
        command=(sys.executable, "-m", "pelagos"),
        environment=_environment(
            layout,
            PELAGOS_ENVIRONMENTS=str(settings.environments.absolute()),
            PELAGOS_KUBECONFIG=str(layout.kubeconfig),
            PELAGOS_TRACKING_URI=tracking,
            **tracking_credentials.settings(layout),
            PELAGOS_AUTHORITY_FOLDER=str(layout.authority),
            PELAGOS_METRICS_PORT=str(ports["operator"]),
            PELAGOS_LISTEN_ADDRESS=HOST,
            **(
                {
                    "PELAGOS_GATEWAY_HTTP": f"http://{HOST}:{ports['gateway']}",
                    "PELAGOS_GATEWAY_GRPC": f"{HOST}:{ports['gateway-grpc']}",
                }
                if settings.embedded_gateway
                else {}
            ),
            **{hub_credentials.VARIABLE: str(layout.hub_credentials / "signing-key")},
        ),
        folder=layout.home,
        ports=(ports["operator"],),
        url=f"{url}/metrics",
        ready=f"{url}/readyz",
        alive=f"{url}/healthz",
        start_seconds=45,
    )


def gateway(layout: Layout, settings: Settings, ports: Mapping[str, int]) -> ManagedProcess:
    """Where all models are called at one address, with its Envoy, which is that of the environment of Triton.

    Callers on this machine need no credentials, as for the models themselves, unless PELAGOS_GATEWAY_OPEN says so.
    """
    health = f"http://{HOST}:{ports['gateway-metrics']}"
    inherited = {name: value for name, value in os.environ.items() if name.startswith("PELAGOS_GATEWAY_")}
    return ManagedProcess(
        name="gateway",
        command=(str(settings.environments / "gateway" / "bin" / "python"), "-m", "pelagos_gateway"),
        environment=_environment(
            layout,
            **{
                "PELAGOS_GATEWAY_OPEN": "true",
                **inherited,
                "PELAGOS_KUBECONFIG": str(layout.kubeconfig),
                "PELAGOS_GATEWAY_FOLDER": str(layout.front),
                "PELAGOS_GATEWAY_SOCKETS": str(sockets.folder(layout.home) / "g"),
                "PELAGOS_GATEWAY_ENVOY": str(site_packages(settings.environments / "triton") / "envoy/_bin/envoy"),
                "PELAGOS_GATEWAY_ADDRESS": HOST,
                "PELAGOS_GATEWAY_HTTP_PORT": str(ports["gateway"]),
                "PELAGOS_GATEWAY_GRPC_PORT": str(ports["gateway-grpc"]),
                "PELAGOS_GATEWAY_METRICS_ADDRESS": HOST,
                "PELAGOS_GATEWAY_METRICS_PORT": str(ports["gateway-metrics"]),
            },
        ),
        folder=layout.home,
        ports=(ports["gateway"], ports["gateway-grpc"], ports["gateway-metrics"]),
        url=f"http://{HOST}:{ports['gateway']}",
        ready=f"{health}/readyz",
        alive=f"{health}/healthz",
        start_seconds=45,
    )


def hub(layout: Layout, settings: Settings, ports: Mapping[str, int]) -> ManagedProcess:
    """Pages for people. They log in by a link that works once, or by a provider that PELAGOS_HUB_OIDC_... name."""
    url, health = (f"http://{HOST}:{ports[name]}" for name in ("hub", "hub-metrics"))
    return ManagedProcess(
        name="hub",
        command=(str(settings.environments / "hub" / "bin" / "python"), "-m", "pelagos_hub"),
        environment=_environment(
            layout,
            PELAGOS_KUBECONFIG=str(layout.kubeconfig),
            # Documents of models, which it hands out.
            PELAGOS_OBJECTS_ROOT=str(settings.objects),
            # When it last asked a model.
            PELAGOS_HUB_OPERATOR_METRICS=f"http://{HOST}:{ports['operator']}/metrics",
            # Behind a proxy, people know it by another address.
            PELAGOS_HUB_URL=os.environ.get("PELAGOS_HUB_URL") or url,
            PELAGOS_HUB_LISTEN_ADDRESS=HOST,
            PELAGOS_HUB_PORT=str(ports["hub"]),
            PELAGOS_HUB_METRICS_PORT=str(ports["hub-metrics"]),
            PELAGOS_HUB_LOGIN_LINK_FILE=str(layout.hub_credentials / "link"),
            **{hub_credentials.VARIABLE: str(layout.hub_credentials / "signing-key")},
        ),
        folder=layout.home,
        ports=(ports["hub"], ports["hub-metrics"]),
        url=url,
        ready=f"{health}/readyz",
        alive=f"{health}/healthz",
        start_seconds=45,
    )


BESIDE: Mapping[str, Callable[[Layout, Settings, Mapping[str, int]], ManagedProcess]] = {"gateway": gateway, "hub": hub}
"""What starts with the operator where it is wanted."""


def beside(settings: Settings) -> tuple[str, ...]:
    """Names of those that are wanted."""
    wanted = {"gateway": settings.embedded_gateway, "hub": settings.embedded_hub}
    return tuple(name for name in BESIDE if wanted[name])


def _environment(layout: Layout, **more: str) -> dict[str, str]:
    """Our own environment with the home folder, and without variables that would break another Python environment."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    # HTTP clients of Python ask a proxy even for loopback, unless NO_PROXY names it.
    direct = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), HOST, "localhost")))
    ours = {
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PELAGOS_HOME": str(layout.home),
        groups.INSTALLATION: str(layout.home),
    }
    return {**inherited, **ours, **more}
