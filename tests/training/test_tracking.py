"""Tracking never stops a training, and a tracking server that returns receives everything."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from faulty_proxy import Authority, make_authority, proxied
from mlflow_servers import MlflowServer
from pelagos_pipelines.training import tracking
from pelagos_pipelines.training.tracking import DatasetUse, Nested, Tracker, TrackingError
from pelagos_pipelines.training.training_history import TrainingHistory
from web_servers import Reply, Request, Server, serving


def new_run(server: MlflowServer) -> tuple[MlflowClient, str]:
    client = MlflowClient(server.uri)
    return client, client.create_run("0").info.run_id


def history(client: MlflowClient, run: str, metric: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run, metric))


def test_everything_reaches_the_run(mlflow: MlflowServer, tmp_path: Path) -> None:
    client, run = new_run(mlflow)
    picture = tmp_path / "confusion.png"
    picture.write_bytes(b"pixels")
    tracker = Tracker(mlflow.uri, run)
    tracker.describe({"epochs": "3"}, {"pelagos.dev/environment.python": "3.11"})
    tracker.dataset(DatasetUse("plankton", f"sha256:{'a' * 64}", "/versions/a", "training"))
    tracker.metrics({"train/loss": 0.5, "validation/mAP50/Noctiluca scintillans": 0.25}, 1, time.time())
    tracker.file(picture, "figures")
    tracker.flush()
    found = client.get_run(run)
    assert found.data.params == {"epochs": "3"}
    assert found.data.tags["pelagos.dev/environment.python"] == "3.11"
    assert found.data.metrics == {"train/loss": 0.5, "validation/mAP50/Noctiluca scintillans": 0.25}
    assert [item.path for item in client.list_artifacts(run, "figures")] == ["figures/confusion.png"]
    (used,) = found.inputs.dataset_inputs
    assert used.dataset.name == "plankton"
    assert f"sha256:{'a' * 64}" in used.dataset.profile


def test_files_go_to_the_tracking_server_and_nowhere_that_an_experiment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's newest server accepts no such locations, but others do, and databases still hold old ones."""
    picture, kept, run, location = tmp_path / "confusion.png", tmp_path / "kept", "0" * 32, ""
    picture.write_bytes(b"pixels")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")

    def answer(request: Request) -> Reply:
        if "runs/get" not in request.path:
            return Reply(b"{}")
        about = {"run_id": run, "run_uuid": run, "experiment_id": "7", "artifact_uri": location}
        return Reply(json.dumps({"run": {"info": about, "data": {}}}).encode())

    def tell(server: Server) -> list[str]:
        tracker = Tracker(server.url, run)
        tracker.file(picture, "figures")
        tracker.file(picture, "tensorboard")
        tracker.flush()
        return tracker.warnings

    with serving(answer) as server, serving(lambda _: Reply(b"{}")) as stranger:
        host = stranger.url.partition("//")[2]
        places = (f"mlflow-artifacts://{host}/7", f"http://{host}/7", "s3://others/bay", f"file:{kept}", str(kept))
        for place in places:
            location = place
            (warning,) = tell(server)
            assert "experiment 7 says that they belong to" in warning
            assert "they go to the tracking server alone; name another experiment" in warning
        assert not stranger.seen
        assert not kept.exists()
        assert {request.path.partition("?")[0] for request in server.seen} == {"/api/2.0/mlflow/runs/get"}

        for place in ("mlflow-artifacts:/7/artifacts", f"mlflow-artifacts://{server.url.partition('//')[2]}/7"):
            location = place
            assert tell(server) == []
        sent = [request.path for request in server.seen if request.path.endswith(".png")]
        assert sent[0] == "/api/2.0/mlflow-artifacts/artifacts/7/artifacts/figures/confusion.png"
        assert len(sent) == 4


def test_a_nested_run_is_made_once_goes_on_after_it_was_ended_and_is_made_anew_when_it_is_gone(
    mlflow: MlflowServer, tmp_path: Path
) -> None:
    client, run = new_run(mlflow)
    nested = Nested("trial 3", tmp_path / "tracked.json")

    def tell(step: int, *, end: str = "") -> dict[str, str]:
        tracker = Tracker(mlflow.uri, run, nested=nested)
        tracker.metrics({"train/loss": 1.0}, step, time.time())
        if end:
            tracker.end(end)
        tracker.flush()
        found = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{run}'")
        return {each.info.run_id: each.info.status for each in found}

    (first,) = tell(1, end="KILLED").items()
    assert first[1] == "KILLED"
    assert tell(2) == {first[0]: "RUNNING"}
    assert history(client, first[0], "train/loss") == [(1, 1.0), (2, 1.0)]
    assert client.get_run(first[0]).info.run_name == "trial 3"
    client.delete_run(first[0])
    (again,) = tell(3)
    assert again != first[0]
    assert client.get_run(run).data.metrics == {}, "the run above it is told nothing"


def test_a_server_that_is_killed_and_comes_back_misses_nothing(mlflow: MlflowServer) -> None:
    client, run = new_run(mlflow)
    tracker = Tracker(mlflow.uri, run)
    tracker.metrics({"train/loss": 1.0}, 1, time.time())
    tracker.flush()
    mlflow.kill()
    try:
        began = time.monotonic()
        for step in range(2, 6):
            tracker.metrics({"train/loss": 1.0 / step}, step, time.time())
        assert time.monotonic() - began < 30, "training does not wait for the server"
        time.sleep(1)
    finally:
        mlflow.start()
    tracker.flush()
    assert history(client, run, "train/loss") == [(step, 1.0 / step) for step in range(1, 6)]


