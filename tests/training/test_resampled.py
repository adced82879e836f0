"""The stage evaluate leaves slices, intervals and their evidence, the same on every start; the package is kept with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract import disk
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.flows import TRAINING
from pelagos_contract.tasks import Task
from pelagos_contract.training import Champion, TrainingRequest, TrainingResult
from pelagos_pipelines.evaluation import evidence
from pelagos_pipelines.steps import resampled
from pelagos_pipelines.steps.stages import perform
from training.shapes import make_request, make_version

CAPTURE = {"from": "Folder", "pattern": "{*}/{site}/{deployment}.png"}
"""For images in class folders: the class is the site, and each image is a separate deployment."""
SLICES = {"slices": ["site"]}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("version"), (4, 2, 12), Task.CLASSIFICATION, capture=CAPTURE)


def request_for(version: tuple[str, str], **changes: Any) -> TrainingRequest:
    return make_request("mobilenet_v3_small", *version, imageSize=32, **{"evaluation": SLICES, **changes})


def parameters(folder: Path, request: TrainingRequest, *tracked: str) -> tuple[str, str, str, str, str, str, str]:
    data, store, report, workspace = (str(folder / name) for name in ("data", "store", "report", "workspace"))
    uri, run = tracked or ("", "")
    return request.model_dump_json(by_alias=True), data, store, report, workspace, uri, run


def result_of(folder: Path) -> TrainingResult:
    return TrainingResult.model_validate_json((folder / "report" / "result.json").read_text())


@pytest.fixture(scope="module")
def whole(version: tuple[str, str], mlflow: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, client = tmp_path_factory.mktemp("whole"), MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    asked = parameters(folder, request_for(version), mlflow.uri, run)
    perform(TRAINING.stages, *asked)
    return folder, result_of(folder), client, run, asked


def trained(whole: Any, folder: Path, version: tuple[str, str]) -> tuple[str, str, str, str, str, str, str]:
    """The parameters of a run that is trained but not yet evaluated."""
    done = ("evaluation.json", "measurement.json", "figures")
    shutil.copytree(whole[0] / "workspace", folder / "workspace", ignore=shutil.ignore_patterns(*done))
    return parameters(folder, request_for(version))


def test_a_result_has_slices_with_intervals_and_the_worst(whole: Any) -> None:
    _, result, _, _, _ = whole
    (field,) = result.slices
    values = {one.value: result.metrics[f"slice/site/{one.value}/accuracy"] for one in field.slices}

    assert (field.field, field.metric, field.worst) == ("site", "accuracy", min(values, key=lambda site: values[site]))
    assert [(one.value, one.images, one.objects, one.by, one.groups) for one in field.slices] == [
        ("disc", 6, 6, "deployment", 6),
        ("square", 6, 6, "deployment", 6),
    ]
    assert result.metrics["worst/site/accuracy"] == min(values.values())
    assert result.intervals.keys() == {"slice/site/disc/accuracy", "slice/site/square/accuracy"}
    told = result.resampling
    assert told is not None
    assert (told.by, told.groups, told.why) == (
        "site",
        2,
        "there are 2 different values of site, and an interval needs 5",
    )


def test_the_package_is_kept_with_its_evidence_and_mlflow_has_it(whole: Any, tmp_path: Path) -> None:
    folder, result, client, run, _ = whole
    kept = evidence.read(Path(result.evidence.uri), result.evidence.sha256)
    assert Path(result.evidence.uri).parent == folder / "store" / "evidence"
    assert (kept.test, kept.version, len(kept.images)) == (
        result.evidence.test,
        json.loads(whole[4][0])["dataset"]["version"],
        12,
    )
    told = client.get_run(run).data.metrics
    for name in ("slice/site/disc/accuracy", "slice/site/square/F1", "worst/site/accuracy"):
        assert told[name] == pytest.approx(result.metrics[name])
    intervals = json.loads(Path(client.download_artifacts(run, "evaluation/intervals.json", str(tmp_path))).read_text())
    assert intervals["intervals"] == {name: one.model_dump() for name, one in result.intervals.items()}
    again = Path(client.download_artifacts(run, "evaluation/evidence.npz", str(tmp_path)))
    assert again.read_bytes() == Path(result.evidence.uri).read_bytes()
    assert "figures/slices.png" in [item.path for item in client.list_artifacts(run, "figures")]


def test_a_stage_that_is_killed_before_its_state_was_written_leaves_the_same(
    whole: Any, version: tuple[str, str], tmp_path: Path
) -> None:
    _, result, _, _, _ = whole
    asked = trained(whole, tmp_path, version)
    child = os.fork()
    if not child:
        disk.write_atomically = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        perform(("evaluate",), *asked)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "workspace/figures/evidence.npz").exists() is False
    perform(("evaluate",), *asked)

    again, before = (json.loads((folder / "workspace/evaluation.json").read_text()) for folder in (tmp_path, whole[0]))
    assert {name: again[name] for name in again if name != "at"} == {
        name: before[name] for name in before if name != "at"
    }
    assert again["evidence"]["sha256"] == result.evidence.sha256


def test_evidence_that_others_have_altered_is_not_kept_as_ours(
    whole: Any, version: tuple[str, str], tmp_path: Path
) -> None:
    asked = trained(whole, tmp_path, version)
    perform(("evaluate",), *asked)
    (tmp_path / "workspace/figures/evidence.npz").write_bytes(b"other")
    with pytest.raises(RefusedError, match="the evidence of the evaluation") as refused:
        perform(("export",), *asked)
    assert refused.value.failure.reason is Reason.WORKSPACE_ALTERED


def test_a_field_that_no_image_has_is_refused_before_anything_is_trained(
    version: tuple[str, str], tmp_path: Path
) -> None:
    request = request_for(version, evaluation={"slices": ["depthBand"]})
    with pytest.raises(RefusedError):
        perform(TRAINING.stages, *parameters(tmp_path, request))
    failure = json.loads((tmp_path / "report/failure.json").read_text())
    assert (failure["reason"], failure["field"]) == ("SlicesImpossible", "spec.evaluation.slices")
    assert failure["message"].endswith("fields that they have: site, deployment")
    assert not list((tmp_path / "workspace").glob("**/*.pt"))


def test_several_seeds_have_slices_of_their_means(version: tuple[str, str], tmp_path: Path) -> None:
    perform(TRAINING.stages, *parameters(tmp_path, request_for(version, seed=3, seeds=[3, 1])))
    result = result_of(tmp_path)
    (field,) = result.slices
    for one in field.slices:
        name = f"slice/site/{one.value}/accuracy"
        each = [seed.metrics[name] for seed in result.seeds]
        assert result.metrics[name] == pytest.approx(sum(value or 0 for value in each) / 2)
        assert name in result.deviations
    worst = [result.metrics[f"slice/site/{one.value}/accuracy"] or 0 for one in field.slices]
    assert result.metrics["worst/site/accuracy"] == pytest.approx(min(worst))
    assert not any(name.startswith("worst/") for name in result.deviations)
    assert result.evidence is not None
    model = json.loads((tmp_path / f"workspace/seeds/{result.seed}/evaluation.json").read_text())
    assert result.evidence.sha256 == model["evidence"]["sha256"], "of the model that is packaged"


def test_a_search_measures_slices_of_its_model_alone(version: tuple[str, str], tmp_path: Path) -> None:
    search = {"method": "Grid", "trials": 2, "space": {"learningRate": {"values": ["0.001", "0.002"]}}}
    perform(TRAINING.stages, *parameters(tmp_path, request_for(version, search=search)))
    assert [one.value for one in result_of(tmp_path).slices[0].slices] == ["disc", "square"]
    assert len(list((tmp_path / "workspace").rglob("evidence.npz"))) == 1


def test_a_stage_of_an_earlier_release_left_no_evidence_and_is_exported(
    whole: Any, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = trained(whole, tmp_path, version)
    nothing = resampled.Further({}, [], {})
    with monkeypatch.context() as before:
        before.setattr(resampled, "of_model", lambda *_: nothing)
        perform(("evaluate",), *asked)
    perform(TRAINING.stages, *asked)
    result = result_of(tmp_path)
    assert (result.evidence, result.resampling, result.slices) == (None, None, [])


def champion(result: TrainingResult, number: str, **changes: str) -> Champion:
    assert result.evidence is not None
    asked = {"name": "fish@champion", "version": number, "evidence_uri": result.evidence.uri}
    return Champion.model_validate({**asked, "evidence_sha256": result.evidence.sha256, **changes})


def test_another_champion_is_compared_with_by_a_further_attempt_that_trains_and_measures_nothing(
    whole: Any, version: tuple[str, str], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    done = ("train.json", "measurement.json", "evaluation.json", "checkpoints/best.pt", "figures/evidence.npz")
    states = {name: (tmp_path / "workspace" / name).stat().st_mtime_ns for name in done}
    for number in ("3", "4"):
        asked = request_for(version).model_copy(update={"champions": [champion(whole[1], number)]})
        perform(TRAINING.stages, *parameters(tmp_path, asked))
        (found,) = result_of(tmp_path).champions
        assert (found.name, found.version, found.why, found.level) == ("fish@champion", number, None, 0.95)
        assert (
            found.metrics["accuracy"].value == found.metrics["accuracy"].champion == whole[1].metrics["test/accuracy"]
        )
        assert found.no_interval == (whole[1].resampling and whole[1].resampling.why), "two sites are too few groups"

    assert {name: (tmp_path / "workspace" / name).stat().st_mtime_ns for name in done} == states
    assert result_of(tmp_path).model_copy(update={"champions": []}) == whole[1]


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"evidence_uri": "/nowhere/evidence.npz"}, "cannot be read: [Errno 2] No such file or directory"),
        ({"evidence_sha256": "sha256:" + "0" * 64}, "cannot be read: its SHA-256 is not sha256:000"),
        ({"evidence_uri": "/dev/zero"}, "cannot be read: it is no file"),
    ],
    ids=["gone", "altered", "endless"],
)
def test_a_champion_that_cannot_be_read_fails_no_training_and_says_why(
    whole: Any, version: tuple[str, str], tmp_path: Path, changes: dict[str, str], want: str
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    asked = request_for(version).model_copy(update={"champions": [champion(whole[1], "3", **changes)]})
    perform(TRAINING.stages, *parameters(tmp_path, asked))

    (found,) = result_of(tmp_path).champions
    assert found.metrics == {}
    assert want in (found.why or "")
