"""A third party's source, format and family: one module each, registered by a call, and the whole pipeline runs with them."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from pydantic import ValidationError

from extension_example import circles, descriptions, format, source
from image_sources import document, photo, read, text, tree_of
from mlflow_servers import MlflowServer
from pelagos_contract import families, formats, sources, tasks
from pelagos_contract.dataset import PreparationRequest
from pelagos_contract.failures import RefusedError
from pelagos_contract.registry import UnknownNameError
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingResult
from pelagos_pipelines.annotations import tasks as annotating
from pelagos_pipelines.annotations.model import Asked
from pelagos_pipelines.annotations.registry import FORMATS
from pelagos_pipelines.evaluation import tasks as evaluation
from pelagos_pipelines.export import tasks as exporting
from pelagos_pipelines.preparation import versions
from pelagos_pipelines.serving import images, predictor
from pelagos_pipelines.serving import tasks as serving
from pelagos_pipelines.sources.registry import PLACES
from pelagos_pipelines.steps.evaluate import evaluate
from pelagos_pipelines.steps.export import export
from pelagos_pipelines.steps.prepare import prepare
from pelagos_pipelines.steps.train import train
from pelagos_pipelines.training.families import FAMILIES, Offered, offered
from training.shapes import make_request

PREPARATION = {"source": {"archive": {"file": "plankton.zip"}}, "task": "Classification"}


@pytest.fixture
def registered() -> Iterator[None]:
    """The extensions, registered in the tables together with their code."""
    with descriptions.registered(), ExitStack() as undone:
        PLACES.register(source.PLACE)
        undone.callback(PLACES.withdraw, source.PLACE.name)
        for known in (format.FORMAT, circles.FORMAT):
            FORMATS.register(known)
            undone.callback(FORMATS.withdraw, known.name)
        FAMILIES.register(Offered(descriptions.FAMILY, "extension_example.family"))
        undone.callback(FAMILIES.withdraw, descriptions.FAMILY.name)
        yield


def prepared(folder: Path, **more: object) -> dict[str, Any]:
    """The result for an archive with a table of twelve images of two classes."""
    (folder / "data").mkdir()
    rows = []
    with zipfile.ZipFile(folder / "data/plankton.zip", "w") as archive:
        for number in range(12):
            drawn = photo(folder / f"{number}.png", seed=number)
            archive.write(drawn, drawn.name)
            rows.append(f"{drawn.name},{('copepod', 'diatom')[number % 2]}\n")
        archive.writestr(format.FILE, "".join(rows))
    request = json.dumps(PREPARATION | more)
    prepare(request, *(str(folder / name) for name in ("data", "store", "preparation")))
    result: dict[str, Any] = json.loads((folder / "preparation/result.json").read_text())
    return result


@pytest.mark.usefixtures("registered")
def test_an_archive_with_a_table_becomes_a_version_a_model_and_a_package(tmp_path: Path, mlflow: MlflowServer) -> None:
    version = prepared(tmp_path)
    assert [one["name"] for one in version["classes"]] == ["copepod", "diatom"]
    assert version["files"]["annotations"] == 1

    request = {
        "dataset": {"name": "plankton", "version": version["version"], "uri": version["uri"]},
        "task": "Classification",
        "model": {"architecture": "tiny_cnn"},
        "hyperparameters": {"epochs": 2, "imageSize": 32},
    }
    run = MlflowClient(mlflow.uri).create_run("0").info.run_id
    data, models, report, workspace = (str(tmp_path / name) for name in ("data", "models", "report", "workspace"))
    for step in (train, evaluate, export):
        step(json.dumps(request), data, models, report, workspace, mlflow.uri, run)

    result = TrainingResult.model_validate_json((tmp_path / "report/result.json").read_text())
    assert (result.epochs, result.model.labels) == (2, ["copepod", "diatom"])
    assert {"validation/F1", "test/accuracy", "test/F1/copepod"} <= result.metrics.keys()
    package = Path(result.model.uri)
    assert json.loads((package / "package.json").read_text())["family"] == "Tiny"
    probe = images.decode_known((package / "probe.png").read_bytes())
    (answer,) = predictor.load(package, result.model.manifest_sha256).predict([probe])
    known = json.loads((package / "probe.json").read_text())
    assert answer.render(result.model.labels)["classes"][0]["label"] == known["classes"][0]["label"]


@pytest.mark.usefixtures("registered")
def test_what_the_description_of_a_family_says_holds() -> None:
    assert (families.image_size("tiny_cnn"), families.image_size("yolov8n")) == (32, 640)
    request = make_request("tiny_cnn", model={"architecture": "tiny_cnn", "weights": {"path": "a.pt"}})
    with pytest.raises(RefusedError, match="tiny_cnn is trained from random weights alone") as refused:
        offered(request)
    assert refused.value.failure.field == "model.weights"


@pytest.mark.usefixtures("registered")
def test_a_version_has_the_view_of_the_new_format(tmp_path: Path) -> None:
    versions.materialise(prepared(tmp_path, format="Table")["uri"], "table", tmp_path / "view")
    assert len((tmp_path / "view" / format.FILE).read_text().splitlines()) == 12


def test_a_broken_table_is_refused_with_its_line(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / format.FILE, "a.png,cod\na.png\n")
    with pytest.raises(RefusedError, match=r"labels\.csv, line 2 has 1 columns; expected are file and class"):
        format.read(tree_of(tmp_path), lambda _: (40, 30), Asked(Task.CLASSIFICATION))


@pytest.mark.usefixtures("registered")
def test_a_format_with_shapes_is_recognised_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    circle = {"class": "cod", "x": 20, "y": 15, "radius": 5}
    photo(tmp_path / "a.png")
    document(tmp_path / circles.FILE, [{"image": "a.png", "circles": [circle], "note": "murky"}])

    found = read(tmp_path)

    (box,) = found.images[0].boxes
    assert (box.x, box.y, box.width, box.height) == (15, 10, 10, 10)
    assert "1 notes about images are left out" in found.warnings


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"image": "a.png", "circles": [{"class": "cod", "x": 1, "y": 1}]},
            "entry 1: circle 0: it has numbers that are not",
        ),
        ({"image": "a.png", "circles": [5]}, "entry 1: circle 0 is not a circle"),
        ({"image": "a.png"}, "entry 1 has no image or no list of circles"),
    ],
    ids=["no radius", "a number", "no circles"],
)
def test_a_broken_circle_is_refused_by_its_place(tmp_path: Path, entry: object, words: str) -> None:
    photo(tmp_path / "a.png")
    document(tmp_path / circles.FILE, [{"image": "a.png", "circles": []}, entry])
    with pytest.raises(RefusedError, match=rf"circles\.json: {words}"):
        read(tmp_path)


def test_all_that_both_planes_know_has_code_in_each_part() -> None:
    assert PLACES.names == sources.SOURCES.names
    assert FORMATS.names == formats.FORMATS.names, "pelagos_contract/formats.py and annotations/registry.py differ"
    assert FAMILIES.names == families.FAMILIES.names
    for known in (evaluation.TASKS.names, exporting.TASKS.names, tuple(serving.MODULES)):
        assert known == tuple(tasks.TASKS)
    # Versions can also be made for tasks that have no models here.
    assert set(annotating.TASKS.names) == set(Task) >= set(tasks.TASKS)
    assert all(serving.named(task, head).task == task for task in serving.MODULES for head in serving.heads(task))


def test_what_is_not_registered_is_not_there() -> None:
    with pytest.raises(ValidationError, match="archive"):
        PreparationRequest.model_validate(PREPARATION)
    with pytest.raises(ValidationError, match="'Auto', 'ImageFolder', 'Coco'"):
        PreparationRequest.model_validate(PREPARATION | {"source": {"volume": {"path": "a"}}, "format": "Table"})
    with pytest.raises(UnknownNameError, match="there is no family 'Tiny'; there are YOLOv8, MobileNetV3"):
        FAMILIES.named("Tiny")


def test_a_step_without_a_module_that_the_operator_names_ends_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_EXTENSIONS", "acme_plankton")

    with pytest.raises(RefusedError, match=f"{sys.prefix} has no module 'acme_plankton': install the same package"):
        prepare(json.dumps(PREPARATION), *(str(tmp_path / name) for name in ("data", "store", "preparation")))


@pytest.mark.usefixtures("registered")
def test_exactly_one_source_is_named_and_no_name_is_taken_twice() -> None:
    both = {"source": {"archive": {"file": "a"}, "volume": {"path": "a"}}, "task": "Classification"}
    for wrong in (both, both | {"source": {}}):
        with pytest.raises(ValidationError, match=f"exactly one of {', '.join(sources.SOURCES.names)} must be set"):
            PreparationRequest.model_validate(wrong)
    with pytest.raises(ValueError, match="a format 'Table' already exists"):
        FORMATS.register(format.FORMAT)
