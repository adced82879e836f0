"""Preprocessing that a dataset declares reaches training, the package and its server, and is the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pelagos.engines.triton import outputs as model_outputs
from pelagos_contract.failures import RefusedError
from pelagos_contract.families import by_architecture
from pelagos_contract.preprocessing import Statistics
from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.serving import color, images, predictor, sketches
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.serving.tasks.classification import DEVIATION, MEAN
from pelagos_pipelines.steps import train as train_step
from pelagos_pipelines.steps.evaluate import evaluate
from pelagos_pipelines.steps.export import export
from pelagos_pipelines.steps.train import train
from pelagos_pipelines.training import classifiers, mobilenet_v3, yolov8, yolov8_trainer
from pelagos_pipelines.training.normalization import Scale
from training.shapes import make_request, make_truth, make_version
from training.test_steps import Place

DECLARED = {"yolov8n": "GrayWorld", "mobilenet_v3_small": "Clahe"}
"""The colour correction of each training. Both normalise their inputs, too."""


@dataclass(frozen=True)
class Trained:
    """A training on images corrected by ``method``, and its package."""

    method: str
    request: Any
    package: Path
    described: dict[str, Any]
    served: Predictor
    warnings: Sequence[str]

    @property
    def probe(self) -> bytes:
        """The encoded image of the package's probe."""
        return (self.package / "probe.png").read_bytes()


@pytest.fixture(scope="module", params=DECLARED)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    architecture, method = request.param, DECLARED[request.param]
    folder = tmp_path_factory.mktemp(architecture)
    declared: dict[str, Any] = {"color": method, "normalization": "DatasetStatistics"}
    if architecture.startswith("yolo"):
        declared["tile"] = {"size": 1024, "overlap": 128}
    else:
        declared["resize"] = {"longest": 512}
    version = make_version(folder, (6, 3, 3), by_architecture()[architecture].task, preprocessing=declared)
    asked = make_request(architecture, *version, epochs=2)
    place = Place(folder)
    for step in (train, evaluate, export):
        step(*place.parameters(asked.model_dump_json(by_alias=True)))
    result = place.result()
    package = Path(result.model.uri)
    described = json.loads((package / "package.json").read_text())
    served = predictor.load(package, result.model.manifest_sha256)
    return Trained(method, asked, package, described, served, result.warnings)


def answer(served: Predictor, probe: bytes) -> dict[str, Any]:
    image = served.fitted(images.decode_known(probe))
    (raw,) = served.outputs([image])
    return {"raw": sketches.packed(served.task.sketch(raw), served.settings.labels), "onnxSha256": served.onnx_sha256}


def test_training_is_given_corrected_pixels_of_untouched_blobs(trained: Trained) -> None:
    sample = ground_truth.read(trained.request).samples("train")[0]

    stored = images.decode_known(sample.file.read_bytes())

    assert np.array_equal(sample.stored(), stored)
    assert np.array_equal(sample.pixels(), color.corrected(stored, trained.method))
    assert not np.array_equal(sample.pixels(), stored)


def test_the_package_says_so_and_its_probe_is_an_image_as_it_is_sent(trained: Trained) -> None:
    samples = ground_truth.read(trained.request).samples("test")
    probe = images.decode_known(trained.probe)

    assert trained.described["input"]["color"] == trained.served.settings.color == trained.method
    assert any(np.array_equal(probe, sample.stored()) for sample in samples)


def test_the_package_carries_the_tiles_and_the_evaluation_says_that_metrics_are_of_tiles(trained: Trained) -> None:
    declared = trained.described["task"] == "Detection"

    assert trained.described["input"].get("tile") == ({"size": 1024, "overlap": 128} if declared else None)
    assert trained.served.settings.tile == ((1024, 128) if declared else None)
    assert trained.served.settings.longest == (None if declared else 512)
    assert any("metrics are of tiles" in one for one in trained.warnings) is declared


def test_a_server_gives_the_known_answer_and_one_that_corrects_nothing_is_found_out(trained: Trained) -> None:
    known, probe = trained.described["probe"], trained.probe
    careless = Predictor(
        (trained.package / "model.onnx").read_bytes(), replace(trained.served.settings, color=None), threads=1
    )

    right, wrong = (answer(one, probe) for one in (trained.served, careless))

    assert model_outputs.compare(known, right, trained.described["onnxSha256"]) is None
    assert right["raw"] != wrong["raw"]


def test_a_child_that_decodes_for_a_server_makes_the_canvas_of_the_export(trained: Trained) -> None:
    settings = trained.served.settings
    decoder = Decoder(settings.task, settings.image_size, settings.stride, color=settings.color)
    try:
        got = decoder.decode(trained.probe)
    finally:
        decoder.close()

    assert np.array_equal(got.canvas, trained.served.fitted(images.decode_known(trained.probe)).canvas)


