"""``pelagos tensorboard`` fetches event files from a real MLflow server, and starts the installed TensorBoard."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from pelagos.engines.mlflow.rest import AbsentError, MlflowRest
from pelagos.ports.errors import RejectedError
from pelagos_contract.event_files import EVALUATION, TRAINING
from resource_servers import ApiServer, api

__all__ = ["api"]


def put(uri: str, path: str, content: bytes) -> None:
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow-artifacts/artifacts/{path}", content, method="PUT")
    with urllib.request.urlopen(request):
        pass


def make_run(uri: str, **files: bytes) -> str:
    body = json.dumps({"experiment_id": "0", "start_time": 0}).encode()
    asked = urllib.request.Request(f"{uri}/api/2.0/mlflow/runs/create", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as answer:
        run = str(json.load(answer)["run"]["info"]["run_id"])
    for name, content in files.items():
        put(uri, f"0/{run}/artifacts/tensorboard/{name}", content)
    return run


@pytest.fixture
def site(api: ApiServer, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """A cluster, and the settings that name its MLflow server; TensorBoard is not installed."""
    monkeypatch.setenv("KUBECONFIG", str((tmp_path / "kubeconfig").rename(tmp_path / "cluster")))
    monkeypatch.setenv("PELAGOS_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.chdir(tmp_path)
    return api


def tracked(run: str) -> dict[str, Any]:
    return {"tracking": {"run": run, "url": "https://mlflow.invalid", "experiment": "e"}}


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tensorboard", *map(str, arguments)])


def test_the_files_of_several_trainings_stand_side_by_side(site: ApiServer, mlflow_uri: str, tmp_path: Path) -> None:
    site.add("small", tracked(make_run(mlflow_uri, **{TRAINING: b"1", EVALUATION: b"2", "tfevents.strange": b"3"})))
    site.add("large", tracked(make_run(mlflow_uri, **{TRAINING: b"4"})))

    for _ in range(2):
        done = ask("small", "large", "--to", tmp_path / "out", "-o", "json")
        assert done.exit_code == 0, done.output

    paths = [str(tmp_path / "out" / path) for path in (f"small/{TRAINING}", f"small/{EVALUATION}", f"large/{TRAINING}")]
    assert json.loads(done.stdout) == {"folder": str(tmp_path / "out"), "files": paths}
    assert [Path(path).read_bytes() for path in paths] == [b"1", b"2", b"4"]
    assert not (tmp_path / "out" / "small" / "tfevents.strange").exists()


def test_where_tensorboard_is_not_installed_the_command_says_how_to_open_the_files(
    site: ApiServer, mlflow_uri: str
) -> None:
    site.add("small", tracked(make_run(mlflow_uri, **{TRAINING: b"1"})))

    done = ask("small")

    assert done.exit_code == 0
    assert (
        "1 event files of 1 TrainingRuns are in tensorboard. TensorBoard is not installed: make tensorboard"
        in done.stderr
    )
    assert "tensorboard --logdir tensorboard" in done.stderr


def test_tensorboard_is_started_for_this_machine_alone(site: ApiServer, mlflow_uri: str, tmp_path: Path) -> None:
    site.add("small", tracked(make_run(mlflow_uri, **{TRAINING: b"1"})))
    program = tmp_path / "environments" / "tensorboard" / "bin" / "tensorboard"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\nexit 3\n')
    program.chmod(0o700)

    assert ask("small", "--port", 6010).exit_code == 3

    assert (tmp_path / "asked").read_text() == "--logdir tensorboard --host 127.0.0.1 --port 6010\n"


def test_what_cannot_be_shown_is_one_line(
    site: ApiServer, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failure(*arguments: object) -> str:
        done = ask(*arguments)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
        return done.stderr

    assert "TrainingRun default/none not found" in failure("none")
    site.add("new", {})
    assert "new has no event files in MLflow yet" in failure("new")
    site.add("begun", tracked(make_run(mlflow_uri)) | {"progress": {"epoch": 2}})
    assert "yet; it is in epoch 2" in failure("begun")
    site.add("deleted", tracked("0" * 32))
    assert "no event files" in failure("deleted")
    site.add("fine", tracked(make_run(mlflow_uri, **{TRAINING: b"1"})))
    (tmp_path / "file").touch()
    assert "file" in failure("fine", "--to", tmp_path / "file")
    monkeypatch.delenv("PELAGOS_TRACKING_URI")
    assert "set PELAGOS_TRACKING_URI" in failure("fine")
    monkeypatch.setenv("PELAGOS_TRACKING_URI", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in failure("fine")


def test_without_a_running_mlflow_the_embedded_installation_says_so(api: ApiServer) -> None:
    api.add("small", tracked("0" * 32))
    assert "Start it: pelagos up" in ask("small").stderr


async def test_no_more_of_an_artifact_is_read_than_is_allowed(mlflow_uri: str) -> None:
    run, rest = make_run(mlflow_uri, **{TRAINING: b"12345"}), MlflowRest(mlflow_uri)
    try:
        assert await rest.artifact(run, f"tensorboard/{TRAINING}", 5) == b"12345"
        with pytest.raises(RejectedError, match="more than 4 bytes"):
            await rest.artifact(run, f"tensorboard/{TRAINING}", 4)
        with pytest.raises(AbsentError):
            await rest.artifact("0" * 32, f"tensorboard/{TRAINING}", 4)
    finally:
        await rest.close()
