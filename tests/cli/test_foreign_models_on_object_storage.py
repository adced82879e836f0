"""A model that was trained elsewhere, with versions and packages on object storage, as on a cluster.

The commands, the data plane, MLflow and the object storage are real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from installations import ENVIRONMENTS
from mlflow_servers import MlflowServer
from object_storage import ObjectStorage
from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

_MAKING = """
import json, sys
from pathlib import Path
import foreign_models
from pelagos_contract.tasks import Task
from pelagos_pipelines.steps.prepare import prepare
from training.shapes import make_truth, store

folder, versions = Path(sys.argv[1]), sys.argv[2]
store(folder / "data" / "source", make_truth(folder / "drawn", (4, 2, 6), Task.CLASSIFICATION), Task.CLASSIFICATION)
request = {
    "source": {"volume": {"path": "source"}},
    "task": Task.CLASSIFICATION,
    "split": {"policy": "Provided"},
    "cleaning": {"duplicates": {"action": "Keep"}},
}
prepare(json.dumps(request), str(folder / "data"), versions, str(folder / "report"))
foreign_models.saved(foreign_models.classifier(), folder / "theirs.onnx")
result = json.loads((folder / "report" / "result.json").read_text())
print(json.dumps({"uri": result["uri"], "version": result["version"]}))
"""


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    server = MlflowServer(folder)
    server.start()
    yield server
    server.kill()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "-n", "reef", "-o", "json"])


def made(folder: Path, versions: str) -> dict[str, str]:
    """A version of coloured shapes in its store, written by the data plane; in ``folder`` its images, and a model of colours."""
    done = subprocess.run(
        [ENVIRONMENTS / "pipelines-dev" / "bin" / "python", "-c", _MAKING, folder, versions],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_model_is_imported_and_judged_where_all_is_on_object_storage(
    api: ApiServer,
    mlflow: MlflowServer,
    object_storage: ObjectStorage,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = made(tmp_path, f"s3://{bucket}/lab/versions/reef")
    api.add("shapes", {**version, "versions": [{"version": version["version"]}]}, namespace="reef")
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):  # given by settings; only keys come from the environment
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(shutil.copy(tmp_path / "kubeconfig", tmp_path / "of-a-cluster")))
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(ENVIRONMENTS))
    monkeypatch.setenv("PELAGOS_OBJECTS_URI", f"s3://{bucket}/lab")
    monkeypatch.setenv("PELAGOS_S3_ENDPOINT", object_storage.url)
    monkeypatch.setenv("PELAGOS_TRACKING_URI", mlflow.uri)
    usual = ("--name", "theirs", "--task", "classification", "--classes", "disc,square", "--values", "Unit")

    imported = run("model", "import", tmp_path / "theirs.onnx", *usual, "--images", tmp_path / "data/source/train/disc")
    assert imported.exit_code == 0, imported.output
    package = json.loads(imported.stdout)
    judged = run("evaluate", "theirs", "--dataset", "shapes")
    assert judged.exit_code == 0, judged.output
    answer = json.loads(judged.stdout)

    place = f"lab/models/reef/imported/{package['manifestSha256']}"
    assert package["uri"] == f"s3://{bucket}/{place}"
    assert set(object_storage.keys(bucket, f"{place}/")) == {
        f"{place}/{name}" for name in ("package.json", "model.onnx", "probe.png", "probe.json")
    }
    assert (answer["datasetVersion"], answer["images"]) == (version["version"], 6)
    assert answer["metrics"]["test/accuracy"] == 1.0
    assert answer["package"] == package["uri"]
    # What gates compare with is beside the packages, under its digest.
    assert answer["evidence"]["uri"].startswith(f"s3://{bucket}/lab/models/reef/")
    assert answer["evidence"]["uri"].removeprefix(f"s3://{bucket}/") in object_storage.keys(bucket, "lab/models/reef/")

    object_storage.put(bucket, f"{place}/model.onnx", b"altered")
    again = run("evaluate", "theirs", "--dataset", "shapes")
    assert (again.exit_code, "model.onnx" in json.loads(again.stdout)["error"]) == (1, True), again.output
