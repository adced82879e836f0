"""Command lines of the node's servers. Pure data for cluster.py; all addresses are those inside the node's own network."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cluster.harness import machine

if TYPE_CHECKING:
    from cluster.harness.certificates import Credentials

SERVICES = "10.0.0.0/24"
FIRST_SERVICE = "10.0.0.1"
ALL_PODS = "172.31.0.0/16"
BRIDGE = "cni0"


@dataclass(frozen=True)
class Place:
    """A node's number, name and addresses. Servers that not every node has run on the first one."""

    number: int = 0

    @property
    def name(self) -> str:
        """``node1``, ``node2`` ..."""
        return f"node{self.number + 1}"

    @property
    def pods(self) -> str:
        """The address range of its pods."""
        return f"172.31.{self.number}.0/24"

    @property
    def host(self) -> str:
        """Its own address on the bridge of its pods."""
        return f"172.31.{self.number}.1"

    def network(self) -> tuple[str, ...]:
        """Arguments of tools/node/init.sh."""
        return (self.name, SERVICES, BRIDGE, f"{self.host}/24")


PLACES = (Place(0), Place(1))
NODE, PODS, HOST = PLACES[0].name, PLACES[0].pods, PLACES[0].host
API = f"https://{HOST}:6443"
DOCKER = "unix:///run/docker.sock"
CONTAINERD = "/run/containerd/containerd.sock"
DOMAIN = "cluster.local"
PAUSE = "pelagos-test/pause:1"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_CONTAINERD = """
version = 3
root = "{data}"
state = "/run/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "docker.io/{pause}"

[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  # Pods ask for negative values of oom_score_adj, which root may not give inside most containers and some virtual machines.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{folder}/network"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"""


