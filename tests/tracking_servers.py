"""MLflow as the embedded mode runs it, with its login, on a home folder from before there was one."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pelagos.embedded import addresses, parts, tracking_credentials
from pelagos.embedded.layout import Layout
from pelagos.settings import Settings

ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs"))
_YESTERDAY = """
import json, sys
from mlflow.server import app, fastapi_app
from mlflow.tracking import MlflowClient
folder, routes = sys.argv[1:]
client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
experiment = client.create_experiment("kept", artifact_location="mlflow-artifacts:/1")
client.log_metric(client.create_run(experiment).info.run_id, "loss", 0.5)
found = [[rule.rule, sorted(rule.methods)] for rule in app.url_map.iter_rules()]
found += [[route.path, sorted(route.methods)] for route in fastapi_app.app.routes if hasattr(route, "methods")]
with open(routes, "w") as file:
    json.dump(found, file)
"""


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.text)


def basic(name: str, password: str) -> dict[str, str]:
    """The header of HTTP basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def login(home: Path, prefix: str = "") -> dict[str, str]:
    """The header with the installation's login: that of people and operator, or with ``steps-`` that of pipeline steps."""
    folder = Layout.of(home).tracking_credentials
    name, password = ((folder / f"{prefix}{part}").read_text().strip() for part in ("username", "password"))
    return basic(name, password)


@dataclass
class TrackingServer:
    """One home folder; the process can be stopped and started again."""

    home: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    routes: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        """The layout of the home folder."""
        return Layout.of(self.home)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{addresses.HOST}:{self.port}"

    def make_yesterday(self) -> None:
        """Create a database without a login, and list all routes that this version of MLflow has."""
        self.layout.create()
        listed = self.home / "routes.json"
        command: list[str | Path] = [
            ENVIRONMENTS / "tracking" / "bin" / "python",
            "-c",
            _YESTERDAY,
            self.layout.mlflow,
            listed,
        ]
        environment = os.environ | {"_MLFLOW_SERVER_SERVE_ARTIFACTS": "true", "PYTHONWARNINGS": "ignore"}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=240)
        self.routes = [(path, methods) for path, methods in json.loads(listed.read_text())]

    def start(self) -> None:
        """Start it as the supervisor does, and wait until it answers."""
        self.port = self.port or addresses.choose(self.home, ["mlflow"], {})["mlflow"]
        tracking_credentials.prepare(self.layout)
        settings = Settings(home=self.home, environments=ENVIRONMENTS)
        part = parts.mlflow(self.layout, settings, {"mlflow": self.port})
        log = self.layout.log("mlflow")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                part.command, env=dict(part.environment), cwd=part.folder, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("GET", "/health").status == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(log.read_text(errors="replace")[-3000:])

    def stop(self) -> None:
        """Stop it gracefully."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Send one request, exactly as given."""
        connection = http.client.HTTPConnection(addresses.HOST, self.port, timeout=30)
        sent = {"Content-Type": "application/json"} | (headers or {})
        try:
            data = raw if body is None else json.dumps(body).encode()
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders()))
        finally:
            connection.close()

    def call(self, method: str, operation: str, body: Any = None, prefix: str = "") -> Answer:
        """Call MLflow's API, logged in."""
        return self.ask(method, f"/api/2.0/mlflow/{operation}", body, headers=login(self.home, prefix))

    def new_run(self, experiment: str = "1") -> str:
        """Create a run as the operator does; returns its id."""
        made = self.call("POST", "runs/create", {"experiment_id": experiment, "start_time": 0})
        return str(made.json["run"]["info"]["run_id"])
