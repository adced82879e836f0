"""A whole Pelagos installation for tests of the main job, driven as a user would: with `pelagos` and `kubectl`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos.embedded import upstream
from tracking_servers import login

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", ROOT / ".venvs"))
BIN = Path(sys.executable).parent
HEALING_SECONDS = 60.0
"""After a part is back, everything must have converged within this time."""


@dataclass(frozen=True)
class Installation:
    """One home folder with everything that runs for it."""

    home: Path

    def environment(self) -> dict[str, str]:
        """The environment variables of the user's shell."""
        variables = {
            "PELAGOS_HOME": self.home,
            "PELAGOS_ENVIRONMENTS": ENVIRONMENTS,
            "KUBECONFIG": self.home / "kubeconfig",
        }
        return {**os.environ, **{name: str(value) for name, value in variables.items()}}

    def run(self, *command: str | Path, text: str | None = None, check: bool = True, seconds: float = 600) -> str:
        """Run a program; fails with its output."""
        done = subprocess.run(
            [str(word) for word in command],
            check=False,
            input=text,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            umask=0,  # the permissive umask of some users
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + ("" if check else done.stderr)

    def pelagos(self, *arguments: str | Path) -> str:
        """Run `pelagos`."""
        return self.run(BIN / "pelagos", *arguments)

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run `kubectl`."""
        return self.run(BIN / "kubectl", *arguments, text=text, check=check)

    def apply(self, *resources: Mapping[str, Any]) -> str:
        """`kubectl apply -f -`."""
        return self.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(resources))

    def get(self, kind: str, name: str) -> Any:
        """A resource as JSON."""
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def wait_ready(self, kind: str, name: str, seconds: int = 300) -> Any:
        """`kubectl wait --for=condition=Ready`; fails with the status."""
        waited = ("--for=condition=Ready", f"{kind}/{name}", f"--timeout={seconds}s")
        said = self.run(BIN / "kubectl", "wait", *waited, check=False, seconds=seconds + 60)
        body = self.get(kind, name)
        if "condition met" not in said:
            pytest.fail(f"{kind} {name} is not Ready: {json.dumps(body.get('status'), indent=1)}")
        return body

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = HEALING_SECONDS) -> Any:
        """Wait until ``holds`` returns something true; returns that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            time.sleep(0.5)
        return pytest.fail(f"not within {seconds:.0f} s: {what}\n{self.kubectl('get', 'pelagos', check=False)}")

    def part(self, name: str) -> int:
        """Process id of a supervised part; 0 while it has none."""
        state = json.loads((self.home / "state.json").read_text(encoding="utf-8"))
        return int(state["parts"][name]["pid"] or 0)

    def processes(self, *words: str) -> list[int]:
        """Processes of this installation whose command line contains all ``words``."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"={self.home}".encode() + b"\0" in environment + b"\0" and all(word in command for word in words):
                found.append(int(folder.name))
        return sorted(found)

    def open_to_others(self) -> list[str]:
        """Paths that other users of the machine can access: in the home folder, except the given data, and temporary files."""
        # os.walk, because folders may vanish during the walk.
        inside = {Path(folder, name) for folder, *names in os.walk(self.home) for each in names for name in each}
        found = {path for path in inside if (self.home / "data") not in (path, *path.parents)}
        found |= {path for process in self.processes() for path in _temporary_files(process)}
        return sorted(str(path) for path in {self.home, *found} if _is_open(path))

    def close_to_others(self, folder: Path) -> None:
        """Take others' access away, as Pelagos does for its own files: for what a test puts below the home folder."""
        for path in (folder, *folder.rglob("*"), *(each for each in folder.parents if self.home in each.parents)):
            path.chmod(path.stat().st_mode & 0o700)

    def kill(self, process: int) -> None:
        """Send SIGKILL."""
        assert process > 0, "0 would be the group of the tests themselves"
        os.kill(process, signal.SIGKILL)

    def running(self, name: str) -> int:
        """Process id of a supervised part, once it has one: it may be between two lives."""
        return int(self.wait(f"{name} runs", lambda: self.part(name)))

    def tracked_runs(self) -> list[Mapping[str, Any]]:
        """All runs in MLflow, of all experiments."""
        import urllib.request

        state = json.loads((self.home / "state.json").read_text(encoding="utf-8"))
        base = state["parts"]["mlflow"]["url"]

        def post(path: str, body: Mapping[str, Any]) -> Any:
            request = urllib.request.Request(
                f"{base}/api/2.0/mlflow/{path}",
                json.dumps(body).encode(),
                {"Content-Type": "application/json", **login(self.home)},
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)

        experiments = [
            entry["experiment_id"] for entry in post("experiments/search", {"max_results": 100})["experiments"]
        ]
        return list(post("runs/search", {"experiment_ids": experiments, "max_results": 100}).get("runs", []))


def _temporary_files(process: int) -> set[Path]:
    """Files outside of the home folder that a process has open or mapped: shared memory, sockets, files."""
    named = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/maps").read_text(errors="replace").splitlines():
            named.add(Path(line.split(maxsplit=5)[-1]))
        for link in Path(f"/proc/{process}/fd").iterdir():
            named.add(link.readlink())
    temporary = {path for path in named if path.is_relative_to("/dev/shm") or path.is_relative_to("/tmp")}
    # Programs may lie below /tmp, too, and are no secrets. Nothing else is left out.
    programs = (ENVIRONMENTS, Path(sys.base_prefix), upstream.cache())
    return {path for path in temporary if not any(map(path.is_relative_to, programs))}


def _is_open(path: Path) -> bool:
    try:
        return not path.is_symlink() and bool(path.lstat().st_mode & 0o077)
    except FileNotFoundError:
        return False


def dataset(name: str, path: str, task: str, **spec: Any) -> dict[str, Any]:
    """A Dataset with a folder of the data volume as its source."""
    return _resource("Dataset", name, {"source": {"volume": {"path": path}}, "task": task, **spec})


def training(name: str, dataset_name: str, architecture: str, epochs: int, **spec: Any) -> dict[str, Any]:
    """A TrainingRun small enough for a test."""
    size = spec.pop("size", 64)
    hyperparameters = {"epochs": epochs, "imageSize": size, "batchSize": 16, "learningRate": "0.002"}
    base = {
        "datasetRef": {"name": dataset_name},
        "model": {"architecture": architecture},
        "hyperparameters": hyperparameters,
    }
    return _resource("TrainingRun", name, {**base, **spec})


def service(name: str, model: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A ModelService of ``model``."""
    return _resource("ModelService", name, {"model": model, **spec})


def _resource(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "pelagos.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
