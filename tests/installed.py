"""Our manifests on a real API server, applied as a person does, and the operator under the identity that they give it.

No controller runs: no pods are created for the Deployment, and namespaces stay until ``finalize`` removes them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

import audit_rbac
import rendering
from control_plane import ControlPlane, start_control_plane
from pelagos.api import kinds, meta
from pelagos.engines.kubernetes.tenants import admitting

SYSTEM = "pelagos-system"
ACCOUNT = "pelagos-operator"
USER = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
PROGRAM = Path(__file__).parent / "manifests" / "operator_program.py"
_VALIDATING = (1, 25)
_LEFT = ("the server doesn't have a resource type", "the server could not find the requested resource")
_LOOKS = 20
_VOLATILE = {
    "events",
    "leases",
    "endpoints",
    "endpointslices",
    "apiservices",
    "flowschemas",
    "prioritylevelconfigurations",
}


@dataclass
class Site:
    """An API server that writes an audit log of service accounts' requests."""

    plane: ControlPlane
    log: Path

    def kubectl(self, *arguments: str, text: str | None = None, code: int = 0) -> str:
        """Run kubectl as an administrator; fails unless it exits with ``code``."""
        done = self._run(*arguments, text=text)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def _run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [
            rendering.kubectl(),
            "--kubeconfig",
            str(self.plane.kubeconfig),
            "--cache-dir",
            str(self.log.with_name("cache")),
            *arguments,
        ]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=120, check=False, cwd=rendering.ROOT
        )

    @property
    def knows_all(self) -> bool:
        """Whether the server keeps CEL rules, and refuses unknown fields."""
        return self.plane.version >= _VALIDATING

    @property
    def applying(self) -> tuple[str, ...]:
        """kubectl's arguments. Servers that do not validate are asked for their schema, and that of 1.20 has no CEL rules."""
        return ("apply", "--validate=strict" if self.knows_all else "--validate=false")

    def apply(self, folder: Path) -> list[str]:
        """Apply a kustomization; returns kubectl's line for each object."""
        return self.kubectl(*self.applying, "-k", str(folder)).splitlines()

    def everything(self) -> dict[str, str]:
        """The version of every object that a person could list, by its path; without objects that change with time alone."""
        for _ in range(_LOOKS):
            listed = self.kubectl("api-resources", "--verbs=list", "--output=name").split()
            names = [name for name in listed if name.split(".")[0] not in _VOLATILE]
            found = self._run("get", ",".join(names), "--all-namespaces", "--output=json")
            if found.returncode == 0:
                return {
                    _path(body["metadata"], body["kind"]): body["metadata"].get("resourceVersion", "")
                    for body in json.loads(found.stdout)["items"]
                }
            # A kind that is being uninstalled may disappear between the two calls.
            assert any(words in found.stderr for words in _LEFT), found.stderr
        raise AssertionError(f"kinds leave at each look: {found.stderr}")

    def finalize(self, namespace: str) -> None:
        """Act as the namespace controller: delete the namespace's objects (the operator's Lease), then the namespace."""
        self.plane.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
        with contextlib.suppress(urllib.error.HTTPError):
            body = self.plane.request("GET", f"/api/v1/namespaces/{namespace}")
            self.plane.request("PUT", f"/api/v1/namespaces/{namespace}/finalize", body | {"spec": {"finalizers": []}})

    def token(self, name: str = ACCOUNT, namespace: str = SYSTEM) -> str:
        """A token of a service account, by TokenRequest as a kubelet gets it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = self.plane.request("POST", path, body)
        return str(answer["status"]["token"])

    def acts(self) -> audit_rbac.Trace:
        """All acts of the operator's service account up to now."""
        return audit_rbac.trace(self.log.read_text(encoding="utf-8").splitlines(), USER)

    @contextlib.contextmanager
    def operator(self, home: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the operator as a process, under the identity of its service account."""
        home.mkdir(parents=True, exist_ok=True)
        kubeconfig = home / "kubeconfig"
        told = yaml.safe_load(self.plane.kubeconfig.read_text(encoding="utf-8"))
        told["users"][0]["user"] = {"token": self.token()}
        kubeconfig.write_text(yaml.safe_dump(told), encoding="utf-8")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PELAGOS_")},
            "PELAGOS_HOME": str(home),
            "PELAGOS_KUBECONFIG": str(kubeconfig),
            "PELAGOS_LEADER_ELECTION": "true",
            "PELAGOS_LEASE_NAMESPACE": SYSTEM,
            **settings,
        }
        with (home / "operator.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, str(PROGRAM)], env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def read(self, kind: str, name: str, namespace: str = "default") -> Mapping[str, Any]:
        """One of our resources."""
        found: Mapping[str, Any] = self.plane.request("GET", f"{collection(kind, namespace)}/{name}")
        return found

    def admit(self, namespace: str) -> None:
        """Make a namespace a tenant, by the command that the operator's refusal names."""
        command = admitting(namespace, SYSTEM).partition(" (")[0].split()
        self.kubectl(*command[1:])

    def create(self, body: Mapping[str, Any], namespace: str) -> None:
        """Create one of our resources."""
        self.plane.request("POST", collection(body["kind"], namespace), body)

    def remove(self, folder: Path) -> None:
        """Uninstall as docs/installing.md says, and wait until it is done."""
        self.kubectl("delete", "-k", str(folder), "--wait=false", "--ignore-not-found")
        self.kubectl("delete", "rolebinding", ACCOUNT, "--namespace", "default", "--ignore-not-found")
        # The keys of steps: the operator may create them, but neither read nor delete any.
        made = ("--selector", "app.kubernetes.io/managed-by=pelagos-operator")
        self.kubectl("delete", "secrets", "--all-namespaces", *made, "--ignore-not-found")
        self.finalize(SYSTEM)
        self.until_gone("pelagos")

    def until_gone(self, *words: str) -> None:
        """Wait until no object's path contains one of the words."""
        deadline = time.monotonic() + 150
        while left := [name for name in self.everything() if any(word in name for word in words)]:
            self.plane.definitions_left()
            assert time.monotonic() < deadline, f"still there: {left}"

    def until(
        self,
        kind: str,
        name: str,
        holds: Callable[[Mapping[str, Any]], bool],
        home: Path,
        *,
        namespace: str = "default",
    ) -> Mapping[str, Any]:
        """Wait until ``holds`` is true of a resource and return it; fails with its status and the end of the operator's log.

        A resource that the operator is still to create is empty.
        """

        def read() -> Mapping[str, Any]:
            try:
                return self.read(kind, name, namespace)
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.NOT_FOUND:
                    raise
                return {}

        deadline = time.monotonic() + 60
        while not holds(body := read()):
            if time.monotonic() > deadline:
                said = (home / "operator.log").read_text(encoding="utf-8")[-3000:]
                pytest.fail(f"{kind} {name} did not come so far: {body.get('status')}\n{said}")
            time.sleep(0.2)
        return body


@contextlib.contextmanager
def site(folder: Path, *options: str) -> Iterator[Site]:
    """A fresh API server without our kinds; ``options`` are further flags of it."""
    folder.mkdir(parents=True, exist_ok=True)
    policy, log = folder / "audit-policy.yaml", folder / "audit.log"
    log.touch()
    policy.write_text(yaml.safe_dump(audit_rbac.POLICY), encoding="utf-8")
    audited = (f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    running = start_control_plane(folder / "plane", (*audited, *options))
    try:
        yield Site(running, log)
    finally:
        running.stop()


def collection(kind: str, namespace: str = "default") -> str:
    """Path of all resources of one of our kinds."""
    plural = next(known.plural for known in kinds.KINDS if known.kind == kind)
    return f"/apis/{meta.API_VERSION}/namespaces/{namespace}/{plural}"


def _path(metadata: Mapping[str, Any], kind: str) -> str:
    return "/".join((kind, metadata.get("namespace", ""), metadata["name"]))
