"""The programs of Prometheus for tests: promtool, and a server that scrapes what runs in a test. See tools/prometheus.sh."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from loopback import free_port
from pelagos.embedded import parent_death_wrapper

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "manifests" / "monitoring"
ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", ROOT / ".venvs"))
_START_SECONDS = 120.0


def programs() -> Path:
    """The folder with prometheus and promtool; without them, fails with the command that gets them."""
    folder = ENVIRONMENTS / "prometheus"
    if not (folder / "prometheus").is_file():
        pytest.fail(f"{folder} does not hold prometheus. Run tools/prometheus.sh {folder}")
    return folder


@dataclass(frozen=True)
class Promtool:
    """Runs promtool; fails the test with its output."""

    program: Path

    def __call__(self, *arguments: str | Path, text: str | None = None) -> str:
        command = [str(self.program), *(str(word) for word in arguments)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
        said = done.stdout + done.stderr
        if done.returncode != 0:
            pytest.fail(f"promtool {' '.join(command[1:])} ended with {done.returncode}:\n{said}")
        return said


_DURATION = re.compile(r"(?<![\w.])(\d+)(s|m|h|d)\b")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PRODUCT = re.compile(r"\* (60|3600)\b")


def shortened(rules: Mapping[str, Any], divisor: int) -> dict[str, Any]:
    """The shipped rules with every time divided: windows, ``for``, intervals, and thresholds written as products."""

    def text(value: str) -> str:
        value = _DURATION.sub(lambda found: f"{int(found[1]) * _SECONDS[found[2]] * 1000 // divisor}ms", value)
        return _PRODUCT.sub(lambda found: f"* {int(found[1]) / divisor}", value)

    def rule(found: Mapping[str, Any]) -> dict[str, Any]:
        return {**found, **{key: text(found[key]) for key in ("expr", "for") if key in found}}

    def group(found: Mapping[str, Any]) -> dict[str, Any]:
        made = {**found, "rules": [rule(entry) for entry in found["rules"]]}
        return made | ({"interval": text(found["interval"])} if "interval" in found else {})

    return {"groups": [group(found) for found in rules["groups"]]}


@dataclass
class Prometheus:
    """A real Prometheus that scrapes every second. It ends with the test process at the latest."""

    folder: Path
    url: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, rules: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> None:
        """Start it; ``targets``: by job, the content of a static_config. Returns when it is ready."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
        jobs = [{"job_name": job, "honor_labels": True, "static_configs": [found]} for job, found in targets.items()]
        times = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {"global": times, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [
            *(
                sys.executable,
                "-I",
                "-S",
                parent_death_wrapper.__file__,
                str(os.getpid()),
                str(programs() / "prometheus"),
            ),
            *("--config.file=prometheus.yaml", f"--web.listen-address=127.0.0.1:{port}"),
            *("--storage.tsdb.path=data", "--log.level=warn", "--web.enable-lifecycle"),
        ]
        with (self.folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Prometheus is not ready: {(self.folder / 'prometheus.log').read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def ask(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of the HTTP API; fails the test with the error of an unsuccessful one."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            return pytest.fail(f"{path} {parameters}: {error.read().decode()}")

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """The series of an expression now: ``metric`` (labels) and ``value``."""
        return list(self.ask("query", query=expression)["result"])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Mapping[str, Any]]:
        """The series of an expression over time (Unix seconds): ``metric`` and ``values``."""
        parameters = {"start": str(start), "end": str(end), "step": str(step)}
        return list(self.ask("query_range", query=expression, **parameters)["result"])

    def firing(self) -> list[Mapping[str, str]]:
        """Labels of the alerts that fire now."""
        found = self.ask("alerts")["alerts"]
        return [alert["labels"] for alert in found if alert["state"] == "firing"]

    def fires(self, alert: str, **labels: str) -> bool:
        """Whether an alert with at least these labels fires."""
        wanted = {"alertname": alert, **labels}.items()
        return any(wanted <= found.items() for found in self.firing())

    def is_silent(self, alert: str) -> bool:
        """Whether no alert of this name fires."""
        return not self.fires(alert)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
