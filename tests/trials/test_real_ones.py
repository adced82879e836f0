"""Trials on a real API server, with the operator as a process that is killed in the middle; and users' commands and output."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane import ControlPlane
from pelagos.api import meta
from plane_fixtures import plane
from trials.memory import AT_ONCE, PACKAGE, URI
from trials.worlds import token_of

__all__ = ["plane"]

PROGRAM = Path(__file__).with_name("operator_program.py")
NAMESPACE = "trials"
PATH = f"/apis/{meta.API_VERSION}/namespaces/{NAMESPACE}"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
MANIFEST = hashlib.sha256(json.dumps(PACKAGE).encode()).hexdigest()


def until(holds: Callable[[], Any], what: str, *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class Site:
    """An API server, an operator that watches one namespace, and a Ready ModelService there."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane, self.folder, self.lives = plane, folder, 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.lives += 1
        home = self.folder / f"home-{self.lives}"
        home.mkdir()
        ours = {
            "PELAGOS_HOME": str(home),
            "PELAGOS_KUBECONFIG": str(self.plane.kubeconfig),
            "PELAGOS_NAMESPACE": NAMESPACE,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(PROGRAM.parents[1]),
        }
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM)],
                env={**os.environ, **ours},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def create(self, kind: str, plural: str, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.plane.request("POST", f"{PATH}/{plural}", body)

    def status(self, name: str, plural: str = "trials") -> dict[str, Any]:
        found: dict[str, Any] = self.plane.request("GET", f"{PATH}/{plural}/{name}")
        return dict(found.get("status") or {})

    def is_decided(self, name: str) -> bool:
        return self.status(name).get("phase", "Pending") not in {"Pending", "Starting"}

    def kubectl(self, *words: str, given: str = "") -> str:
        program = Path(sys.executable).with_name("kubectl")
        command = [str(program), "--kubeconfig", str(self.plane.kubeconfig), "-n", NAMESPACE, *words]
        done = subprocess.run(command, capture_output=True, text=True, input=given, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pelagos(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.plane.kubeconfig),
            "PELAGOS_HOME": str(self.folder),
            "COLUMNS": "200",
        }
        command = [
            sys.executable,
            "-c",
            "from pelagos.cli.main import app; app()",
            "trial",
            *words,
            "--namespace",
            NAMESPACE,
        ]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def is_ready(status: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))


@pytest.fixture(scope="module")
def site(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    plane.create_namespace(NAMESPACE)
    found = Site(plane, tmp_path_factory.mktemp("site"))
    found.start()
    uri = URI.format(namespace=NAMESPACE)
    found.create("ModelService", "modelservices", "plankton", {"model": {"uri": uri, "manifestSha256": MANIFEST}})
    try:
        until(lambda: is_ready(found.status("plankton", "modelservices")), "the model is served", seconds=120)
        yield found
    finally:
        found.kill()


def test_fifty_open_at_once_survive_a_kill_and_none_outlives_its_time(site: Site) -> None:
    """The 51st is refused; and applying the same again changes nothing."""
    spec = {"modelServiceRef": {"name": "plankton"}, "duration": "1m"}
    names = [f"t{number:02}" for number in range(AT_ONCE)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: site.create("Trial", "trials", name, spec | {"tokenSha256": token_of(name)}), names))
    site.kill()  # Some are decided on by now, others are not.
    site.start()
    until(lambda: all(site.is_decided(name) for name in names), "all are decided on", seconds=100)
    states = {name: site.status(name)["phase"] for name in names}
    site.create("Trial", "trials", "late", spec | {"tokenSha256": token_of("late")})
    until(lambda: site.is_decided("late"), "it is decided on")

    assert set(states.values()) <= {"Open", "Expired"}, states
    if "Expired" not in {site.status(name)["phase"] for name in names}:
        assert site.status("late")["phase"] == "Refused"
        table = site.kubectl("get", "trials")
        assert re.match(r"NAME +READY +REASON +MODEL +USER +EXPIRES +AGE\n", table)
        assert re.search(r"^late +False +CapacityExhausted +plankton", table, re.M)
        assert re.search(r"^t00 +True +Open +plankton +\S+T\S+Z", table, re.M)
    until(lambda: {site.status(name)["phase"] for name in names} == {"Expired"}, "all are over", seconds=120)
    for name in names:
        status = site.status(name)
        late = datetime.fromisoformat(status["endedAt"]) - datetime.fromisoformat(status["expiresAt"])
        assert timedelta() <= late <= timedelta(seconds=1), (name, status)
    document = yaml.safe_dump(
        {
            "apiVersion": meta.API_VERSION,
            "kind": "Trial",
            "metadata": {"name": "once"},
            "spec": spec | {"duration": "5m"},
        }
    )
    assert "created" in site.kubectl("apply", "-f", "-", given=document)
    assert "unchanged" in site.kubectl("apply", "-f", "-", given=document)
    patch = {"spec": {"duration": "10m"}}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        site.plane.request("PATCH", f"{PATH}/trials/once", patch, kind="application/merge-patch+json")
    assert refusal.value.code == 422
    assert "spec.duration is immutable; create a new Trial instead" in str(refusal.value.__notes__)


