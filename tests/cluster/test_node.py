"""The cluster is real: pods run, reach each other by name, are restricted, drained, and appear in the audit log."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import machine, pods, servers
from cluster.harness.cluster import Cluster
from cluster.platform.environments import TRAINER
from cluster.platform.services import Platform
from cluster.platform.site import TENANT

_SERVER = "import http.server as s; s.test(HandlerClass=s.SimpleHTTPRequestHandler, port=8000)"
_FETCH = """
import errno, sys, time, urllib.error, urllib.request
end = time.monotonic() + 30
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
        break
    except urllib.error.URLError as error:
        # A Service refuses until kube-proxy has heard of its endpoints, some time after the pod is ready; its address leads
        # nowhere until kube-proxy has heard of the Service itself.
        if getattr(error.reason, "errno", None) not in (errno.ECONNREFUSED, errno.EHOSTUNREACH) or time.monotonic() > end:
            raise
        time.sleep(0.2)
"""
_API = (
    "import ssl, urllib.request as r; d = '/var/run/secrets/kubernetes.io/serviceaccount/';"
    "q = r.Request('https://kubernetes.default.svc/version', headers={'Authorization': 'Bearer ' + open(d + 'token').read()});"
    "print(r.urlopen(q, context=ssl.create_default_context(cafile=d + 'ca.crt'), timeout=5).read().decode())"
)


def start_server(cluster: Cluster, namespace: str, **service: object) -> None:
    """A Deployment and a Service `web`, ready."""
    container = pods.container(
        cluster.images.base(),
        *("python3", "-c", _SERVER),
        workingDir="/etc/python3",
        readinessProbe={"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    )
    cluster.apply(
        pods.deployment("web", namespace, pods.spec(container)), pods.service("web", namespace, 8000, **service)
    )
    cluster.wait_for("Available", "deployment/web", namespace)


def run_python(cluster: Cluster, namespace: str, *arguments: str) -> str:
    """Run Python in a pod until it ends; returns its output."""
    container = pods.container(cluster.images.base(), "python3", "-c", *arguments)
    cluster.apply(pods.pod("client", namespace, pods.spec(container)))
    cluster.wait(lambda: phase(cluster, namespace) in ("Succeeded", "Failed"), "the client ends", 60)
    said = cluster.kubectl("logs", "client", f"--namespace={namespace}")
    assert phase(cluster, namespace) == "Succeeded", said
    return said


def phase(cluster: Cluster, namespace: str) -> str:
    return str(cluster.get("pod", "client", namespace)["status"]["phase"])


def test_the_node_is_ready_and_of_the_version_that_was_built(cluster: Cluster) -> None:
    (node,) = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    assert node["metadata"]["name"] == servers.NODE
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{machine.folder('kubernetes').name}"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")


def test_a_pod_reaches_the_api_server_by_name_with_its_own_token(cluster: Cluster, namespace: str) -> None:
    assert json.loads(run_python(cluster, namespace, _API))["platform"].startswith("linux/")


@pytest.mark.parametrize("host", ["web", "web.{namespace}.svc.cluster.local", "{address}"])
def test_a_pod_reaches_a_service(cluster: Cluster, namespace: str, host: str) -> None:
    start_server(cluster, namespace)
    address = cluster.get("service", "web", namespace)["spec"]["clusterIP"]
    url = f"http://{host.format(namespace=namespace, address=address)}:8000/"
    assert run_python(cluster, namespace, _FETCH, url) == "200\n"


def test_the_name_of_a_headless_service_is_its_pod_until_it_is_gone(cluster: Cluster, namespace: str) -> None:
    start_server(cluster, namespace, clusterIP="None")
    (pod,) = json.loads(cluster.kubectl("get", "pods", f"--namespace={namespace}", "--output=json"))["items"]
    resolve = "import socket; print(socket.gethostbyname('web'))"
    assert run_python(cluster, namespace, resolve).strip() == pod["status"]["podIP"]
    cluster.kubectl("delete", "service/web", "pod/client", f"--namespace={namespace}")
    cluster.wait(lambda: not records(cluster, namespace), "the name is gone", 20)


def records(cluster: Cluster, namespace: str) -> list[str]:
    """Records of the cluster's DNS for a namespace."""
    lines = (cluster.folder / "names" / "records").read_text().splitlines()
    return [line for line in lines if f".{namespace}.svc" in line]


def test_a_service_is_reached_from_outside_through_a_forwarded_port(cluster: Cluster, namespace: str) -> None:
    start_server(cluster, namespace)
    port = cluster.forward_service("web", 8000, namespace)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.status == 200