def test_the_version_has_the_statistics_of_corrected_training_images(trained: Trained) -> None:
    truth = ground_truth.read(trained.request)
    pixels = [sample.pixels()[..., ::-1] / 255 for sample in truth.samples("train")]

    mean = np.mean([one.mean((0, 1)) for one in pixels], axis=0)
    squares = np.mean([np.square(one).mean((0, 1)) for one in pixels], axis=0)

    assert truth.statistics is not None
    assert truth.statistics.mean == pytest.approx(mean.tolist(), abs=1e-6)
    assert truth.statistics.deviation == pytest.approx(np.sqrt(squares - mean**2).tolist(), abs=1e-6)


def test_the_graph_begins_with_the_normalisation_by_them(trained: Trained) -> None:
    truth = ground_truth.read(trained.request)
    assert truth.statistics is not None
    classifies = trained.described["task"] == "Classification"
    given = (MEAN, DEVIATION) if classifies else (np.zeros(3), np.ones(3))
    model = onnx.load(trained.package / "model.onnx")
    graph = model.graph
    graph.output.append(onnx.helper.make_tensor_value_info("pelagos_normalized", onnx.TensorProto.FLOAT, None))
    levels: Any = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    values = (levels - np.reshape(given[0], (1, 3, 1, 1))) / np.reshape(given[1], (1, 3, 1, 1))

    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(["pelagos_normalized"], {graph.input[0].name: values.astype(np.float32)})

    want = (levels - np.reshape(truth.statistics.mean, (1, 3, 1, 1))) / np.reshape(
        truth.statistics.deviation, (1, 3, 1, 1)
    )
    assert found == pytest.approx(want, abs=1e-4)


def test_the_detector_is_trained_and_validated_on_that_scale(tmp_path: Path) -> None:
    """Parity only compares the trained model with its graph. Nothing else would show that training used another scale."""
    from ultralytics.cfg import get_cfg

    assert yolov8.FAMILY
    trainer: Any = yolov8_trainer.Trainer.__new__(yolov8_trainer.Trainer)
    trainer._scale = Scale.to(Statistics(mean=[0.2, 0.4, 0.6], deviation=[0.1, 0.2, 0.3]))
    trainer.device, trainer.args = torch.device("cpu"), get_cfg(overrides={"task": "detect", "mode": "train"})
    trainer.test_loader, trainer.save_dir, trainer.callbacks = None, tmp_path, {}
    validator = trainer.get_validator()
    validator.device = trainer.device
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.2, 0.4, 0.6), (0.1, 0.2, 0.3)))

    files = ["a.png", "b.png"]
    found = [
        use({"img": image.clone(), "im_file": files})["img"] for use in (trainer.preprocess_batch, validator.preprocess)
    ]

    for one in found:
        assert torch.allclose(one, (image / 255 - mean) / deviation, atol=1e-5)


def test_the_classifier_is_trained_and_validated_on_that_scale(tmp_path: Path) -> None:
    truth = make_truth(tmp_path, (2, 1, 1), Task.CLASSIFICATION)
    declared = Statistics(mean=[0.2, 0.4, 0.6], deviation=[0.1, 0.2, 0.3])
    scale = Scale.to(declared, (MEAN.tolist(), DEVIATION.tolist()))

    usual, found = (
        classifiers.DecodedImages(truth.samples("train"), 64, 1, one).batch([0], torch.device("cpu"))[0]
        for one in (None, scale)
    )

    levels = usual * torch.from_numpy(DEVIATION).view(1, 3, 1, 1) + torch.from_numpy(MEAN).view(1, 3, 1, 1)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (declared.mean, declared.deviation))
    assert torch.allclose(found, (levels - mean) / deviation, atol=1e-5)


def test_a_channel_that_is_the_same_everywhere_is_not_divided_by_nothing() -> None:
    scale = Scale.to(Statistics(mean=[0.0, 0.5, 1.0], deviation=[0.0, 0.2, 0.0]))

    assert scale is not None
    assert scale.factors == pytest.approx((255, 5, 255))


def test_a_family_that_does_not_heed_statistics_is_refused(tmp_path: Path) -> None:
    version = make_version(
        tmp_path, (2, 1, 1), Task.CLASSIFICATION, preprocessing={"normalization": "DatasetStatistics"}
    )
    known = ground_truth.read(make_request("mobilenet_v3_small", *version))
    other: Any = SimpleNamespace(DESCRIPTION=replace(mobilenet_v3.FAMILY.DESCRIPTION, normalizes=False))

    train_step._require_heeded(known, mobilenet_v3.FAMILY)
    with pytest.raises(RefusedError, match="which the family MobileNetV3 does not heed"):
        train_step._require_heeded(known, other)
