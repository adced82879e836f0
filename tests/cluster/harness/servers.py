"""Command lines of the node's servers. Pure data for cluster.py; all addresses are those inside the node's own network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cluster.harness import machine

if TYPE_CHECKING:
    from cluster.harness.certificates import Credentials

NODE = "node1"
SERVICES = "10.0.0.0/24"
FIRST_SERVICE = "10.0.0.1"
PODS = "172.31.0.0/24"
HOST = "172.31.0.1"
"""The node's address on the bridge of its pods."""
API = f"https://{HOST}:6443"
DOCKER = "unix:///run/docker.sock"
DOMAIN = "cluster.local"
PAUSE = "pelagos-test/pause:1"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def container_engine(folder: Path, data: Path, group: str) -> list[str | Path]:
    """dockerd with everything of its own. Pods reach what runs in the node, and nothing beyond."""
    configuration = folder / "dockerd.json"
    # What builds leave behind is kept for the next build, up to this size.
    configuration.write_text(json.dumps({"builder": {"gc": {"enabled": True, "defaultKeepStorage": "3GB"}}}))
    return [
        "dockerd",
        f"--config-file={configuration}",
        f"--data-root={data}",
        *("--exec-root=/run/docker", "--pidfile=/run/docker.pid", f"--host={DOCKER}"),
        f"--bip={HOST}/24",
        "--ip-masq=false",
        "--storage-driver=overlay2",
        f"--add-runtime=pelagos={machine.TOOLS / 'oci_runtime.sh'}",
        "--default-runtime=pelagos",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{group}",
        "--shutdown-timeout=3",
        "--log-level=warn",
    ]


def etcd(folder: Path) -> list[str | Path]:
    """The store, without fsync."""
    url = "http://127.0.0.1:2379"
    peer = "http://127.0.0.1:2380"
    return [
        "etcd",
        f"--data-dir={folder / 'etcd'}",
        *(f"--listen-client-urls={url}", f"--advertise-client-urls={url}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
        *("--unsafe-no-fsync", "--log-level=warn", "--logger=zap"),
    ]


def apiserver(folder: Path, keys: Credentials) -> list[str | Path]:
    """With the admission plug-ins of a real cluster, node restriction, and an audit log of every request."""
    policy = folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(AUDIT_POLICY))
    certificate, key = keys.certificate("server")
    client, client_key = keys.certificate("kubelet-client")
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
        "--service-account-issuer=https://kubernetes.default.svc",
        *(f"--kubelet-client-certificate={client}", f"--kubelet-client-key={client_key}"),
        *(f"--kubelet-certificate-authority={keys.authority}", "--kubelet-preferred-address-types=InternalIP"),
        *(f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}", "--audit-log-maxsize=2000"),
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
        ),
    ]


def scheduler(keys: Credentials) -> list[str | Path]:
    """The scheduler."""
    kubeconfig = keys.kubeconfig("scheduler", API)
    return [
        machine.program("kube-scheduler"),
        *(f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"),
    ]


def kubelet(folder: Path, keys: Credentials, group: str) -> list[str | Path]:
    """The node's agent; asks the API server who may look into containers."""
    certificate, key = keys.certificate("server")
    return [
        machine.program("kubelet"),
        f"--kubeconfig={keys.kubeconfig('kubelet', API)}",
        *(f"--root-dir={folder / 'kubelet'}", f"--cert-dir={folder / 'kubelet-certificates'}"),
        f"--volume-plugin-dir={folder / 'volume-plugins'}",
        *(f"--hostname-override={NODE}", f"--node-ip={HOST}", f"--address={HOST}", "--port=10250", "--healthz-port=0"),
        *(f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--client-ca-file={keys.authority}"),
        *("--anonymous-auth=false", "--authentication-token-webhook=true", "--authorization-mode=Webhook"),
        *("--container-runtime=docker", f"--docker-endpoint={DOCKER}", f"--pod-infra-container-image={PAUSE}"),
        *("--cgroup-driver=cgroupfs", f"--cgroup-root=/{group}", "--enforce-node-allocatable="),
        *("--fail-swap-on=false", "--oom-score-adj=0", "--eviction-hard=", "--image-gc-high-threshold=100"),
        *(f"--cluster-dns={HOST}", f"--cluster-domain={DOMAIN}", "--resolv-conf="),
    ]


def proxy(keys: Credentials) -> list[str | Path]:
    """Cluster addresses. Limits on connections stay as the machine's kernel has them."""
    return [
        machine.program("kube-proxy"),
        f"--kubeconfig={keys.kubeconfig('proxy', API)}",
        *("--proxy-mode=iptables", f"--cluster-cidr={PODS}", f"--hostname-override={NODE}", "--oom-score-adj=0"),
        # A pod's answer to another must come back through the node, where the address is changed back.
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