def image_builder(folder: Path, data: Path, group: str) -> list[str | Path]:
    """Debian's dockerd: it builds images, and runs no pods."""
    configuration = folder / "dockerd.json"
    # Build cache is kept for the next build, up to this size.
    configuration.write_text(json.dumps({"builder": {"gc": {"enabled": True, "defaultKeepStorage": "3GB"}}}))
    return [
        "dockerd",
        f"--config-file={configuration}",
        f"--data-root={data}",
        *("--exec-root=/run/docker", "--pidfile=/run/docker.pid", f"--host={DOCKER}"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false"),
        "--storage-driver=overlay2",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{group}",
        "--shutdown-timeout=3",
        "--log-level=warn",
    ]


def container_engine(folder: Path, data: Path, place: Place) -> list[str | Path]:
    """containerd. Pods can reach servers in the node, and nothing outside."""
    network = folder / "network"
    network.mkdir(exist_ok=True)
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": place.pods}]]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    pods = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}
    (network / "pods.conflist").write_text(json.dumps(pods))
    configuration = folder / "containerd.toml"
    runc, plugins = shutil.which("runc", path=machine.PATH), machine.folder("cni")
    values = {"folder": folder, "data": data, "socket": CONTAINERD, "pause": PAUSE, "runc": runc, "plugins": plugins}
    configuration.write_text(_CONTAINERD.format_map(values))
    # containerd searches the path for its shim, where Debian's older one may be as well.
    path = f"PATH={machine.folder('containerd')}:{machine.PATH}"
    return ["env", path, machine.program("containerd"), f"--config={configuration}", "--log-level=warn"]


def etcd(folder: Path) -> list[str | Path]:
    """etcd, without fsync."""
    url = "http://127.0.0.1:2379"
    peer = "http://127.0.0.1:2380"
    return [
        machine.program("etcd"),
        f"--data-dir={folder / 'etcd'}",
        *(f"--listen-client-urls={url}", f"--advertise-client-urls={url}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
        *("--unsafe-no-fsync", "--log-level=warn"),
    ]


def apiserver(folder: Path, keys: Credentials) -> list[str | Path]:
    """With the admission plug-ins of a real cluster, node restriction, and an audit log of every request."""
    policy = folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(AUDIT_POLICY))
    certificate, key = keys.certificate("server")
    client, client_key = keys.certificate("kubelet-client")
    proxy, proxy_key = keys.certificate("front-proxy")
    return [
        machine.program("kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        *("--secure-port=6443", "--bind-address=0.0.0.0", f"--advertise-address={HOST}"),
        *(f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--client-ca-file={keys.authority}"),
        f"--service-cluster-ip-range={SERVICES}",
        f"--token-auth-file={keys.tokens}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-key-file={keys.folder / 'sa.pub'}",
        f"--service-account-signing-key-file={keys.folder / 'sa.key'}",
        *("--service-account-issuer=https://kubernetes.default.svc", "--api-audiences=https://kubernetes.default.svc"),
        *(f"--kubelet-client-certificate={client}", f"--kubelet-client-key={client_key}"),
        *(f"--kubelet-certificate-authority={keys.authority}", "--kubelet-preferred-address-types=InternalIP"),
        # Servers of aggregated APIs learn the user from headers, which they accept only with this certificate.
        *(f"--proxy-client-cert-file={proxy}", f"--proxy-client-key-file={proxy_key}"),
        *(f"--requestheader-client-ca-file={keys.authority}", "--requestheader-allowed-names=front-proxy"),
        *("--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group"),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        *(f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}", "--audit-log-maxsize=2000"),
        # Pods leave an unreachable node after half a minute instead of five.
        *("--default-not-ready-toleration-seconds=30", "--default-unreachable-toleration-seconds=30"),
        *("--allow-privileged=true", "--profiling=false"),
    ]


def controller_manager(keys: Credentials) -> list[str | Path]:
    """All controllers, each with its own service account."""
    return [
        machine.program("kube-controller-manager"),
        f"--kubeconfig={keys.kubeconfig('controller-manager', API)}",
        f"--service-account-private-key-file={keys.folder / 'sa.key'}",
        f"--root-ca-file={keys.authority}",
        "--use-service-account-credentials",
        *(
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--pvclaimbinder-sync-period=1s",
            "--node-monitor-grace-period=30s",
        ),
    ]


def scheduler(keys: Credentials) -> list[str | Path]:
    """The scheduler."""
    kubeconfig = keys.kubeconfig("scheduler", API)
    return [
        machine.program("kube-scheduler"),
        *(f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"),
    ]


def kubelet(folder: Path, keys: Credentials, group: str, place: Place) -> list[str | Path]:
    """The node's agent; asks the API server who may access containers."""
    certificate, key = keys.certificate("server")
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": place.host,
        "healthzPort": 0,
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "enforceNodeAllocatable": ["none"],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # However full this machine is, the tests' pods and images are not evicted.
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": str(folder / "volume-plugins"),
        "clusterDNS": [HOST],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
    }
    configuration = folder / "kubelet.yaml"
    configuration.write_text(yaml.safe_dump(settings))
    return [
        machine.program("kubelet"),
        *(f"--kubeconfig={keys.kubeconfig(f'kubelet-{place.name}', API)}", f"--config={configuration}"),
        *(f"--root-dir={folder / 'kubelet'}", f"--cert-dir={folder / 'kubelet-certificates'}"),
        *(f"--hostname-override={place.name}", f"--node-ip={place.host}"),
    ]


def proxy(keys: Credentials, place: Place) -> list[str | Path]:
    """Cluster addresses. Connection limits stay as the machine's kernel has them."""
    return [
        machine.program("kube-proxy"),
        f"--kubeconfig={keys.kubeconfig('proxy', API)}",
        *(
            "--proxy-mode=iptables",
            f"--cluster-cidr={ALL_PODS}",
            f"--hostname-override={place.name}",
            "--oom-score-adj=0",
        ),
        # A pod's answer to another must return through the node, where its address is translated back.
        "--masquerade-all",
        *(
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ),
    ]


def names(folder: Path, keys: Credentials) -> list[str | Path]:
    """DNS for the names of Services."""
    keys.kubeconfig("names", API)
    script = Path(__file__).with_name("names.py")
    return [
        sys.executable,
        "-I",
        "-S",
        script,
        API,
        keys.folder / "names.token",
        keys.authority,
        HOST,
        folder / "names",
    ]
