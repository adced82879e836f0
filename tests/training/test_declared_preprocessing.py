"""What a dataset declares to be done to pixels reaches training, the package and its server, and is the same for all."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.engines.triton import outputs as model_outputs
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.serving import color, images, predictor, sketches
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.steps.evaluate import evaluate
from pelagos_pipelines.steps.export import export
from pelagos_pipelines.steps.train import train
from training.shapes import make_request, make_version
from training.test_steps import Place

DECLARED = {"yolov8n": "GrayWorld", "mobilenet_v3_small": "Clahe"}


@dataclass(frozen=True)
class Trained:
    """A training of images that are to be corrected by ``method``, and its package."""

    method: str
    request: Any
    package: Path
    described: dict[str, Any]
    served: Predictor

    @property
    def probe(self) -> bytes:
        """The encoded image of the known answer."""
        return (self.package / "probe.png").read_bytes()


@pytest.fixture(scope="module", params=DECLARED)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    architecture, method = request.param, DECLARED[request.param]
    folder = tmp_path_factory.mktemp(architecture)
    version = make_version(folder, (6, 3, 3), architecture.startswith("yolo"), preprocessing={"color": method})
    asked = make_request(architecture, *version, epochs=2)
    place = Place(folder)
    for step in (train, evaluate, export):
        step(*place.parameters(asked.model_dump_json(by_alias=True)))
    result = place.result()
    package = Path(result.model.uri)
    described = json.loads((package / "package.json").read_text())
    return Trained(method, asked, package, described, predictor.load(package, result.model.manifest_sha256))


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