def test_a_token_of_the_operator_is_in_a_secret_while_the_trial_lasts(site: Site) -> None:
    site.create("Trial", "trials", "secretive", {"modelServiceRef": {"name": "plankton"}})
    until(lambda: site.status("secretive").get("phase") == "Open", "it is open")
    status = site.status("secretive")
    secret = site.plane.request("GET", f"{SECRETS}/{status['tokenSecretRef']['name']}")

    assert secret["metadata"]["ownerReferences"][0]["name"] == "secretive"
    assert set(secret["data"]) == {"token"}
    site.kubectl("delete", "trial", "secretive", "--timeout=30s")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        site.plane.request("GET", f"{SECRETS}/{status['tokenSecretRef']['name']}")


def test_a_trial_gets_a_server_of_its_own_which_goes_with_it(site: Site) -> None:
    site.create("Trial", "trials", "own", {"modelServiceRef": {"name": "plankton"}, "isolation": "Dedicated"})
    until(lambda: site.status("own").get("phase") == "Open", "it is open")
    assert is_ready(site.status("trial-own", "modelservices"))
    site.kubectl("delete", "trial", "own", "--timeout=30s")
    until(lambda: "trial-own" not in site.kubectl("get", "modelservices"), "its server is gone")


def test_people_open_list_and_stop_trials_by_commands(site: Site) -> None:
    opened = site.pelagos("open", "plankton", "--duration", "5m", "--name", "mine")
    assert opened.returncode == 0, opened.stderr
    (token,) = set(re.findall(r"pt_[A-Za-z0-9_-]{43}", opened.stdout))
    assert re.search(r"open +for 0[45]:\d\d, until ", opened.stdout)
    assert f"curl -H 'Authorization: Bearer {token}'" in opened.stdout
    assert "https://models.example.org/trials/plankton/v2/models/plankton/infer" in opened.stdout
    assert site.status("mine")["tokenSha256"] == hashlib.sha256(token.encode()).hexdigest()
    listed = site.pelagos("list")
    assert re.search(r"^mine +Open +plankton +0[45]:\d\d", listed.stdout, re.M), listed.stdout
    assert token not in listed.stdout
    stopped = site.pelagos("stop", "mine")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped: mine\n")
    until(lambda: "mine" not in site.kubectl("get", "trials"), "it is gone")


def test_what_the_page_has_people_type_works(site: Site, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/trials.md").read_text(encoding="utf-8")
    by_command, by_yaml = re.findall(r"(?ms)^```console\n(.*?)^```", page)
    (document,) = re.findall(r"(?ms)^```yaml\n(.*?)^```", page)
    (tmp_path / "trial.yaml").write_text(document, encoding="utf-8")
    config = yaml.safe_load(site.plane.kubeconfig.read_text(encoding="utf-8"))
    config["contexts"][0]["context"]["namespace"] = NAMESPACE
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config), encoding="utf-8")
    (tmp_path / "pelagos").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from pelagos.cli.main import app; app()" "$@"\n'
    )
    (tmp_path / "pelagos").chmod(0o700)
    script = "set -euo pipefail\n" + re.sub(r"(?m)^\$ ", "", by_command + by_yaml)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "PELAGOS_HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False, timeout=200
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^pt_[A-Za-z0-9_-]{43}", done.stdout, re.M)) == 1, "the token in the Secret"
    assert re.search(r"^jane +True +Open +plankton +jane", done.stdout, re.M)
    assert re.search(r"^open +for 0[45]:", done.stdout, re.M)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("open", "nothing"),
            'is Refused (ModelNotReady): spec.modelServiceRef.name: there is no ModelService "nothing"',
        ),
        (("open", "plankton", "--duration", "2h"), "spec.duration must be from 1m to 60m; it is '2h'"),
        (("open",), "name what to try"),
        (("open", "--registry", "plankton"), "name one of its versions, as MODEL@ALIAS or MODEL/VERSION"),
        (("stop", "nothing"), "Trial trials/nothing not found"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(site: Site, words: tuple[str, ...], why: str) -> None:
    done = site.pelagos(*words)
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr
