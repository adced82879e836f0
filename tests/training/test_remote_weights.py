"""A checkpoint may lie on a web server, on object storage or in MLflow. It is trusted only by its sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from faulty_proxy import make_authority
from mlflow_servers import MlflowServer
from object_storage import ObjectStorage
from pelagos_contract import source_hosts
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest, Weights
from pelagos_pipelines.steps.train import train
from pelagos_pipelines.training import checkpoints, remote_weights, torchvision_networks
from training.shapes import make_request, make_version
from web_servers import Reply, Request, Server, serving

CONTENT = b"tensors" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def bring(uri: str, folder: Path, tracking_uri: str = "", sha256: str | None = DIGEST) -> bytes:
    return remote_weights.bring(Weights(uri=uri, sha256=sha256), folder / "in" / "start.pt", tracking_uri).read_bytes()


def refusal(uri: str, folder: Path, tracking_uri: str = "", sha256: str | None = DIGEST) -> str:
    with pytest.raises(RefusedError) as caught:
        bring(uri, folder, tracking_uri, sha256)
    assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID
    assert (caught.value.failure.field or "").startswith("model.weights")
    return caught.value.failure.message


def perform_train(request: TrainingRequest, folder: Path, tracking_uri: str, run: str) -> None:
    data, store, report, workspace = (str(folder / name) for name in ("data", "models", "report", "workspace"))
    train(request.model_dump_json(by_alias=True), data, store, report, workspace, tracking_uri, run)


def answer(request: Request) -> Reply:
    match request.path:
        case "/official.pt":
            return Reply(CONTENT, etag='"1"')
        case "/private.pt":
            return Reply(b"no", status=403)
        case _:
            return Reply(b"no", status=404)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = make_authority(tmp_path / "authority")
    with serving(answer, made.server) as served:
        monkeypatch.setenv(source_hosts.VARIABLE, served.url)
        monkeypatch.setenv(source_hosts.AUTHORITY, str(made.file))
        yield served


def test_it_is_downloaded_and_held_against_its_digest(tmp_path: Path, server: Server) -> None:
    assert bring(f"{server.url}/official.pt", tmp_path) == CONTENT
    message = refusal(f"{server.url}/official.pt", tmp_path / "other", sha256="0" * 64)
    assert f"its sha256 is {DIGEST}" in message


def test_what_a_server_does_not_give_is_said(tmp_path: Path, server: Server) -> None:
    assert "answers with HTTP 404" in refusal(f"{server.url}/absent.pt", tmp_path)
    assert "put the file on the data volume" in refusal(f"{server.url}/private.pt", tmp_path)


def test_addresses_that_are_not_public_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(source_hosts.VARIABLE, raising=False)
    assert "127.0.0.1" in refusal("https://127.0.0.1/official.pt", tmp_path)


def test_a_download_above_the_ceiling_ends(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_CHECKPOINT_MEBIBYTES", "1")
    server.handler = lambda request: Reply(bytes(2**20 + 1))
    assert "allowed are 1048576" in refusal(f"{server.url}/official.pt", tmp_path)


def test_an_object_is_brought_and_one_that_is_not_there_is_said(
    tmp_path: Path, object_storage: ObjectStorage, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_storage.put(bucket, "weights/official.pt", CONTENT)

    assert bring(f"s3://{bucket}/weights/official.pt", tmp_path) == CONTENT
    assert "is not there" in refusal(f"s3://{bucket}/weights/absent.pt", tmp_path)
    assert "must be s3://bucket/key" in refusal(f"s3://{bucket}", tmp_path)
    message = refusal(f"s3://{bucket}/weights/official.pt", tmp_path, sha256="0" * 64)
    assert "has another sha256 than model.weights.sha256" in message
    assert DIGEST not in message, "who asks may not be one who may read it"
    object_storage.put(bucket, "weights/large.pt", bytes(2**20 + 1))
    monkeypatch.setenv("PELAGOS_MAX_CHECKPOINT_MEBIBYTES", "1")
    assert "at most 1048576 are read" in refusal(f"s3://{bucket}/weights/large.pt", tmp_path)


def test_in_object_storage_a_namespace_has_its_own_tree_alone(
    tmp_path: Path, object_storage: ObjectStorage, bucket: str
) -> None:
    """Even if the credentials of its steps could reach more."""
    for name in ("data/bay/weights.pt", "objects/bay/models/bay/weights.pt", "data/bayou/weights.pt", "weights.pt"):
        object_storage.put(bucket, name, CONTENT)
    root = f"s3://{bucket}"
    roots = remote_weights.own_roots(f"{root}/data/bay", f"{root}/objects/bay/models/bay")
    assert roots == (f"{root}/data/bay", f"{root}/objects/bay")

    def brought(uri: str) -> bytes:
        target = tmp_path / "in" / "start.pt"
        return remote_weights.bring(Weights(uri=uri, sha256=DIGEST), target, "", roots).read_bytes()

    assert brought(f"{root}/data/bay/weights.pt") == brought(f"{root}/objects/bay/models/bay/weights.pt") == CONTENT
    for other in ("data/bayou/weights.pt", "weights.pt", "data/bay"):
        with pytest.raises(RefusedError, match="no other part of object storage is read for this namespace"):
            brought(f"{root}/{other}")
    assert remote_weights.own_roots("/data", "/objects/models/bay") == ()


@pytest.mark.parametrize("uri", ["s3://b/a.pt", "https://a.example/a.pt"])
def test_without_a_digest_nothing_is_asked(uri: str, tmp_path: Path) -> None:
    assert "has no model.weights.sha256" in refusal(uri, tmp_path, sha256=None)


def test_artifacts_of_runs_and_what_registered_models_were_made_of(tmp_path: Path, mlflow: MlflowServer) -> None:
    client, architecture = MlflowClient(mlflow.uri), "mobilenet_v3_small"
    run = client.create_run("0").info.run_id
    version = make_version(tmp_path, (4, 2, 2), Task.CLASSIFICATION)
    request = make_request(architecture, *version, epochs=1, imageSize=32)
    perform_train(request, tmp_path, mlflow.uri, run)
    digest = client.get_run(run).data.tags["pelagos.dev/checkpoint-sha256"]
    client.create_registered_model("plankton net")
    number = client.create_model_version("plankton net", "s3://packages/1", run).version
    client.set_registered_model_alias("plankton net", "champion", number)

    found = {
        bring(uri, tmp_path / str(index), mlflow.uri, digest)
        for index, uri in enumerate(
            (
                f"runs:/{run}/checkpoint/best.pt",
                f"models:/plankton%20net/{number}",
                "models:/plankton%20net@champion",
            )
        )
    }

    assert {hashlib.sha256(one).hexdigest() for one in found} == {digest}
    # Another training starts from it.
    weights = {"uri": f"models:/plankton%20net/{number}", "sha256": digest}
    request = make_request(
        architecture, *version, epochs=1, imageSize=32, model={"architecture": architecture, "weights": weights}
    )
    (tmp_path / "again").mkdir()
    again = client.create_run("0").info.run_id
    perform_train(request, tmp_path / "again", mlflow.uri, again)
    assert client.get_run(again).data.params["weights.taken"] == "244 of 244 tensors were taken from the checkpoint"
    assert json.loads((tmp_path / "again" / "workspace" / "train.json").read_text())["warnings"] == []


class KilledError(Exception):
    """Raised where the process would die."""


def test_a_training_that_goes_on_asks_for_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, version = "mobilenet_v3_small", make_version(tmp_path, (4, 2, 2), Task.CLASSIFICATION)
    file = tmp_path / "data" / "start.pth"
    torch.save(torchvision_networks.build(architecture, 2).state_dict(), file)
    model = {"architecture": architecture, "weights": {"path": "start.pth"}}
    request = make_request(architecture, *version, epochs=2, imageSize=32, model=model)
    save = checkpoints.save_atomically

    def saved(content: object, path: Path) -> None:
        save(content, path)
        if path.name == "last.pt":
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_atomically", saved)
        with pytest.raises(KilledError):
            perform_train(request, tmp_path, "", "")
    file.unlink()
    perform_train(request, tmp_path, "", "")

    assert json.loads((tmp_path / "workspace" / "train.json").read_text())["epochs"] == 2
    (tmp_path / "other" / "data").mkdir(parents=True)
    with pytest.raises(RefusedError, match="is not a file on the data volume"):
        perform_train(request.model_copy(update={"seed": 7}), tmp_path / "other", "", "")


def test_what_mlflow_does_not_have_is_said_with_what_to_name_instead(
    tmp_path: Path, mlflow: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    torch.save(torchvision_networks.build("mobilenet_v3_small", 2).state_dict(), tmp_path / "a.pth")
    client.log_artifact(run, str(tmp_path / "a.pth"), "mine")
    client.create_registered_model("imported")
    number = client.create_model_version("imported", "s3://packages/1", run).version
    alone = client.create_model_version("imported", "s3://packages/1").version

    for uri, words in {
        f"models:/imported/{number}": "has no checkpoint/best.pt among its artifacts",
        f"models:/imported/{alone}": "was registered without a run",
        "models:/imported/99": "there is no such version",
        "models:/imported@champion": "there is no such version",
        "models:/nobody/1": "there is no such version",
        "models:/imported": "must be models:/name/version",
        f"runs:/{run}/mine/b.pth": "has no such file",
        f"runs:/{run}/mine": "has no such file",
        f"runs:/{run}/../a.pth": "none that is '.' or '..'",
        f"runs:/{'0' * 32}/a.pth": "there is no run",
    }.items():
        assert words in refusal(uri, tmp_path / "in", mlflow.uri), uri
    assert "is not tracked by an MLflow server" in refusal("models:/imported/1", tmp_path)
    monkeypatch.setenv("PELAGOS_MAX_CHECKPOINT_MEBIBYTES", "1")
    assert "at most 1048576 are read" in refusal(f"runs:/{run}/mine/a.pth", tmp_path, mlflow.uri)


def test_no_other_server_is_told_the_login_of_mlflow_and_no_file_of_the_step_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's newest server accepts no such locations, but others do, and databases still hold old ones."""
    (tmp_path / "a.pt").write_bytes(CONTENT)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    location, run = "", "0" * 32

    def tracking(request: Request) -> Reply:
        assert "runs/get" in request.path
        about = {"run_id": run, "run_uuid": run, "experiment_id": "1", "artifact_uri": location}
        return Reply(json.dumps({"run": {"info": about, "data": {}}}).encode())

    with serving(tracking) as server, serving(lambda _: Reply(b"{}")) as stranger:
        host = stranger.url.partition("//")[2]
        for location in (
            f"mlflow-artifacts://{host}/1",
            f"mlflow-artifacts://x@{host}/1",
            f"HTTP://{host}/1",
            f" http://{host}/1",
            "mlflow-artifacts://[",
            f"file:{tmp_path}",
            str(tmp_path),
        ):
            message = refusal(f"runs:/{run}/a.pt", tmp_path / "in", server.url)
            assert "neither on that server nor in object storage" in message, location
        assert stranger.seen == []
