"""Another model in place of the package's own answers the probe differently, in the server, however low the scores of both are.

The models never reach the threshold, so both answer with no detections. The package is made as the export makes it, the wrong
graphs are derived from it, and the questions and comparisons are those of the operator's probe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import model_packages
from pelagos.engines.triton import outputs as model_outputs
from pelagos.engines.triton import probe as model_probe
from pelagos.engines.triton.package import Known
from pelagos_contract.failures import RefusedError
from pelagos_contract.training import Parity
from pelagos_pipelines.export import package, parity, probes
from pelagos_pipelines.serving import sketches, tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Floats, Thresholds
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.serving.tasks.detection import DetectionTask
from pelagos_pipelines.training import yolov8
from serving import graphs
from serving.conftest import Server
from serving.detectors import SIZES, make_checkpoint, make_image

WRONG = (graphs.classes_swapped, graphs.colours_swapped, graphs.normalised_otherwise, graphs.scores_halved)
IMAGES = [make_image(*size, seed=0) for size in SIZES]


class Unsure:
    """A detector as after one epoch, all of whose scores are tiny, with its package."""

    def __init__(self, folder: Path) -> None:
        checkpoint, onnx = make_checkpoint(folder / "best.pt", mean=-8, deviation=0.3), folder / "model.onnx"
        self.settings = yolov8.FAMILY.export(checkpoint, onnx)
        self.graph = onnx.read_bytes()
        self.predictor = Predictor(self.graph, self.settings)
        placed = [tasks.named("Detection").fitted(image, self.settings.image_size, 32) for image in IMAGES]
        self.placed: Sequence[Fitted] = placed
        answers = list(yolov8.FAMILY.prove(checkpoint, IMAGES, Thresholds()))
        self.trained = [raw for raw, _ in answers]
        parts = zip(placed, answers, self.predictor.outputs(placed), strict=True)
        candidates = [probes.Candidate(image, raw, output, known) for image, (raw, known), output in parts]
        chosen, outputs = probes.choose(self.predictor, candidates, Thresholds())
        content = package.Content(
            family="YOLOv8",
            architecture="yolov8n",
            dataset={"name": "clouds", "version": "sha256:0"},
            settings=self.settings,
            onnx=onnx,
            parity=Parity(images=1, boxes=0, scores=0),
            probe=IMAGES[chosen],
            known=candidates[chosen].known,
            outputs=outputs,
        )
        self.package = package.write(content, folder / "store").folder
        self.known = model_probe.read(self.package)

    def wrong(self, change: graphs.Wrong) -> bytes:
        """The package's graph after a mistake."""
        return change(self.graph, 4 + len(self.settings.labels))


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Unsure:
    return Unsure(tmp_path_factory.mktemp("unsure"))


def ask(triton: Server, name: str, known: Known) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(triton.infer(name, [known.image], raw=True)["prediction"][0, 0])
    return answer


def verdict(known: Known, answer: dict[str, Any]) -> str | None:
    """The verdict on the outputs alone: the answer's own digest is taken as the expected one."""
    assert known.outputs is not None
    return model_outputs.compare(known.outputs, answer, answer["onnxSha256"])


def test_the_models_are_sure_of_nothing(unsure: Unsure) -> None:
    assert unsure.known.expected["detections"] == []


def test_the_package_is_told_from_every_wrong_one_in_the_server(triton: Server, unsure: Unsure, tmp_path: Path) -> None:
    triton.load(unsure.package, "unsure")
    right = ask(triton, "unsure", unsure.known)
    assert right["onnxSha256"] == hashlib.sha256(unsure.graph).hexdigest()
    assert verdict(unsure.known, right) is None
    for change in WRONG[:2]:
        folder = tmp_path / change.__name__
        manifest, _ = model_packages.altered(unsure.package, folder, {"model.onnx": unsure.wrong(change)})
        triton.load(folder.rename(tmp_path / manifest), change.__name__)
        answer = ask(triton, change.__name__, unsure.known)
        assert answer["detections"] == []
        assert "another model answers" in (verdict(unsure.known, answer) or ""), change
        told = model_outputs.compare(unsure.known.outputs or {}, answer, right["onnxSha256"])
        assert "the server has loaded another graph" in (told or "")


@pytest.mark.parametrize("color", ["GrayWorld", "Clahe"])
def test_a_server_corrects_the_colours_of_images_as_its_package_says(
    triton: Server, unsure: Unsure, tmp_path: Path, color: str
) -> None:
    declared = {"imageSize": unsure.settings.image_size, "stride": 32, "encodings": ["jpeg", "png"], "color": color}
    manifest, _ = model_packages.altered(unsure.package, tmp_path / "changed", {}, input=declared)
    triton.load((tmp_path / "changed").rename(tmp_path / manifest), color)
    answer = ask(triton, color, unsure.known)

    (here,) = answers(Predictor(unsure.graph, replace(unsure.settings, color=color)), unsure.known)
    assert unsure.known.outputs is not None
    corrected = here["raw"] | {"allowed": unsure.known.outputs["allowed"]}
    assert model_outputs.compare(corrected, answer, answer["onnxSha256"]) is None
    assert "another model answers" in (verdict(unsure.known, answer) or "")


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_graph_is_reported(unsure: Unsure, change: graphs.Wrong) -> None:
    (answer,) = answers(Predictor(unsure.wrong(change), unsure.settings), unsure.known)
    assert "another model answers" in (verdict(unsure.known, answer) or "")


def test_serving_code_that_confuses_colours_or_classes_is_reported(
    unsure: Unsure, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(unsure.settings, labels=unsure.settings.labels[::-1])
    (answer,) = answers(Predictor(unsure.graph, settings), unsure.known)
    assert "in another order" in (verdict(unsure.known, answer) or "")
    right = DetectionTask.values
    monkeypatch.setattr(DetectionTask, "values", lambda self, canvases: right(self, canvases)[:, ::-1])
    (answer,) = answers(unsure.predictor, unsure.known)
    assert "another model answers" in (verdict(unsure.known, answer) or "")


def answers(served: Predictor, known: Known) -> list[dict[str, Any]]:
    """The answers of model.py to the probe."""
    from pelagos_pipelines.serving import images

    settings = served.settings
    image = served.fitted(images.decode_known(known.image))
    return [
        served.decode(raw, image, Thresholds()).render(settings.labels)
        | {
            "raw": sketches.packed(served.task.sketch(raw), settings.labels),
            "onnxSha256": served.onnx_sha256,
        }
        for raw in served.outputs([image])
    ]


def outputs(served: Predictor, unsure: Unsure) -> tuple[list[Floats], list[Floats]]:
    """The network's outputs for the images, and for the same images with noise."""
    return served.outputs(unsure.placed), served.outputs([parity.with_noise(image) for image in unsure.placed])


def test_parity_holds_of_the_right_graph(unsure: Unsure) -> None:
    exported, noisy = outputs(unsure.predictor, unsure)
    labels = unsure.settings.labels
    proven = parity.compare_outputs(unsure.trained, exported, noisy, task="Detection", labels=labels)
    assert proven.boxes < 0.01
    assert proven.scores < 1e-5


@pytest.mark.parametrize("change", WRONG)
def test_parity_refuses_a_wrong_graph(unsure: Unsure, change: graphs.Wrong) -> None:
    exported, noisy = outputs(Predictor(unsure.wrong(change), unsure.settings), unsure)
    with pytest.raises(RefusedError, match="before suppression"):
        parity.compare_outputs(unsure.trained, exported, noisy, task="Detection", labels=unsure.settings.labels)
