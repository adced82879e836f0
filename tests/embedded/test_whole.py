"""`pelagos up` and `pelagos down` with everything real: etcd, kube-apiserver, MLflow and the operator, as users start them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos.embedded import daemon, orphans, state
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import Phase, State
from supervised import is_running
from tracking_servers import login

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]

ENVIRONMENTS = Path(__file__).parents[2] / ".venvs"
KUBECTL = ENVIRONMENTS / "control-plane" / "bin" / "kubectl"
PELAGOS = (str(ENVIRONMENTS / "control-plane" / "bin" / "python"), "-m", "pelagos.cli.main")


@dataclass(frozen=True)
class Installation:
    """One home folder and the commands on it."""

    layout: Layout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        environment = {
            **os.environ,
            "PELAGOS_HOME": str(self.layout.home),
            "PELAGOS_ENVIRONMENTS": str(ENVIRONMENTS),
            "NO_COLOR": "1",
        }
        return subprocess.Popen(
            [*PELAGOS, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0,  # the permissive umask of some users
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command and wait until it ends."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl with the embedded kubeconfig."""
        command = [str(KUBECTL), f"--kubeconfig={self.layout.kubeconfig}", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=60).stdout

    def mlflow(self, call: str, body: dict[str, Any] | None = None) -> Any:
        """Call MLflow's REST API."""
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.state.parts['mlflow'].url}/api/2.0/mlflow/{call}"
        headers = {"Content-Type": "application/json", **login(self.layout.home)}
        request = urllib.request.Request(address, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @property
    def state(self) -> State:
        """The supervisor's report."""
        found = state.read(self.layout.state)
        assert found is not None
        return found

    def wait_for(self, phase: Phase, seconds: float = 60) -> None:
        """Wait until the installation is in this phase."""
        deadline = time.monotonic() + seconds
        while (found := state.read(self.layout.state)) is None or found.phase is not phase:
            assert time.monotonic() < deadline, f"not {phase} within {seconds} s: {found}"
            time.sleep(0.1)

    @property
    def processes(self) -> set[int]:
        """Process ids of the installation, without the supervisor."""
        return orphans.find(self.layout.home)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation of which nothing runs after the test."""
    found = Installation(Layout.of(tmp_path / "home"))
    yield found
    with_supervisor = daemon.look(found.layout)
    if with_supervisor.runs and with_supervisor.state is not None:
        os.kill(with_supervisor.state.supervisor.pid, signal.SIGKILL)
    asyncio.run(orphans.end(found.layout.home, 0))


def is_closed_to_others(installation: Installation) -> None:
    """Check all files that it has written, for any umask of the user."""
    home = installation.layout.home
    open_to_others = [
        str(path.relative_to(home))
        for path in [home, *home.rglob("*")]
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]
    assert open_to_others == []


def people_sign_in_to_the_hub(installation: Installation) -> None:
    """The hub by a one-time link; the page shows the API server's objects, and nothing from elsewhere."""
    told = json.loads(installation.run("hub", "-o", "json").stdout)
    assert told["address"] == installation.state.parts["hub"].url
    assert told["link"].startswith(f"{told['address']}/login/local?token=")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(told["link"], timeout=60) as answer:
        assert answer.url == f"{told['address']}/"
        assert b"Sign out" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(told["link"], timeout=60)
    assert installation.run("hub").stdout.splitlines()[1].startswith(f"sign in  {told['address']}/login/local?token=")
    assert told["link"] not in installation.run("hub").stdout
    token = told["link"].partition("token=")[2]
    assert token not in (installation.layout.log("hub")).read_text()


def shows_how_to_log_in(installation: Installation) -> None:
    """MLflow requires a login from everyone; people are shown where it is, and the operator has it."""
    assert installation.run("status").returncode == 0
    told = installation.run("ui").stdout.splitlines()
    password = installation.layout.tracking_credentials / "password"
    assert told[0] == f"address  {installation.state.parts['mlflow'].url}"
    assert told[1:] == ["user     pelagos", f"password in the file {password}"]
    examined = installation.run("doctor").stdout
    assert "closed to strangers (401)" in examined
    assert "the operator may use it" in examined
    lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in installation.processes)
    secrets = [path.read_text().strip() for path in password.parent.iterdir() if "username" not in path.name]
    assert not [secret for secret in secrets if secret.encode() in lines]
    people_sign_in_to_the_hub(installation)
    is_closed_to_others(installation)


