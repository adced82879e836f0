"""A real etcd and kube-apiserver for tests: ``start_control_plane(folder)``. No controllers run, as in the embedded mode."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pelagos.api import meta
from pelagos.embedded import addresses, binaries, credentials, parent_death_wrapper, parts
from pelagos.embedded.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CRDS = Path(__file__).parents[1] / "manifests" / "crds"
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_REMINDER_SECONDS = 10.0
_OLDEST_WITH_RULES = (1, 25)
_BREAKS_A_RULE = {
    "apiVersion": meta.API_VERSION,
    "kind": "Dataset",
    "metadata": {"name": "breaks-a-rule"},
    "spec": {"source": {"volume": {"path": "/etc"}}, "task": "Detection"},
}


@dataclass
class ControlPlane:
    """A running API server and how to reach it. ``stop`` ends it; it also ends with the test process."""

    layout: Layout
    url: str
    """``https://127.0.0.1:<port>``."""
    token: str
    """Bearer token with full rights."""
    authority: Path
    """Certificate to trust."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _reminded: float = field(default=0.0, init=False)

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for kubectl, kopf and client libraries."""
        return self.layout.kubeconfig

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor version of Kubernetes."""
        told = self.request("GET", "/version")
        return int(told["major"]), int(told["minor"].rstrip("+"))

    def request(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Any:
        """Call the API; returns the parsed answer. Raises urllib.error.HTTPError for answers of 400 and above."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": "application/json"}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.tls()) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode())
            raise

    def is_ready(self) -> bool:
        """Whether the API server reports that it is ready."""
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=self.tls()) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def apply_crds(self, files: Sequence[Path] | None = None) -> None:
        """Create CustomResourceDefinitions (all of ours by default) and wait until they are served."""
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for file in files if files is not None else sorted(CRDS.glob("*.yaml")):
            for definition in yaml.safe_load_all(file.read_text(encoding="utf-8")):
                self.request("POST", collection, definition)
                spec = definition["spec"]
                _wait_until(partial(self._serves, spec), f"{definition['metadata']['name']} is served")

    def remove_crds(self, name: str = "") -> None:
        """Delete our definitions with all their resources, and wait until the API server no longer serves our group.

        With a ``name``, only this one.
        """
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for definition in filter(_is_ours, self.request("GET", collection)["items"]):
            if name in {"", definition["metadata"]["name"]}:
                self._finalize(definition["spec"])
                self.request("DELETE", f"{collection}/{definition['metadata']['name']}")
        if name:
            _wait_until(lambda: name not in self.definitions_left(), f"{name} is gone")
            return
        _wait_until(lambda: not self.definitions_left(), "our kinds are gone")
        _wait_until(self._serves_no_group, "our group is gone")

    def definitions_left(self) -> list[str]:
        """Names of our definitions that still exist. Those that are being deleted are touched, so that the server looks again.

        Its finalizer controller often fails at first, since the storage of a kind starts with the first request for it. When it
        retries before it sees its own write, it forgets the definition until its next resync, minutes later; any change of the
        definition makes it look again.
        """
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        left = [each["metadata"] for each in self.request("GET", collection)["items"] if _is_ours(each)]
        if time.monotonic() - self._reminded > _REMINDER_SECONDS:
            self._reminded = time.monotonic()
            reminder = {"metadata": {"annotations": {"pelagos.dev/reminded": str(self._reminded)}}}
            for metadata in left:
                if "deletionTimestamp" in metadata:
                    with contextlib.suppress(urllib.error.HTTPError):
                        path = f"{collection}/{metadata['name']}"
                        self.request("PATCH", path, reminder, kind="application/merge-patch+json")
        return [metadata["name"] for metadata in left]

    @contextlib.contextmanager
    def without_rules(self) -> Iterator[None]:
        """For the block, store our definitions as a server without CEL does (before 1.25)."""
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        ours = [definition for definition in self.request("GET", collection)["items"] if _is_ours(definition)]
        for definition in ours:
            self._put_spec(f"{collection}/{definition['metadata']['name']}", _without_rules(definition["spec"]))
        _wait_until(lambda: self._takes(_BREAKS_A_RULE), "no rule is judged")
        try:
            yield
        finally:
            for definition in ours:
                self._put_spec(f"{collection}/{definition['metadata']['name']}", definition["spec"])
            if self.version >= _OLDEST_WITH_RULES:
                _wait_until(lambda: not self._takes(_BREAKS_A_RULE), "rules are judged again")

    def create_namespace(self, name: str) -> None:
        """Create a namespace; use one per test rather than one server per test."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def kill(self, name: str, sign: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to ``etcd`` or ``apiserver``: to the program and to the wrapper that holds it."""
        wrapper_pid = self.processes[name].pid
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for program in Path(f"/proc/{wrapper_pid}/task/{wrapper_pid}/children").read_text(encoding="ascii").split():
                os.killpg(int(program), sign)  # the program has its own process group
            os.killpg(wrapper_pid, sign)

    def stop(self) -> None:
        """End both servers."""
        for name in ("apiserver", "etcd"):
            process = self.processes.pop(name, None)
            if process is not None:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()  # its wrapper's program dies with it
                    process.wait()

    def _put_spec(self, path: str, spec: dict[str, Any]) -> None:
        self.request("PUT", path, self.request("GET", path) | {"spec": spec})

    def _takes(self, body: dict[str, Any]) -> bool:
        try:
            self.request("POST", f"/apis/{meta.API_VERSION}/namespaces/default/datasets?dryRun=All", body)
        except urllib.error.HTTPError as error:
            if error.code not in {404, 422, 429}:
                raise
            return False
        return True

    def _serves(self, spec: dict[str, Any]) -> bool:
        try:
            self.request("GET", f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
        except urllib.error.HTTPError as error:
            if error.code not in {404, 429}:  # 429: newer servers fill their cache first
                raise
            return False
        return True

    def _finalize(self, spec: dict[str, Any]) -> None:
        """Remove the finalizers of a kind's resources: no operator runs that would finish their deletion."""
        plural, base = spec["names"]["plural"], f"/apis/{spec['group']}/{spec['versions'][0]['name']}"
        for body in self.request("GET", f"{base}/{plural}")["items"]:
            path = f"{base}/namespaces/{body['metadata']['namespace']}/{plural}/{body['metadata']['name']}"
            nothing = {"metadata": {"finalizers": None}}
            self.request("PATCH", path, nothing, kind="application/merge-patch+json")

    def _serves_no_group(self) -> bool:
        return all(group["name"] != meta.GROUP for group in self.request("GET", "/apis")["groups"])

    def tls(self) -> ssl.SSLContext:
        """A context that trusts the server's certificate."""
        return ssl.create_default_context(cafile=str(self.authority))


def _without_rules(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_rules(value) for key, value in node.items() if key != "x-kubernetes-validations"}
    return [_without_rules(each) for each in node] if isinstance(node, list) else node


def _is_ours(definition: dict[str, Any]) -> bool:
    return bool(definition["spec"]["group"] == meta.GROUP)


def start_control_plane(folder: Path, options: Sequence[str] = ()) -> ControlPlane:
    """Start etcd and kube-apiserver with their state and logs in ``folder``; returns when ready, in 3 to 6 seconds.

    ``options`` are more flags of kube-apiserver; the last of two wins.

    Needs `make install` to have run. The namespace ``default`` exists afterwards.
    """
    layout = Layout.of(folder)
    layout.create()
    credentials.prepare(layout)
    token = credentials.token(layout)
    assert token is not None
    found = binaries.require()
    ports = addresses.choose(layout.home, parts.PORTS, {})
    store = parts.etcd(layout, found, ports, durable=False)
    server = parts.apiserver(layout, found, ports, token)
    server = replace(server, command=(*server.command, *options))
    running = ControlPlane(layout=layout, url=server.url, token=token, authority=credentials.authority(layout))
    try:
        for part in (store, server):
            running.processes[part.name] = _start(layout, part)
        _wait_until(lambda: running.authority.exists() and running.is_ready(), "the API server is ready", running)
        credentials.write_kubeconfig(layout, server.url)
        _ensure_default_namespace(running)
    except BaseException:
        running.stop()
        raise
    return running


def _start(layout: Layout, part: parts.ManagedProcess) -> subprocess.Popen[bytes]:
    with layout.log(part.name).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", parent_death_wrapper.__file__, str(os.getpid()), *part.command],
            env=dict(part.environment),
            cwd=part.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _ensure_default_namespace(running: ControlPlane) -> None:
    try:
        running.create_namespace("default")
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise


def _wait_until(condition: Callable[[], bool], what: str, running: ControlPlane | None = None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        ended = [name for name, process in (running.processes if running else {}).items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = [running.layout.log(name).read_text()[-2000:] for name in ended] if running else []
            raise RuntimeError(f"not true within {_START_SECONDS} s: {what}; ended: {ended}\n" + "\n".join(logs))
        time.sleep(0.05)
