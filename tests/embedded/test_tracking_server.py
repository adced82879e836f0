"""Rights in the embedded MLflow: a real one, started as by the supervisor, on a database from before it had a login."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pelagos.embedded import tracking_credentials
from pelagos.engines.mlflow.rest import Access, MlflowRest
from pelagos.ports.errors import RejectedError
from pelagos_contract.event_files import TRAINING
from tracking_servers import ENVIRONMENTS, TrackingServer, basic, login

pytestmark = pytest.mark.timeout(400)
CANARY = "CANARY-of-a-file-outside"
_CLIENT = """
import sys
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient
uri, run, file = sys.argv[1:]
client = MlflowClient(tracking_uri=uri)
client.log_batch(run, metrics=[Metric("loss", 1.0, 1, 1)], params=[Param("a", "b")], tags=[RunTag("t", "v")])
client.log_inputs(run, [DatasetInput(Dataset("d", "1", "pelagos", "{}", "{}", "{}"), [InputTag("k", "training")])])
client.log_artifact(run, file, "model")
tags = {"mlflow.parentRunId": run}
nested = client.create_run(client.get_run(run).info.experiment_id, tags=tags, run_name="seed 1").info.run_id
client.log_batch(nested, metrics=[Metric("loss", 2.0, 1, 1)])
client.set_terminated(nested, "FINISHED")
client.update_run(nested, status="RUNNING")
client.set_terminated(nested, "KILLED")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """A running server; a test that stops it starts it again."""
    made = TrackingServer(tmp_path_factory.mktemp("tracking") / "home")
    made.make_yesterday()
    made.start()
    yield made
    made.stop()


def test_nothing_but_health_answers_without_a_login(server: TrackingServer) -> None:
    assert len(server.routes) > 200
    open_to_all = set()
    for route, methods in server.routes:
        path = re.sub(r"[<{][^>}]*[>}]", "1", route)
        for method in methods:
            if server.ask(method, path).status != 401:
                open_to_all.add((method, path))

    assert open_to_all == {("GET", "/health"), ("HEAD", "/health")}
    for path in ("/", "/healthz", "/health/", "/health/../version", "//health", "/static-files/../x", "/nothing"):
        assert server.ask("GET", path).status == 401, path
    assert server.ask("OPTIONS", "/health").status == 401


@pytest.mark.parametrize(
    "headers",
    [
        basic("pelagos", "wrong"),
        basic("pelagos", ""),
        basic("admin", "password1234"),
        basic("pelagos-steps", "pelagos-steps"),
        {"Authorization": "Bearer abc"},
        {"Authorization": "Basic ?"},
        {"Authorization": "Basic cGVsYWdvcw=="},
    ],
)
def test_a_wrong_login_is_none(server: TrackingServer, headers: dict[str, str]) -> None:
    answer = server.ask("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", headers=headers)

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_it_answers_under_its_own_names_alone(server: TrackingServer) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", "127.0.0.1:1", f"10.0.0.1:{server.port}"):
        for path in ("/", "/health", "/version"):
            assert server.ask("GET", path, headers={"Host": host, **login(server.home)}).status == 421, host
    for host in (f"localhost:{server.port}", f"LOCALHOST:{server.port}", f"127.0.0.1:{server.port}"):
        assert server.ask("GET", "/version", headers={"Host": host.lower(), **login(server.home)}).status == 200


def test_pages_of_other_addresses_may_not_use_the_login_of_the_browser(server: TrackingServer) -> None:
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for origin in ("http://evil.example", "http://127.0.0.1:1", "http://localhost:9999", "null"):
        answer = server.ask("GET", path, headers={"Origin": origin, **login(server.home)})
        assert answer.status == 403, origin
        assert "access-control-allow-origin" not in answer.headers
    assert server.ask("GET", path, headers={"Origin": server.url, **login(server.home)}).status == 200


def test_what_was_tracked_before_there_was_a_login_is_there(server: TrackingServer) -> None:
    found = server.call("GET", "experiments/get-by-name?experiment_name=kept").json["experiment"]
    runs = server.call("POST", "runs/search", {"experiment_ids": [found["experiment_id"]]}).json["runs"]

    metrics = [metric for run in runs for metric in run["data"].get("metrics", ())]
    assert ("loss", 0.5) in [(metric["key"], metric["value"]) for metric in metrics]


