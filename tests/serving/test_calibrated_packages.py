"""A server returns scores as its package calibrates them, and uses the package's thresholds unless a request has its own.

Real packages in a real Triton. The answers are compared with the definition, applied to the network's own scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pelagos.engines.triton import probe as model_probe
from pelagos.engines.triton.package import Known
from pelagos.ports.serving import DesiredService
from pelagos_contract.training import Parity
from pelagos_pipelines.export import package
from pelagos_pipelines.serving import calibration, packages, predictor
from pelagos_pipelines.serving.predictions import Scaling, Settings, Thresholds
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.training import yolov8
from serving.conftest import Server
from serving.detectors import SIZES, make_checkpoint, make_image

SCALING = Scaling(2.0, -1.0)
IMAGE = make_image(*SIZES[0], seed=0)
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()


class Packed:
    """A detector with widely spread scores, packed with and without a calibration. ``network`` returns its own scores."""

    def __init__(self, folder: Path) -> None:
        checkpoint, onnx = make_checkpoint(folder / "best.pt", mean=-1.0, deviation=1.5), folder / "model.onnx"
        self.settings = yolov8.FAMILY.export(checkpoint, onnx)
        self.network = Predictor(onnx.read_bytes(), self.settings)
        self.labels = self.settings.labels
        own = self.network.predict([IMAGE], Thresholds(confidence=0.001))[0]
        told = calibration.scaled(own.scores, SCALING)  # type: ignore[attr-defined]
        ids = own.class_ids  # type: ignore[attr-defined]
        # Between the scores of a class, so that some are above and some below.
        self.confidences = {
            label: float(np.median(told[ids == index])) + 1e-4
            for index, label in enumerate(self.labels)
            if (ids == index).sum() > 3
        }
        self.store, self.onnx = folder / "store", onnx
        self.usual = self.packed(self.settings)
        self.calibrated = self.packed(replace(self.settings, scaling=SCALING, confidences=self.confidences))

    def packed(self, settings: Settings) -> Path:
        told = Predictor(self.onnx.read_bytes(), settings)
        (known,) = told.predict([IMAGE], Thresholds().of(settings.labels, settings.confidences))
        content = package.Content(
            family="YOLOv8",
            architecture="yolov8n",
            dataset={"name": "clouds", "version": "sha256:0"},
            settings=settings,
            onnx=self.onnx,
            parity=Parity(images=1, boxes=0, scores=0),
            probe=IMAGE,
            known=known,
        )
        return package.write(content, self.store).folder

    def expected(self, least: Mapping[str, float], general: float = 0.25) -> list[tuple[str, float]]:
        """The classes and scores that must be returned, by the definition, from everything the network finds."""
        (own,) = self.network.predict([IMAGE], Thresholds(confidence=1e-6))
        odds = np.log(own.scores.astype(float)) - np.log1p(-own.scores.astype(float))  # type: ignore[attr-defined]
        scores = 1 / (1 + np.exp(-(odds / SCALING.temperature + SCALING.offset)))
        named = [self.labels[index] for index in own.class_ids]  # type: ignore[attr-defined]
        return [
            (label, float(score))
            for label, score in zip(named, scores, strict=True)
            if score > least.get(label, general)
        ]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return Packed(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture(scope="module")
def served(triton: Server, packed: Packed) -> Server:
    triton.load(packed.calibrated, "calibrated")
    triton.load(packed.calibrated, "asked-otherwise", confidence="0.3", class_confidences="service")
    triton.load(packed.usual, "usual-scores")
    return triton


def found_by(server: Server, name: str, **parameters: Any) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    answer: dict[str, Any] = json.loads(server.infer(name, [PNG], **parameters)["prediction"][0, 0])
    return answer, [(one["label"], one["score"]) for one in answer["detections"]]


def require_equal(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-3)


def test_scores_are_calibrated_and_each_class_has_its_threshold(served: Server, packed: Packed) -> None:
    answer, found = found_by(served, "calibrated")

    assert len(packed.confidences) > 1
    require_equal(found, packed.expected(packed.confidences))
    assert (answer["calibrated"], answer["thresholds"]) == (True, "Classes")


def test_what_a_service_asks_for_goes_before_the_package(served: Server, packed: Packed) -> None:
    answer, found = found_by(served, "asked-otherwise")

    require_equal(found, packed.expected({}, 0.3))
    assert "thresholds" not in answer


@pytest.mark.parametrize("confidence", [0.1, 0.45, 0, 1, "0.2"])
@pytest.mark.parametrize("name", ["calibrated", "asked-otherwise"])
def test_what_a_request_asks_for_goes_before_both(
    served: Server, packed: Packed, name: str, confidence: float | str
) -> None:
    answer, found = found_by(served, name, confidence=confidence)

    # With a threshold of 0 thousands of anchors with negligible scores would have to be listed.
    require_equal(found, packed.expected({}, float(confidence)) if confidence else found)
    assert answer["thresholds"] == "Request"
    assert (confidence == 1) == (not found)


@pytest.mark.parametrize("confidence", [-0.1, 1.5, "much", True, "nan", "inf"])
def test_a_request_for_what_is_no_confidence_is_refused(served: Server, confidence: Any) -> None:
    with pytest.raises(RuntimeError, match="the parameter 'confidence' must be a number from 0 to 1"):
        served.infer("calibrated", [PNG], confidence=confidence)


def test_a_package_of_before_answers_as_before(served: Server, packed: Packed) -> None:
    answer, found = found_by(served, "usual-scores")
    (expected,) = packed.network.predict([IMAGE])

    require_equal(found, [(one["label"], one["score"]) for one in expected.render(packed.labels)["detections"]])
    assert not {"calibrated", "thresholds"} & answer.keys()
    assert json.loads((packed.usual / "package.json").read_text())["schemaVersion"] == 2


def want(packed: Packed, **changes: Any) -> DesiredService:
    fields: dict[str, Any] = {
        "uid": "u", "namespace": "n", "name": "s", "model_name": "m", "package_uri": str(packed.calibrated),
        "onnx_sha256": "", "manifest_sha256": packed.calibrated.name, "max_batch_size": 8, "max_queue_delay": 0,
        "instances": 1, "confidence": "0.25", "iou": "0.7", "cpu": 1, "digest": "d",
    }  # fmt: skip
    return DesiredService(**fields | changes)


def test_the_probe_of_a_calibrated_package_passes_and_tells_a_server_that_does_not_calibrate(
    served: Server, packed: Packed
) -> None:
    known: Known = model_probe.read(packed.calibrated)

    def judged(name: str, **changes: Any) -> str | None:
        return model_probe.compare(known.expected, found_by(served, name)[0], known.thresholds, want(packed, **changes))

    assert judged("calibrated") is None
    assert judged("asked-otherwise", confidence="0.3") is None
    assert "missing" in (judged("usual-scores") or "") or "not expected" in (judged("usual-scores") or "")


def test_predictors_apply_what_the_server_applies(packed: Packed) -> None:
    model = predictor.load(packed.calibrated)
    (found,) = model.predict([IMAGE], Thresholds().of(packed.labels, packed.confidences))
    graph, settings = predictor.read(packed.calibrated)
    (own,) = Predictor(graph, replace(settings, scaling=None)).predict([IMAGE])

    require_equal(
        [(packed.labels[i], float(s)) for i, s in zip(found.class_ids, found.scores, strict=True)],  # type: ignore[attr-defined]
        packed.expected(packed.confidences),
    )
    assert own.render(packed.labels) == packed.network.predict([IMAGE])[0].render(packed.labels)
    assert packages.read(packed.calibrated)[0].confidences == packed.confidences
