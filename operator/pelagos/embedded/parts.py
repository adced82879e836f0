"""The servers of the embedded mode: how each is started, and how its health is checked. Pure data for the supervisor."""

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
"""Sockets in the working folder of etcd and the API server, which only its owner can access: etcd has no passwords, so anyone who
reaches it is an administrator. Relative, because a socket's path is limited to 107 bytes."""


@dataclass(frozen=True)
class ManagedProcess:
    """One supervised server."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The complete environment."""
    folder: Path
    """The working folder."""
    ports: tuple[int, ...]
    """The ports it listens on; all must be free before it starts."""
    url: str
    """The address for people."""
    ready: str
    """The URL that answers 200 when the server can do its work."""
    alive: str
    """The URL that answers 200 as long as a restart would not help."""
    start_seconds: float
    """It is killed if neither ready nor alive after this time. Generous, because machines under load are slow."""
    sockets: tuple[Path, ...] = ()
    """Sockets to remove before it starts: a killed server leaves them behind, and no other could listen on them."""
    headers: Mapping[str, str] = field(default_factory=dict)
    authority: Path | None = None
    """The certificate to trust for https."""


def etcd(layout: Layout, binaries: Binaries, ports: Mapping[str, int], *, durable: bool = True) -> ManagedProcess:
    """The store of the API server. Its port serves only health and metrics. ``durable=False`` skips fsync, for tests only."""
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
        # Set explicitly: otherwise the server looks for a default route, and does not start on a machine that is offline.
        f"--advertise-address={HOST}",
        # Loopback is not a valid endpoint for other nodes, but there are none.
        "--endpoint-reconciler-type=none",
        f"--cert-dir={keys}",
        "--service-cluster-ip-range=10.0.0.0/24",
        f"--token-auth-file={layout.tokens}",
        "--authorization-mode=RBAC",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        # No controller creates service accounts here, so nothing may wait for them.
        "--disable-admission-plugins=ServiceAccount",
        # Beta versions, which nothing here uses, cost the server half of its processor time, at its start and later. Exceptions:
        # old servers do not start without that of priority and fairness, and had no other version of disruption budgets.
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
        # If etcd is down, restarting the API server would not help.
        alive=f"{url}/livez?exclude=etcd",
        start_seconds=120,
        headers={"Authorization": f"Bearer {token}"},
        authority=keys / "apiserver.crt",
    )


def mlflow(layout: Layout, settings: Settings, ports: Mapping[str, int]) -> ManagedProcess:
    """The tracking server, from its own environment. Its credentials must exist (``tracking_credentials``)."""
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
    """The gateway, which serves all models at one address, with the Envoy from Triton's environment.

    Callers on this machine need no credentials, as for the models themselves, unless PELAGOS_GATEWAY_OPEN says otherwise.
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
    """The web pages. People log in with a one-time link, or through the provider in the settings PELAGOS_HUB_OIDC_..."""
    url, health = (f"http://{HOST}:{ports[name]}" for name in ("hub", "hub-metrics"))
    return ManagedProcess(
        name="hub",
        command=(str(settings.environments / "hub" / "bin" / "python"), "-m", "pelagos_hub"),
        environment=_environment(
            layout,
            PELAGOS_KUBECONFIG=str(layout.kubeconfig),
            # The models' documents, which the hub serves.
            PELAGOS_OBJECTS_ROOT=str(settings.objects),
            # Says when the operator last probed a model.
            PELAGOS_HUB_OPERATOR_METRICS=f"http://{HOST}:{ports['operator']}/metrics",
            # Behind a proxy, people use another address.
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
"""Optional parts, which start with the operator if enabled."""


def beside(settings: Settings) -> tuple[str, ...]:
    """Names of the optional parts that are enabled."""
    wanted = {"gateway": settings.embedded_gateway, "hub": settings.embedded_hub}
    return tuple(name for name in BESIDE if wanted[name])


def _environment(layout: Layout, **more: str) -> dict[str, str]:
    """Our own environment plus the home folder, without variables that would break another Python environment."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    # Python's HTTP clients use a proxy even for loopback, unless NO_PROXY names it.
    direct = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), HOST, "localhost")))
    ours = {
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PELAGOS_HOME": str(layout.home),
        groups.INSTALLATION: str(layout.home),
    }
    return {**inherited, **ours, **more}