def test_no_password_is_in_a_command_line_or_for_others_to_read(server: TrackingServer) -> None:
    assert server.process is not None
    command = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    folder = server.layout.tracking_credentials
    for name in ("password", "steps-password", "secret-key"):
        secret = (folder / name).read_text().strip()
        assert len(secret) > 40
        assert secret.encode() not in command
        assert secret not in server.layout.log("mlflow").read_text()
    for path in (folder, *folder.iterdir(), server.layout.mlflow / "auth.db"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_step_fills_its_run(server: TrackingServer, tmp_path: Path) -> None:
    run = server.new_run()
    (tmp_path / "weights.bin").write_text("weights")
    folder = server.layout.tracking_credentials
    environment = os.environ | {
        "MLFLOW_TRACKING_USERNAME": (folder / "steps-username").read_text().strip(),
        "MLFLOW_TRACKING_PASSWORD": (folder / "steps-password").read_text().strip(),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    command: list[str | Path] = [
        ENVIRONMENTS / "pipelines/bin/python",
        "-c",
        _CLIENT,
        server.url,
        run,
        tmp_path / "weights.bin",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)

    assert done.returncode == 0, done.stderr
    data = server.call("GET", f"runs/get?run_id={run}").json["run"]["data"]
    assert [metric["key"] for metric in data["metrics"]] == ["loss"]
    stored = f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts/model/weights.bin"
    assert server.ask("GET", stored, headers=login(server.home)).text == "weights"


async def test_event_files_are_read_with_the_login_of_people(server: TrackingServer) -> None:
    run, folder = server.new_run(), server.layout.tracking_credentials
    stored = f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts/tensorboard/{TRAINING}"
    assert server.ask("PUT", stored, raw=b"events", headers=login(server.home, "steps-")).status == 200
    for prefix, may in (("", True), ("steps-", False)):
        access = Access(folder / f"{prefix}username", folder / f"{prefix}password")
        rest = MlflowRest(server.url, access=access)
        try:
            if may:
                assert await rest.artifact(run, f"tensorboard/{TRAINING}", 100) == b"events"
            else:
                with pytest.raises(RejectedError):
                    await rest.artifact(run, f"tensorboard/{TRAINING}", 100)
        finally:
            await rest.close()


def test_a_step_may_do_nothing_else(server: TrackingServer) -> None:
    run = server.new_run()
    allowed = {
        ("GET", "/api/2.0/mlflow/runs/get"),
        ("POST", "/api/2.0/mlflow/runs/create"),
        ("POST", "/api/2.0/mlflow/runs/update"),
        ("POST", "/api/2.0/mlflow/runs/log-batch"),
        ("POST", "/api/2.0/mlflow/runs/log-inputs"),
        ("POST", "/api/2.0/mlflow/runs/log-metric"),
        ("POST", "/api/2.0/mlflow/runs/log-parameter"),
        ("POST", "/api/2.0/mlflow/runs/set-tag"),
        ("GET", "/api/2.0/mlflow/artifacts/list"),
        ("GET", "/api/3.0/mlflow/server-info"),
        ("GET", "/api/2.0/mlflow/model-versions/get"),
        ("GET", "/api/2.0/mlflow/registered-models/alias"),
        ("GET", "/health"),
        ("HEAD", "/health"),
    }
    headers = login(server.home, "steps-")
    passed = set()
    for route, methods in server.routes:
        path = re.sub(r"[<{][^>}]*[>}]", "1", route)
        passed |= {(method, path) for method in methods if server.ask(method, path, headers=headers).status != 403}

    assert passed == allowed
    base = f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts"
    for path in (f"{base}/../../../x", f"{base}/..%2f..%2fx", f"{base}/%2e%2e/x", f"{base}//x", base, f"{base}/"):
        assert server.ask("PUT", path, raw=b"x", headers=headers).status == 403, path
    assert server.ask("PUT", f"{base}/x", raw=b"x", headers=headers).status == 200
    for path in ("x", "checkpoint", "checkpoint/../x", "checkpoint/%2e%2e/x", "checkpointed/x"):
        assert server.ask("GET", f"{base}/{path}", headers=headers).status == 403, path


def test_a_step_may_read_checkpoints_to_start_from(server: TrackingServer) -> None:
    run, headers = server.new_run(), login(server.home, "steps-")
    stored = f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts/checkpoint/best.pt"
    assert server.ask("PUT", stored, raw=b"tensors", headers=headers).status == 200
    server.call("POST", "registered-models/create", {"name": "donor"})
    version = {"name": "donor", "source": f"mlflow-artifacts:/1/{run}/artifacts/model", "run_id": run}
    server.call("POST", "model-versions/create", version)

    found = server.ask("GET", "/api/2.0/mlflow/model-versions/get?name=donor&version=1", headers=headers)

    assert found.json["model_version"]["run_id"] == run
    assert server.ask("GET", stored, headers=headers).text == "tensors"
    listed = f"/api/2.0/mlflow-artifacts/artifacts?path=1/{run}/artifacts/checkpoint"
    assert [file["path"] for file in server.ask("GET", listed, headers=headers).json["files"]] == ["best.pt"]
    assert server.ask("POST", "/api/2.0/mlflow/model-versions/create", headers=headers).status == 403


@pytest.mark.parametrize(
    "location",
    [
        "file:/etc",
        "file:///etc",
        "/etc",
        "etc",
        "FILE:/etc",
        "mlflow-artifacts://evil.example/1",
        "http://127.0.0.1:1/",
    ],
)
def test_a_location_elsewhere_is_refused(server: TrackingServer, location: str) -> None:
    body = {"name": f"at {location}", "artifact_location": location}
    answer = server.call("POST", "experiments/create", body)

    assert answer.status == 400
    assert "artifact_location" in answer.json["message"]
    server.call("POST", "registered-models/create", {"name": "hostile"})
    version = {"name": "hostile", "source": location, "run_id": server.new_run()}
    assert server.call("POST", "model-versions/create", version).status == 400


def test_no_file_outside_of_the_artifacts_is_read_whatever_the_database_says(
    server: TrackingServer, tmp_path: Path
) -> None:
    """As if somebody had written such locations while the server still accepted them."""
    (tmp_path / "secret").write_text(CANARY)
    run = server.new_run()
    inside = server.layout.mlflow / "artifacts" / "1" / run / "artifacts"
    inside.mkdir(parents=True)
    (inside / "link").symlink_to(tmp_path)
    (inside / "file").symlink_to(tmp_path / "secret")
    answers = _read_everywhere(server, run, ("link/secret", "file", "link"))
    for location in (
        f"file:{tmp_path}",
        f"file://{tmp_path}",
        str(tmp_path),
        f"mlflow-artifacts:{inside}/../../../../..",
    ):
        with sqlite3.connect(server.layout.mlflow / "mlflow.db", timeout=30) as database:
            database.execute("update runs set artifact_uri = ? where run_uuid = ?", (location, run))
        answers += _read_everywhere(server, run, ("secret", ""))

    assert not [answer for answer in answers if CANARY in answer]
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_text() == CANARY


def _read_everywhere(server: TrackingServer, run: str, paths: tuple[str, ...]) -> list[str]:
    answers = []
    for path in paths:
        routes = (
            f"/get-artifact?run_id={run}&path={path}",
            f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}",
            f"/api/2.0/mlflow-artifacts/artifacts/1/{run}/artifacts/{path}",
            f"/api/2.0/mlflow-artifacts/artifacts?path=1/{run}/artifacts/{path}",
        )
        answers += [server.ask("GET", route, headers=login(server.home)).text for route in routes]
        server.ask(
            "POST",
            f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={path or 'x'}",
            raw=b"{}",
            headers=login(server.home),
        )
    return answers


def test_neither_jobs_nor_assistant_nor_gateway_run(server: TrackingServer) -> None:
    for method, path in (
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
        ("GET", "/ajax-api/3.0/mlflow/jobs/1"),
        ("POST", "/gateway/mlflow/v1/chat/completions"),
        ("GET", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ):
        assert server.ask(method, path, headers=login(server.home)).status == 403, path


def test_a_deleted_password_is_a_changed_one(server: TrackingServer) -> None:
    before = login(server.home)
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert server.ask("GET", path, headers=before).status == 200
    server.stop()
    (server.layout.tracking_credentials / "password").unlink()
    tracking_credentials.prepare(server.layout)
    server.start()

    assert server.ask("GET", path, headers=before).status == 401
    assert server.ask("GET", path, headers=login(server.home)).status == 200