def test_commands_run_inside_a_pod_and_its_log_is_kept(cluster: Cluster, namespace: str) -> None:
    start_server(cluster, namespace)
    scope = f"--namespace={namespace}"
    assert cluster.kubectl("exec", scope, "deployment/web", "--", "id", "-u") == f"{pods.USER}\n"
    assert '"GET / HTTP/1.1" 200' in cluster.kubectl("logs", scope, "deployment/web")


def test_a_container_with_a_read_only_root_cannot_write_outside_its_volumes(cluster: Cluster, namespace: str) -> None:
    start_server(cluster, namespace)
    command = ("exec", f"--namespace={namespace}", "deployment/web", "--", "touch", "/tmp/file")
    assert "Read-only file system" in cluster.kubectl(*command, check=False)


def test_a_volume_is_the_same_folder_inside_and_outside(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    for folder in tmp_path.parents:  # pytest closes its folders to other users
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    cluster.create_volume("data", tmp_path / "data", namespace)
    container = pods.container(
        cluster.images.base(),
        *("sh", "-c", "id -u >/data/user"),
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
    )
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    cluster.apply(pods.pod("client", namespace, pods.spec(container, volumes=volumes)))
    cluster.wait(lambda: phase(cluster, namespace) == "Succeeded", "the file is written", 60)
    assert (tmp_path / "data" / "user").read_text() == f"{pods.USER}\n"


def test_a_drained_node_takes_its_pods_back(cluster: Cluster, namespace: str) -> None:
    start_server(cluster, namespace)
    scope = f"--namespace={namespace}"
    before = cluster.kubectl("get", "pods", scope, "--output=name")
    cluster.drain(pods="app=web")
    try:
        assert "Pending" in cluster.kubectl("get", "pods", scope)
    finally:
        cluster.uncordon()
    cluster.wait_for("Available", "deployment/web", namespace)
    assert cluster.kubectl("get", "pods", scope, "--output=name") != before


def test_the_audit_log_tells_which_service_account_asked_for_what(cluster: Cluster, namespace: str) -> None:
    kubeconfig = cluster.service_account_kubeconfig(namespace, "default")
    said = cluster.kubectl("get", "secrets", f"--namespace={namespace}", f"--kubeconfig={kubeconfig}", check=False)
    assert "Forbidden" in said
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    mine = [e for e in events if e["user"].get("username") == f"system:serviceaccount:{namespace}:default"]
    asked = [(e["verb"], e["objectRef"]["resource"], e["responseStatus"]["code"]) for e in mine if "objectRef" in e]
    assert ("list", "secrets", 403) in asked


def test_the_kubelet_lets_nobody_in_without_credentials(cluster: Cluster) -> None:
    url = f"https://127.0.0.1:{cluster.forward(servers.HOST, 10250)}/pods"
    done = subprocess.run(
        ["curl", "--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}", url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "401"


def test_no_way_leads_out_of_the_node(cluster: Cluster) -> None:
    """Nothing is sent to find out: a node without links and routes cannot send anything."""
    links = json.loads(cluster.node.run("ip", "-json", "link").stdout)
    assert {re.sub(r"^veth.*", "veth", link["ifname"]) for link in links} <= {"lo", "svc0", servers.BRIDGE, "veth"}
    routes = {route["dst"] for route in json.loads(cluster.node.run("ip", "-json", "route").stdout)}
    assert routes == {servers.SERVICES, servers.PODS}


def test_a_tenants_namespace_takes_a_step_with_what_tests_mount_and_no_careless_pod(
    platform: Platform, cluster: Cluster
) -> None:
    container = pods.container(
        cluster.images.base(), resources={"limits": {"cpu": "1", "memory": "1Gi"}}, volumeMounts=TRAINER.mounts()
    )
    careful = pods.spec(container, volumes=TRAINER.volumes())
    host = {"name": "host", "hostPath": {"path": "/"}}

    def answer(spec: dict[str, Any]) -> str:
        body = json.dumps(pods.pod("probe", TENANT, spec))
        return cluster.kubectl("create", "--dry-run=server", "--filename=-", text=body, check=False)

    assert answer(careful) == "pod/probe created (server dry run)\n"
    for spec, words in (
        ({**careful, "volumes": [*careful["volumes"], host]}, "restricted volume types"),
        ({**careful, "securityContext": {}}, "seccompProfile"),
        ({**careful, "hostNetwork": True}, "host namespaces"),
    ):
        told = answer(spec)
        assert 'violates PodSecurity "restricted:latest"' in told
        assert words in told