def test_an_epoch_that_is_trained_again_stands_once(mlflow: MlflowServer, tmp_path: Path) -> None:
    client, run = new_run(mlflow)
    path = tmp_path / "history.json"
    first = Tracker(mlflow.uri, run)
    recorded = TrainingHistory(path, first)
    for epoch in (1, 2):
        recorded.record(epoch, {"train/loss": 1.0 / epoch})
        recorded.keep()
    recorded.record(3, {"train/loss": 1.0 / 3})  # the process dies here, before the checkpoint is written
    first.flush()
    second = Tracker(mlflow.uri, run)
    continued = TrainingHistory(path, second)
    continued.continue_after(2)
    continued.record(3, {"train/loss": 0.25})
    continued.keep()
    second.flush()
    assert history(client, run, "progress/epoch") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert history(client, run, "train/loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_an_epoch_that_is_not_safe_yet_is_told_with_a_later_one(tmp_path: Path) -> None:
    told: list[int] = []

    class Listening(Tracker):
        def metrics(self, values: Mapping[str, float], step: int, at: float) -> None:
            told.append(step)

    safe = iter([True, False, True])
    recorded = TrainingHistory(tmp_path / "history.json", Listening("", ""), lambda: next(safe))
    seen = []
    for epoch in (1, 2, 3):
        recorded.record(epoch, {"train/loss": 1.0})
        recorded.keep()
        seen.append(list(told))
    assert seen == [[1], [1], [1, 2, 3]]


def test_a_figure_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    recorded = TrainingHistory(tmp_path / "history.json", Tracker("", ""))
    assert recorded.record(1, {"train/loss": 1.0, "validation/loss": math.nan}) == {"train/loss": 1.0}
    assert "NaN" not in (tmp_path / "history.json").read_text()


def test_what_the_server_refuses_is_told_at_the_end(mlflow: MlflowServer) -> None:
    client, run = new_run(mlflow)
    tracker = Tracker(mlflow.uri, run)
    tracker.describe({"epochs": "3"}, {})
    tracker.describe({"epochs": "4"}, {})
    tracker.metrics({"train/loss": 0.5}, 1, time.time())
    with pytest.raises(TrackingError, match=r"refused.*parameters and tags"):
        tracker.flush()
    assert client.get_run(run).data.metrics == {"train/loss": 0.5}


def test_a_dead_server_ends_the_wait_with_its_name() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    tracker = Tracker(uri, "0" * 32, flush_seconds=1.5)
    tracker.metrics({"train/loss": 0.5}, 1, time.time())
    began = time.monotonic()
    with pytest.raises(TrackingError, match=f"{uri} did not take 1 messages"):
        tracker.flush()
    assert time.monotonic() - began < 60


def test_a_silent_server_does_not_hold_the_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", "0" * 32, flush_seconds=1)
        tracker.metrics({"train/loss": 0.5}, 1, time.time())
        with pytest.raises(TrackingError, match="start the step again"):
            tracker.flush()


def test_without_an_address_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: reached.append(address))

    tracker = Tracker("", "")
    tracker.metrics({"train/loss": 0.5}, 1, time.time())
    tracker.flush()

    assert reached == []


def test_the_client_does_not_retry_for_minutes_by_itself() -> None:
    assert tracking.CLIENT_ENVIRONMENT["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert float(tracking.CLIENT_ENVIRONMENT["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 10


CREDENTIALS = {
    "basic": ({"USERNAME": "ada", "PASSWORD": "CANARYpassword"}, "Basic YWRhOkNBTkFSWXBhc3N3b3Jk"),
    "token": ({"TOKEN": "CANARYtoken"}, "Bearer CANARYtoken"),
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_credentials_and_authority_come_from_the_environment(
    kind: str, mlflow: MlflowServer, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, run = new_run(mlflow)
    variables, header = CREDENTIALS[kind]
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority.file))
    picture = tmp_path / "curves.png"
    picture.write_bytes(b"pixels")
    with proxied(mlflow.uri, authority.server) as proxy:
        proxy.authorization = header
        tracker = Tracker(proxy.url, run)
        tracker.metrics({"train/loss": 1.0}, 1, time.time())
        tracker.file(picture, "figures")
        tracker.flush()
        assert proxy.seen
    assert history(client, run, "train/loss") == [(1, 1.0)]
    assert [item.path for item in client.list_artifacts(run, "figures")] == ["figures/curves.png"]
    found = client.get_run(run)
    assert "CANARY" not in f"{found.data.params} {found.data.tags}"


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_refused_credentials_are_told_at_once_and_never_quoted(
    kind: str, mlflow: MlflowServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, run = new_run(mlflow)
    for name, value in CREDENTIALS[kind][0].items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    with proxied(mlflow.uri) as proxy:
        proxy.authorization = "another"
        tracker = Tracker(proxy.url, run, flush_seconds=60)
        tracker.metrics({"train/loss": 1.0}, 1, time.time())
        with pytest.raises(
            TrackingError, match=r"refused for run .*MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME"
        ) as e:
            tracker.flush()
    assert "***" in str(e.value), "the proxy quoted them"
    assert "CANARY" not in str(e.value) + caplog.text
    assert "YWRhOkNB" not in str(e.value) + caplog.text


def test_an_unknown_authority_is_told_with_the_variable_that_names_it(
    mlflow: MlflowServer, authority: Authority
) -> None:
    _, run = new_run(mlflow)
    with proxied(mlflow.uri, authority.server) as proxy:
        tracker = Tracker(proxy.url, run, flush_seconds=1)
        tracker.metrics({"train/loss": 1.0}, 1, time.time())
        deadline = time.monotonic() + 60
        while not tracker._last_error and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(TrackingError, match="certificate authority in MLFLOW_TRACKING_SERVER_CERT_PATH"):
            tracker.flush()
