"""A model trained elsewhere becomes a package once its graph is known to be harmless and to fit, and is evaluated here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from mlflow.tracking import MlflowClient

import foreign_models
from mlflow_servers import MlflowServer
from object_storage import ObjectStorage
from pelagos.engines.triton.package import Manifest, known
from pelagos_contract.imports import EvaluationRequest, ImportRequest, ImportResult, Tracked
from pelagos_contract.tasks import Task
from pelagos_contract.training import Champion, TrainingResult
from pelagos_pipelines.evaluation import evidence, relabelling
from pelagos_pipelines.evaluation import tasks as evaluation_tasks
from pelagos_pipelines.evaluation.evidence import Evidence
from pelagos_pipelines.export import graph_edits
from pelagos_pipelines.serving import images, packages, predictor
from pelagos_pipelines.steps import importing, judging
from pelagos_pipelines.steps.importing import ImportRefusedError
from pelagos_pipelines.steps.judging import JudgingError
from pelagos_pipelines.steps.stages import perform
from training.shapes import CLASSES, make_request, make_version


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("classified"), (4, 2, 6), Task.CLASSIFICATION)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(3):
        coarse = generator.integers(0, 255, (6, 8, 3), "uint8")
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (120, 90)))
    (folder / "notes.txt").write_text("no image")
    return folder


def tables_of_nothing(task: Task) -> dict[str, Any]:
    of_task = evaluation_tasks.TASKS.named(task).tables
    return {name: {column: np.zeros(0, kind) for column, kind in columns.items()} for name, columns in of_task.items()}


def asked(
    onnx_file: Path, pictures: Path, store: Path, uri: str = "", place: str = "", **changes: Any
) -> ImportRequest:
    fields = {
        "onnx": str(onnx_file),
        "name": "shapes",
        "task": Task.CLASSIFICATION,
        "labels": list(CLASSES),
        "images": str(pictures),
        "store": f"{place or store}/imported",
        "values": "Unit",
        "tracked": Tracked(uri=uri, namespace="reef"),
    }
    return ImportRequest.model_validate(fields | changes)


def judged(result: ImportResult | str, version: tuple[str, str], mlflow: MlflowServer, store: Path, **more: Any) -> Any:
    named = {"model": result} if isinstance(result, str) else {"package": result.uri}
    request = EvaluationRequest(
        **(named | more),
        packages=str(store),
        dataset="shapes",
        dataset_uri=version[0],
        dataset_version=version[1],
        tracked=Tracked(uri=mlflow.uri, namespace="reef"),
    )
    return judging.run(request)


def test_a_model_of_somebody_else_is_imported_and_judged(
    tmp_path: Path, pictures: Path, classified: tuple[str, str], mlflow: MlflowServer
) -> None:
    client = MlflowClient(mlflow.uri)
    file = foreign_models.saved(foreign_models.classifier("side"), tmp_path / "theirs.onnx")
    request = asked(file, pictures, tmp_path / "models", mlflow.uri, image_size=64)

    done = importing.run(request)

    # Running it again changes nothing.
    assert importing.run(request) == done
    assert done.notes == ["its outputs were no probabilities, so that the package ends with a softmax"]
    folder = Path(done.uri)
    manifest = Manifest.model_validate_json((folder / "package.json").read_bytes())
    assert known(manifest, b"", (folder / "probe.json").read_bytes(), "here").expected["task"] == "Classification"
    assert (manifest.family, manifest.dataset.version) == ("Imported", "not evaluated here")
    graph = onnx.load(folder / "model.onnx")
    assert (graph.producer_name, list(graph.metadata_props)) == ("", []), "words of others are not kept"
    served = predictor.load(folder, done.manifest_sha256)
    (answer,) = served.predict([images.decode_known((folder / "probe.png").read_bytes())])
    assert answer.render(manifest.labels)["classes"] == json.loads((folder / "probe.json").read_text())["classes"]
    version = client.get_model_version("shapes", done.version)
    assert version.tags["pelagos.dev/evaluated"] == "not evaluated here"
    assert len(version.tags["pelagos.dev/imported"]) == 64
    assert version.tags["pelagos.dev/package-uri"] == done.uri

    result = judged("shapes", classified, mlflow, tmp_path / "models")

    assert result.model == "shapes/1"
    assert result.metrics["test/accuracy"] == 1.0
    assert result.metrics["test/F1/disc"] == 1.0
    assert result.images == 6
    assert (result.intervals["test/accuracy"].low, result.resampling.by if result.resampling else "") == (1, "image")
    assert client.get_model_version("shapes", done.version).tags["pelagos.dev/evaluated"] == f"shapes@{classified[1]}"
    run = client.get_run(result.run)
    assert run.data.metrics["test/accuracy"] == 1.0
    assert run.data.tags["pelagos.dev/manifest-sha256"] == done.manifest_sha256
    assert run.inputs.dataset_inputs[0].dataset.digest == classified[1][:36]
    assert {item.path for item in client.list_artifacts(result.run, "figures")} >= {"figures/confusion-matrix.png"}

    # The same model with its classes in another order, and one more class.
    request = asked(
        foreign_models.saved(foreign_models.classifier(64, classes=3), tmp_path / "more.onnx"),
        pictures,
        tmp_path / "models",
        mlflow.uri,
        labels=["square", "disc", "star"],
    )
    wrong = judged(importing.run(request), classified, mlflow, tmp_path / "models")
    assert wrong.metrics["test/accuracy"] == 0.0, "its red are squares"
    assert "star" in wrong.warnings[0]
    assert not any("star" in name for name in wrong.metrics)


def test_a_package_of_ours_gets_the_metrics_that_its_training_had(
    tmp_path: Path, classified: tuple[str, str], mlflow: MlflowServer
) -> None:
    request = make_request("mobilenet_v3_small", *classified, epochs=1, imageSize=32)
    data, store, report, workspace = (str(tmp_path / name) for name in ("data", "models", "report", "workspace"))
    stages = ("train", "evaluate", "export")
    perform(stages, request.model_dump_json(by_alias=True), data, store, report, workspace, "", "")
    trained = TrainingResult.model_validate_json((tmp_path / "report" / "result.json").read_text())

    result = judged(
        "", classified, mlflow, tmp_path / "models", package=trained.model.uri, model=None, manifest_sha256=None
    )

    of_test = {name: value for name, value in trained.metrics.items() if name.startswith("test/")}
    assert result.metrics.keys() == of_test.keys()
    assert result.metrics == pytest.approx(of_test, abs=1e-6)

    # The outcome for each image is kept under the package's digest, and a training is compared with it.
    kept = result.evidence
    assert kept is not None
    assert kept.uri == str(tmp_path / "models" / "evidence" / f"{kept.sha256.removeprefix('sha256:')}.npz")
    assert evidence.read(Path(kept.uri), kept.sha256).package == result.manifest_sha256
    told = {"name": "shapes@champion", "version": "1", "evidence_uri": kept.uri, "evidence_sha256": kept.sha256}
    for package, why in ((result.manifest_sha256, None), ("0" * 64, "is not of the package of this version")):
        again = request.model_copy(update={"champions": [Champion(**told, package=package)]})
        (tmp_path / "report" / "result.json").unlink()
        perform(("export",), again.model_dump_json(by_alias=True), data, store, report, workspace, "", "")
        (compared,) = TrainingResult.model_validate_json((tmp_path / "report" / "result.json").read_text()).champions
        assert compared.evidence_sha256 == kept.sha256
        if why is None:
            assert compared.why is None
            assert compared.metrics["accuracy"].value == compared.metrics["accuracy"].champion
        else:
            assert why in str(compared.why)


def test_where_no_evidence_can_be_kept_a_model_is_judged_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("no folder")
    task, images = Task.CLASSIFICATION, ("a.png",)
    made = Evidence(task, CLASSES, "sha256:1", "sha256:2", images, (1,), {}, tables_of_nothing(task))
    kept, doubts = judging._kept(made, str(tmp_path), tmp_path / "scratch")
    assert kept is None
    assert f"no gate can compare with it: {tmp_path}" in doubts[0]


@pytest.mark.parametrize(("size", "batch"), [(64, 1), ("side", "batch")])
def test_a_detector_is_imported(
    tmp_path: Path, pictures: Path, mlflow: MlflowServer, size: int | str, batch: int | str
) -> None:
    """Includes what ultralytics exports by default: graphs for a single image, and squares of one fixed size."""
    file = foreign_models.saved(foreign_models.detector(size, batch=batch), tmp_path / "theirs.onnx")
    size_asked = None if size == 64 else 64
    done = importing.run(
        asked(
            file,
            pictures,
            tmp_path,
            mlflow.uri,
            name=f"detector {batch}",
            task=Task.DETECTION,
            values=None,
            image_size=size_asked,
        )
    )
    manifest = Manifest.model_validate_json((Path(done.uri) / "package.json").read_bytes())
    assert (manifest.input.image_size, manifest.input.stride) == (64, 64 if size == 64 else 32)
    served = predictor.load(Path(done.uri), done.manifest_sha256)
    probe = images.decode_known((Path(done.uri) / "probe.png").read_bytes())
    found = served.predict([probe, probe, probe])
    assert len({str(one.render(CLASSES)) for one in found}) == 1


def test_packages_may_lie_on_object_storage(
    tmp_path: Path,
    pictures: Path,
    classified: tuple[str, str],
    mlflow: MlflowServer,
    object_storage: ObjectStorage,
    bucket: str,
) -> None:
    file = foreign_models.saved(foreign_models.classifier(), tmp_path / "theirs.onnx")
    store = f"s3://{bucket}/a/models/reef"

    done = importing.run(asked(file, pictures, tmp_path, mlflow.uri, name="stored", place=store))

    assert done.uri == f"{store}/imported/{done.manifest_sha256}"
    path = f"a/models/reef/imported/{done.manifest_sha256}"
    assert object_storage.keys(bucket) == sorted(
        f"{path}/{name}" for name in ("package.json", "model.onnx", "probe.png", "probe.json")
    )
    request = EvaluationRequest(
        model="stored",
        packages=store,
        dataset="shapes",
        dataset_uri=classified[0],
        dataset_version=classified[1],
        tracked=Tracked(uri=mlflow.uri, namespace="reef"),
    )
    assert judging.run(request).metrics["test/accuracy"] == 1.0
    object_storage.put(bucket, f"{path}/model.onnx", b"altered")
    with pytest.raises(packages.RefusedError, match=r"model\.onnx"):
        judging.run(request)


DETECTION: dict[str, Any] = {"task": Task.DETECTION, "values": None}
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any], str]] = {
    "a loop": (foreign_models.looping, {}, "uses the operator Loop"),
    "an operator of somebody's": (foreign_models.foreign_operator, {}, "operators beside those of the standard"),
    "weights in another file": (foreign_models.outside, {}, "external data"),
    "memory without end": (foreign_models.huge, {"labels": ["a", "b", "c"]}, "model cannot be used"),
    "as many boxes as it likes": (foreign_models.choosing, DETECTION, "another shape for another image"),
    "no numbers": (foreign_models.undefined, {}, "not finite on an image"),
    "two outputs": (foreign_models.two_outputs, {}, "it has 2 outputs"),
    "half precision": (foreign_models.half, {}, "not of float32"),
    "a classifier of more classes": (lambda: foreign_models.classifier(classes=3), {}, r"is \[3\] and must be \[2\]"),
    "a detector of more classes": (
        lambda: foreign_models.detector(64, classes=3),
        DETECTION,
        "it has 3 classes, and --classes names 2",
    ),
    "a detector as a classifier": (lambda: foreign_models.detector(64), {}, "a number for each class"),
    "anchors first": (lambda: foreign_models.detector(64, order=(0, 2, 1)), DETECTION, "or like anchors first"),
    "boxes from 0 to 1": (lambda: foreign_models.detector(64, reach=1.0), DETECTION, "boxes are not in pixels"),
    "scores beyond 1": (lambda: foreign_models.detector(64, score=9.0), DETECTION, "scores are not from 0 to 1"),
    "another size than its own": (foreign_models.classifier, {"image_size": 96}, "takes 64 x 64 pixels alone"),
    "a size that is no multiple": (foreign_models.detector, DETECTION | {"image_size": 50}, "multiple of 32"),
    "an old standard": (lambda: foreign_models.model([], {}, (1,), (1,), opset=3), {}, "no ONNX model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_with_what_to_do(tmp_path: Path, pictures: Path, name: str) -> None:
    make, changes, words = REFUSED[name]
    file = foreign_models.saved(make(), tmp_path / "theirs.onnx")

    with pytest.raises(ImportRefusedError, match=words):
        importing.run(asked(file, pictures, tmp_path / "models", **changes))

    assert not (tmp_path / "models").exists()


def test_a_graph_that_was_edited_by_us_before_can_be_edited_again() -> None:
    made = foreign_models.classifier()
    values: Any = np.full((1, 3, 64, 64), 8, np.float32)
    for _ in range(2):
        graph_edits.scale(made, [0.5, 0.5, 0.5], [1.0, 1.0, 1.0])
        graph_edits.soften(made)
    session = predictor.session(made.SerializeToString(), 1)

    (found,) = session.run(None, {"images": values})

    assert found.shape == (1, 2)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", b"\x0a" * 100_000, b"\xff" * 64])
def test_another_file_is_no_model(tmp_path: Path, pictures: Path, content: bytes) -> None:
    (tmp_path / "theirs.onnx").write_bytes(content)
    with pytest.raises(ImportRefusedError, match="no ONNX model"):
        importing.run(asked(tmp_path / "theirs.onnx", pictures, tmp_path / "models"))


def test_a_file_above_the_ceiling_is_not_read(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_CHECKPOINT_MEBIBYTES", "1")
    with (tmp_path / "theirs.onnx").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ImportRefusedError, match="1099511627776 bytes; at most 1048576 are read"):
        importing.run(asked(tmp_path / "theirs.onnx", pictures, tmp_path / "models"))


def test_what_is_missing_is_named(tmp_path: Path, pictures: Path) -> None:
    file = foreign_models.saved(foreign_models.classifier(), tmp_path / "theirs.onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    for changes, words in (
        ({"onnx": str(tmp_path / "none.onnx")}, "none.onnx cannot be read"),
        ({"images": str(tmp_path / "none")}, "is no folder"),
        ({"images": str(tmp_path / "empty")}, "there is no JPEG or PNG"),
        ({"images": str(tmp_path / "damaged")}, "a.png is not used"),
        ({"labels": ["disc", "disc"]}, "'disc' stands there twice"),
        ({"task": Task.SEMANTIC_SEGMENTATION}, "models of Detection, Classification are imported"),
    ):
        with pytest.raises(ImportRefusedError, match=words):
            importing.run(asked(file, pictures, tmp_path / "models", **changes))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (None, "not what its package says"),
        (foreign_models.foreign_operator(), "ONNX Runtime cannot run it on an image"),
        (foreign_models.huge(), "need more memory than there is for a model"),
    ],
    ids=["more classes", "another operator", "400 GB"],
)
def test_a_package_that_says_something_else_of_its_graph_is_not_judged(
    tmp_path: Path, pictures: Path, classified: tuple[str, str], mlflow: MlflowServer, made: Any, why: str
) -> None:
    """The graph runs only in a child. Whatever it consumes or breaks there ends as one sentence."""
    file = foreign_models.saved(foreign_models.classifier(), tmp_path / "theirs.onnx")
    folder = Path(importing.run(asked(file, pictures, tmp_path / "models", mlflow.uri, name="liar")).uri)
    told = json.loads((folder / "package.json").read_text())
    if made is not None:
        foreign_models.saved(made, folder / "model.onnx")
        told["onnxSha256"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        told["files"]["model.onnx"] = told["onnxSha256"]
    else:
        told["labels"] = ["star", *told["labels"]]
    (folder / "package.json").write_text(json.dumps(told))
    digest = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()

    with pytest.raises(JudgingError, match=why):
        judged("", classified, mlflow, tmp_path, model=None, package=str(folder), manifest_sha256=digest)


def test_a_model_that_is_not_what_it_was_is_not_judged(
    tmp_path: Path, classified: tuple[str, str], mlflow: MlflowServer
) -> None:
    client = MlflowClient(mlflow.uri)
    client.create_registered_model("stranger")
    run = client.create_run("0").info.run_id
    tags = {"pelagos.dev/package-uri": "/etc", "pelagos.dev/manifest-sha256": "0" * 64}
    client.create_model_version("stranger", "s3://a/b", run)
    client.create_model_version("stranger", "s3://a/b", run, tags=tags)
    for named, words in {
        "stranger/1": "nothing says where its package is",
        "stranger/2": "which is not below",
        "stranger": "which is not below",
        "stranger/9": "there are versions 1, 2",
        "stranger@champion": "no such version",
        "nobody": "versions none",
        "../x": "must be a registered model",
    }.items():
        with pytest.raises(JudgingError, match=words):
            judged(named, classified, mlflow, tmp_path)


def test_classes_are_the_same_when_their_names_are() -> None:
    found = relabelling.between(("b", "c", "a"), ("a", "b", "d"))

    assert found.labels == ("a", "b", "d", "c")
    assert found.places == (1, 3, 0)
    assert len(found.warnings) == 2
    with pytest.raises(relabelling.DifferentClassesError, match="no class of the model is one of the dataset"):
        relabelling.between(("x",), ("a",))
