"""Calibrated trainings: what validation yields goes into the package, and how the test split then looks goes into the result.

The steps run as the pipeline calls them, with real trainings. The package is evaluated again by the code of `pelagos evaluate`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_servers import MlflowServer
from pelagos.engines.triton.package import Manifest
from pelagos_contract.families import by_architecture
from pelagos_contract.imports import EvaluationRequest, Tracked
from pelagos_contract.training import TrainingResult
from pelagos_pipelines.serving import images, predictor
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.steps import judging
from pelagos_pipelines.steps.stages import perform
from training.shapes import CLASSES, make_request, make_version

BOTH = {"calibration": True, "perClassThresholds": True}
"""Both settings of the request's ``evaluation``."""
EPOCHS = {"mobilenet_v3_small": (20, 2, "0.002"), "yolov8n-obb": (80, 4, "0.005")}
"""Images, epochs and learning rate after which a model gets some images right and others wrong."""
STAGES = ("train", "evaluate", "export")


class Trained:
    """A training and what its steps leave."""

    def __init__(self, architecture: str, folder: Path) -> None:
        self.folder = folder
        task, (count, epochs, rate) = by_architecture()[architecture].task, EPOCHS[architecture]
        self.uri, self.version = make_version(folder / "dataset", (count, 32, 16), task)
        request = make_request(architecture, self.uri, self.version, epochs=epochs, learningRate=rate, evaluation=BOTH)
        places = [str(folder / name) for name in ("data", "models", "report", "workspace")]
        self.parameters = (request.model_dump_json(by_alias=True), *places, "", "")
        self.perform(*STAGES)

    def perform(self, *stages: str) -> None:
        perform(stages, *self.parameters)

    @property
    def result(self) -> TrainingResult:
        return TrainingResult.model_validate_json((self.folder / "report" / "result.json").read_text())

    @property
    def package(self) -> Path:
        return Path(self.result.model.uri)

    @property
    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.package / "package.json").read_text())
        return found


@pytest.fixture(scope="module", params=EPOCHS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(request.param, tmp_path_factory.mktemp(request.param))


def test_the_package_has_what_was_found_on_validation(trained: Trained) -> None:
    found, chosen = trained.described, json.loads((trained.folder / "workspace/measurement.json").read_text())
    sure = chosen["calibration"]

    assert found["schemaVersion"] == 3
    assert found["calibration"] == sure["scaling"]
    assert found["thresholds"]["classes"] == sure["thresholds"]
    assert sure["thresholds"].keys() == {"disc", "square"}
    assert sure["validation"]["images"] == 32
    assert sure["validation"]["negativeLogLikelihood"] <= sure["validation"]["negativeLogLikelihoodUncalibrated"]
    assert Manifest.model_validate_json((trained.package / "package.json").read_bytes()).schema_version == 3
    metrics = trained.result.metrics
    assert None not in {metrics["test/ECE"], metrics["test/ECE-uncalibrated"]}
    assert (trained.folder / "workspace/figures/reliability.png").stat().st_size > 10_000


def test_the_known_answer_is_what_a_server_of_the_package_tells(trained: Trained) -> None:
    known = json.loads((trained.package / "probe.json").read_text())
    served = predictor.load(trained.package, trained.result.model.manifest_sha256)
    general = Thresholds(max_detections=trained.described["thresholds"]["maxDetections"])
    asked = general.of(served.settings.labels, served.settings.confidences)
    probe = images.decode_known((trained.package / "probe.png").read_bytes())
    (answer,) = served.predict([probe], asked)
    told = answer.render(served.settings.labels)
    assert told.keys() == known.keys()
    for results in {"classes", "detections"} & told.keys():
        score = "probability" if results == "classes" else "score"
        pairs = [(one["label"], pytest.approx(one[score], abs=0.01)) for one in known[results]]
        assert [(one["label"], one[score]) for one in told[results]] == pairs


def test_a_server_of_the_package_tells_other_scores_than_its_network(trained: Trained) -> None:
    probe = images.decode_known((trained.package / "probe.png").read_bytes())
    graph, settings = predictor.read(trained.package)
    told, own = (
        Predictor(graph, each).predict([probe], Thresholds(confidence=0.001))[0]
        for each in (settings, replace(settings, scaling=None))
    )

    assert told.render(CLASSES) != own.render(CLASSES)


def test_the_package_is_judged_as_it_was_measured(trained: Trained, mlflow: MlflowServer, tmp_path: Path) -> None:
    judged = judging.run(
        EvaluationRequest(
            dataset="shapes",
            dataset_version=trained.version,
            dataset_uri=trained.uri,
            package=trained.result.model.uri,
            manifest_sha256=trained.result.model.manifest_sha256,
            packages=str(tmp_path),
            tracked=Tracked(uri=mlflow.uri, namespace="default"),
        )
    )
    measured = {name: value for name, value in trained.result.metrics.items() if name.startswith("test/")}

    assert judged.metrics.keys() == measured.keys()
    for name, value in measured.items():
        # Two runtimes compute slightly different scores, so a detection may fall on the other side of a threshold.
        assert judged.metrics[name] == (None if value is None else pytest.approx(value, abs=0.03)), name


@pytest.mark.parametrize("trained", ["mobilenet_v3_small"], indirect=True)
def test_a_step_that_was_killed_before_it_had_ended_finds_the_same_numbers(trained: Trained) -> None:
    """For one family only: resuming is the step's work, whatever the task measures."""
    first, package = trained.result, trained.package
    for name in ("workspace/measurement.json", "workspace/evaluation.json", "report/result.json"):
        (trained.folder / name).unlink()
    (trained.folder / "workspace/figures/calibration.json").write_text('{"scal')
    trained.perform("evaluate", "export")

    assert trained.package == package
    assert trained.result.model_copy(update={"cost": first.cost}) == first
    assert np.isfinite(
        json.loads((trained.folder / "workspace/figures/calibration.json").read_text())["scaling"]["offset"]
    )