@pytest.fixture
def with_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hub, as users run it; other tests do without."""
    monkeypatch.setenv("PELAGOS_EMBEDDED_HUB", "true")


@pytest.mark.usefixtures("with_hub")
def test_the_life_of_an_installation(installation: Installation) -> None:
    """Started, used, found running, killed, started again with the same data and addresses, stopped, and stopped again."""
    other = installation.start("up")  # somebody starts it at the same time
    up = installation.run("up")
    assert up.returncode == 0, up.stderr
    assert (other.communicate(timeout=120)[0], other.returncode) == (up.stdout, 0)
    assert f"export KUBECONFIG={installation.layout.kubeconfig}" in up.stdout
    for name in ("etcd", "Kubernetes API server", "MLflow", "Pelagos operator", "hub"):
        assert f"✔ {name}" in up.stderr
    first = installation.state
    config = yaml.safe_load(installation.layout.kubeconfig.read_text())
    assert config["clusters"][0]["cluster"]["server"] == first.parts["apiserver"].url

    installation.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    assert "datasets.pelagos.dev" in installation.kubectl("get", "crd", "-o", "name")
    installation.mlflow("experiments/create", {"name": "kept"})
    with urllib.request.urlopen(first.parts["operator"].url, timeout=60) as answer:
        assert b"pelagos_" in answer.read()

    again = installation.run("up")
    assert again.returncode == 0
    assert f"already runs with its state in {installation.layout.home}" in again.stderr
    assert str(first.supervisor.pid) in again.stderr
    shows_how_to_log_in(installation)

    os.kill(first.parts["etcd"].pid or 0, signal.SIGKILL)
    installation.wait_for(Phase.DEGRADED)
    os.kill(first.supervisor.pid, signal.SIGSTOP)  # It recovers faster than a busy machine starts the next command.
    assert installation.run("status").returncode == 1
    os.kill(first.supervisor.pid, signal.SIGCONT)
    installation.wait_for(Phase.READY)
    assert 'answer: "42"' in installation.kubectl("get", "configmap", "kept", "-o", "yaml")

    os.kill(first.supervisor.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(is_running(part.pid or 0) for part in installation.state.parts.values()):
        assert time.monotonic() < deadline, "a killed supervisor leaves parts behind"
        time.sleep(0.05)
    status = installation.run("status")
    assert status.returncode == 3
    assert "ended without stopping" in status.stdout

    assert installation.run("up").returncode == 0
    assert installation.state.ports == first.ports
    assert 'answer: "42"' in installation.kubectl("get", "configmap", "kept", "-o", "yaml")
    assert installation.mlflow("experiments/get-by-name?experiment_name=kept")["experiment"]["name"] == "kept"

    began = time.monotonic()
    down = installation.run("down")
    assert (down.returncode, time.monotonic() - began < 60) == (0, True), "it hangs"
    assert installation.processes == set()
    assert not is_running(installation.state.supervisor.pid)
    assert "Nothing is running" in installation.run("down").stderr


def test_a_supervisor_in_the_foreground_stops_when_interrupted(installation: Installation) -> None:
    process = installation.start("up", "--foreground")
    installation.wait_for(Phase.READY, 200)
    assert len(installation.processes) >= 8  # four servers and their wrappers

    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)

    assert time.monotonic() - began < 10
    assert process.returncode == 0, err
    assert "Pelagos is ready" in out
    assert "etcd: Ready" in err
    assert installation.processes == set()
    assert installation.state.phase is Phase.STOPPED


def test_interrupting_the_start_stops_everything(installation: Installation) -> None:
    process = installation.start("up")
    installation.wait_for(Phase.STARTING)
    while not installation.processes:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert installation.processes == set()
    assert not is_running(installation.state.supervisor.pid)


def test_a_start_that_fails_says_why_and_leaves_nothing(installation: Installation) -> None:
    """A folder replaces the service accounts' key."""
    installation.layout.create()
    (installation.layout.certificates / "sa.pub").mkdir()
    up = installation.run("up")
    assert up.returncode == 1
    assert "Pelagos could not start" in up.stderr
    assert "sa.pub" in up.stderr
    assert installation.processes == set()
    assert "sa.pub" in installation.run("status").stdout
