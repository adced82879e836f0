"""A real Kubernetes 1.37 of one node, or two: ``Cluster.start(folder)``. See tests/cluster/conftest.py for the fixture.

API server (RBAC, Node authorizer, all default admission plug-ins and an audit log of every request), controller manager,
scheduler, kubelet, kube-proxy, containerd, a builder of images and cluster DNS, all in their own network, process and mount
namespaces (namespaces.py): the machine's network, files and container engines stay unchanged, and nothing in the cluster can
reach outside. From outside, only what `forward` opens on loopback can be reached; the API server is forwarded from the start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import IO, TYPE_CHECKING, Any

import yaml

from cluster.harness import certificates, forwarder, machine, servers
from cluster.harness.engine import PART, Engine
from cluster.harness.images import Images
from cluster.harness.namespaces import Node, wait_until
from pelagos.embedded import parent_death_wrapper
from pelagos.engines.kubernetes.rest import KubernetesRest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_START_SECONDS = 120.0
_SLOTS = 3
"""Folders with kept images; if more clusters run at the same time, they wait for a free one."""


@dataclass
class Cluster:
    """A running cluster. ``stop`` ends it; it also ends with the test process."""

    node: Node
    keys: certificates.Credentials
    images: Images
    slot: IO[str]
    kubeconfig: Path
    """The administrator's kubeconfig, for kubectl, kopf and client libraries outside of the cluster."""
    data: Path
    """The folder of images, which the next run uses again."""
    others: list[Node] = field(default_factory=list)
    """Further nodes, see `add_node`."""
    forwards: dict[tuple[str, int], tuple[subprocess.Popen[str], int]] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path) -> Cluster:
        """Start everything, with state and logs in ``folder``; returns when the node is Ready, after 25 to 45 seconds.

        Raises TimeoutError or RuntimeError with the logs when a part does not start; nothing runs then.
        """
        folder.chmod(0o755)  # pods of other users have volumes in it
        keys = certificates.make(folder / "keys", ("127.0.0.1", servers.HOST, servers.FIRST_SERVICE))
        slot, data = _take_slot()
        try:
            node = Node.start(folder)
        except BaseException:
            slot.close()
            raise
        running = cls(node, keys, Images(node), slot, folder / "kubeconfig", data)
        try:
            running._start_parts()
        except BaseException:
            running.stop()
            raise
        return running

    @property
    def folder(self) -> Path:
        """The folder of state and logs."""
        return self.node.folder

    @property
    def server(self) -> str:
        """The API server's address outside of the cluster."""
        return f"https://127.0.0.1:{self.forward(servers.HOST, 6443)}"

    @property
    def audit_log(self) -> Path:
        """Every request to the API server: one JSON object a line (audit.k8s.io/v1 Event, level Metadata)."""
        return self.folder / "audit.log"

    def kubectl(self, *arguments: str | Path, text: str | None = None, check: bool = True, seconds: float = 180) -> str:
        """Run kubectl as the administrator; returns its output. If ``check``, raises AssertionError when it fails."""
        command = [str(machine.kubectl()), f"--kubeconfig={self.kubeconfig}", *map(str, arguments)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=seconds)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *resources: Mapping[str, Any]) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "--filename=-", text=yaml.safe_dump_all(resources))

    def get(self, kind: str, name: str, namespace: str = "default") -> Any:
        """A resource as JSON."""
        return json.loads(self.kubectl("get", kind, name, f"--namespace={namespace}", "--output=json"))

    def wait_for(self, condition: str, what: str, namespace: str = "default", seconds: int = 120) -> None:
        """`kubectl wait --for=condition=...`; raises AssertionError with the state of the namespace's pods."""
        said = self.kubectl(
            *("wait", f"--for=condition={condition}", what, f"--namespace={namespace}", f"--timeout={seconds}s"),
            check=False,
            seconds=seconds + 30,
        )
        if "condition met" not in said:
            raise AssertionError(f"{said}\n{self.describe(namespace)}")

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = _START_SECONDS) -> None:
        """Wait for ``condition``.

        Raises TimeoutError when it stays false, RuntimeError when a part of the cluster has ended.
        """

        def holds() -> bool:
            if ended := self.node.ended():
                raise RuntimeError(f"{ended} ended:\n{self.node.log(ended[0]).read_text()[-3000:]}")
            return condition()

        wait_until(holds, what, seconds)

    def describe(self, namespace: str) -> str:
        """Pods, events and last log lines of a namespace, for messages about failures."""
        scope = f"--namespace={namespace}"
        pods = self.kubectl("get", "pods", scope, "--output=name", check=False).split()
        texts = [self.kubectl("describe", "pods", scope, check=False)]
        texts += [self.kubectl("logs", pod, scope, "--all-containers", "--tail=30", check=False) for pod in pods]
        return "\n".join(texts)

    def create_namespace(self, name: str) -> None:
        """Create a namespace; returns when pods can be created in it."""
        self.kubectl("create", "namespace", name)
        self.wait(lambda: self._has_service_account(name), f"namespace {name} has its service account", 30)

    def create_volume(self, claim: str, folder: Path, namespace: str = "default", user: int = 10001) -> None:
        """Make a folder of this machine a bound PersistentVolumeClaim (ReadWriteMany) that ``user`` may write to."""
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user, user)
        self.bind_volumes({claim: folder}, namespace, "ReadWriteMany")

    def bind_volumes(self, folders: Mapping[str, Path], namespace: str, mode: str = "ReadOnlyMany") -> None:
        """Folders of this machine as PersistentVolumeClaims of these names: pods under Pod Security may mount no others."""
        size = {"storage": "10Gi"}
        common = {"storageClassName": "", "accessModes": [mode]}
        for claim, folder in folders.items():
            name = f"{namespace}-{claim}"
            volume = {
                **common,
                "capacity": size,
                "hostPath": {"path": str(folder.resolve(strict=True)), "type": "Directory"},
                "claimRef": {"namespace": namespace, "name": claim},
                "persistentVolumeReclaimPolicy": "Retain",
            }
            claimed = {**common, "resources": {"requests": size}, "volumeName": name}
            self.apply(
                {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim, "namespace": namespace},
                    "spec": claimed,
                },
            )
        names = [f"pvc/{claim}" for claim in folders]
        bound = ("--for=jsonpath={.status.phase}=Bound", "--timeout=30s", f"--namespace={namespace}")
        self.kubectl("wait", *bound, *names)

    def rest(self) -> KubernetesRest:
        """The client that engines use, as the administrator, outside of the cluster."""
        trusted = ssl.create_default_context(cafile=str(self.keys.authority))
        return KubernetesRest(self.server, tls=trusted, token=self.keys.token("admin"))

    def forward(self, host: str, port: int) -> int:
        """Open a port on loopback for an address inside, of a pod, a Service or the node, which must accept connections.

        Returns the port.
        """
        known = self.forwards.get((host, port))
        if known is None:
            command = [sys.executable, "-I", "-S", forwarder.__file__, str(self.node.network), host, str(port)]
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", parent_death_wrapper.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert process.stdout is not None
            opened = process.stdout.readline()
            assert opened, f"nothing answers at {host}:{port}"
            known = self.forwards[host, port] = (process, int(opened))
        return known[1]

    def forward_service(self, name: str, port: int, namespace: str = "default") -> int:
        """Open a port on loopback for a Service."""
        return self.forward(self.get("service", name, namespace)["spec"]["clusterIP"], port)

    def drain(self, seconds: int = 240, *, pods: str = "") -> None:
        """Evict all pods, or those that match the selector ``pods``, as before maintenance of the node."""
        limits = [f"--timeout={seconds}s", "--force", "--ignore-daemonsets", "--delete-emptydir-data"]
        limits += [f"--pod-selector={pods}"] if pods else []
        self.kubectl("drain", servers.NODE, *limits, seconds=seconds + 30)

    def uncordon(self) -> None:
        """Allow pods on the node again."""
        self.kubectl("uncordon", servers.NODE)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig for use outside, with the token of a service account."""
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", "--duration=24h").strip()
        return self.keys.write_kubeconfig(self.folder / f"{namespace}-{name}.kubeconfig", self.server, token, namespace)

    def stop(self) -> None:
        """End everything and leave the machine as it was before; images are kept."""
        for process, _ in self.forwards.values():
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        self.forwards.clear()
        try:
            for node in self.others:
                node.stop()
            if {PART, "docker"} <= set(self.node.parts) - set(self.node.ended()):
                self._stop_containers()
        finally:
            self.node.stop()
            self.slot.close()

    def add_node(self, *images: str) -> Node:
        """Start a second node with these images and wait until it is Ready. Its ``stop`` acts like a power cut."""
        place = servers.PLACES[1]
        folder = self.folder / place.name
        folder.mkdir()
        node = Node.start(folder, place)
        self.others.append(node)
        self.node.link(node)
        self.images.join(Engine.start(node, self.data / place.name), *images)
        self._start_kubelet(node)
        return node

    def _stop_containers(self) -> None:
        """End the containers gracefully, so that the folders of container engine and builder are intact for the next run."""
        engine = self.images.engines[0]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.node.signal("kubelet", SIGKILL)
            engine.remove_containers()
            self.images.prune()
            for name in (PART, "docker"):
                self.node.signal(name, SIGTERM)
            for name in (PART, "docker"):
                self.node.parts[name].wait(10)

    def _start_parts(self) -> None:
        node, keys, data = self.node, self.keys, self.data
        node.spawn("etcd", servers.etcd(self.folder))
        node.spawn("docker", servers.image_builder(self.folder, data / "builder", node.control_group))
        node.spawn("apiserver", servers.apiserver(self.folder, keys))
        self.images.engines.append(Engine.start(node, data / node.place.name))
        self.wait(lambda: bool(self.images.docker("info", "--format={{.ID}}", check=False).strip()), "dockerd answers")
        self.images.prepare()
        self.forward(servers.HOST, 6443)
        keys.write_kubeconfig(self.kubeconfig, self.server, keys.token("admin"))
        self.wait(lambda: self.kubectl("get", "--raw=/readyz", check=False) == "ok", "the API server is ready")
        self._let_the_parts_in()
        node.spawn("controller-manager", servers.controller_manager(keys))
        node.spawn("scheduler", servers.scheduler(keys))
        node.spawn("names", servers.names(self.folder, keys))
        self._start_kubelet(node)
        self.wait(lambda: self._has_service_account("default"), "the namespace default has its service account")

    def _start_kubelet(self, node: Node) -> None:
        node.spawn("proxy", servers.proxy(self.keys, node.place))
        node.spawn("kubelet", servers.kubelet(node.folder, self.keys, node.control_group, node.place))
        self.wait(lambda: self.node_is_ready(node.place.name), f"{node.place.name} is Ready")

    def _let_the_parts_in(self) -> None:
        rules = [
            {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ]
        metadata = {"name": "test-cluster-dns"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-cluster-dns"}
        user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "test-cluster-dns"}
        version = "rbac.authorization.k8s.io/v1"
        self.apply(
            {"apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules},
            {
                "apiVersion": version,
                "kind": "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": role,
                "subjects": [user],
            },
        )

    def node_is_ready(self, name: str) -> bool:
        """Whether the control plane considers a node Ready."""
        said = self.kubectl("get", "node", name, "--output=json", check=False)
        with contextlib.suppress(json.JSONDecodeError):
            conditions = json.loads(said)["status"].get("conditions", ())
            return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
        return False

    def _has_service_account(self, namespace: str) -> bool:
        return "default" in self.kubectl("get", "serviceaccounts", f"--namespace={namespace}", "--output=name")


def _take_slot() -> tuple[IO[str], Path]:
    """A folder for images that no other cluster uses; waits when all are taken. Closing the file frees it."""
    machine.cache().mkdir(parents=True, exist_ok=True)
    while True:
        for number in range(_SLOTS):
            lock = (machine.cache() / f"slot-{number}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            return lock, machine.cache() / f"images-{number}"
        time.sleep(1)
