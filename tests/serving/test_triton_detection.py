"""A detection package in a real Triton answers what ``YOLO(best.pt).predict(image)`` gives with its defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from ultralytics import YOLO

import untrusted_images
from pelagos_contract.training import Parity
from pelagos_pipelines.export import package, parity
from pelagos_pipelines.serving import predictor
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.training import yolov8
from serving.conftest import Server
from serving.detectors import LABELS, SIZES, make_checkpoint, make_image


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("detector") / "best.pt")


@pytest.fixture(scope="module")
def packaged(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = checkpoint.with_name("model.onnx")
    settings = yolov8.FAMILY.export(checkpoint, onnx)
    probe = make_image(320, 240, 1)
    (known,) = yolov8.FAMILY.predict(checkpoint, [probe], Thresholds())
    content = package.Content(
        family="YOLOv8",
        architecture="yolov8n",
        dataset={"name": "clouds", "version": "sha256:0"},
        settings=settings,
        onnx=onnx,
        parity=Parity(images=1, boxes=0, scores=0),
        probe=probe,
        known=known,
    )
    return package.write(content, tmp_path_factory.mktemp("store")).folder


@pytest.fixture(scope="module")
def served(triton: Server, packaged: Path) -> Server:
    triton.load(packaged, "detector")
    return triton


def png(image: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", image)[1].tobytes())


def jpeg(image: Pixels) -> bytes:
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> YOLO:
    return YOLO(checkpoint)


def expect(reference: YOLO, file: Path, data: bytes) -> Detections:
    """What a user of ultralytics gets for the file."""
    file.write_bytes(data)
    found = reference.predict(file, verbose=False, save=False)[0]
    height, width = found.orig_shape
    boxes = found.boxes
    return Detections(width, height, boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(np.int32))


def assert_same(answer: dict[str, npt.NDArray[Any]], row: int, want: Detections) -> None:
    """Equal within 1 pixel and 0.01; boxes with almost equal scores may come in another order."""
    count = int(answer["count"][row, 0])
    got = Detections(
        want.width,
        want.height,
        answer["boxes"][row, :count],
        answer["scores"][row, :count],
        answer["class_ids"][row, :count],
    )
    assert count == len(want.scores) > 0
    assert (np.diff(got.scores) <= 0).all()
    parity.compare([want], [got], Thresholds().confidence)


@pytest.mark.parametrize("encode", [png, jpeg])
@pytest.mark.parametrize("size", SIZES)
def test_an_image_gives_the_boxes_of_the_training_framework(
    served: Server, reference: YOLO, tmp_path: Path, size: tuple[int, int], encode: Callable[[Pixels], bytes]
) -> None:
    data = encode(make_image(*size, seed=0))
    want = expect(reference, tmp_path / ("image.png" if encode is png else "image.jpg"), data)
    answer = served.infer("detector", [data])
    assert_same(answer, 0, want)
    rendered = json.loads(answer["prediction"][0, 0])
    assert (rendered["task"], rendered["width"], rendered["height"]) == ("Detection", *size)
    assert [found["classId"] for found in rendered["detections"]] == answer["class_ids"][0].tolist()
    assert {found["label"] for found in rendered["detections"]} <= set(LABELS)


def test_a_batch_of_mixed_sizes_answers_in_order(served: Server, reference: YOLO, tmp_path: Path) -> None:
    images = [png(make_image(*size, seed=1)) for size in SIZES]
    answer = served.infer("detector", images)
    for row, data in enumerate(images):
        assert_same(answer, row, expect(reference, tmp_path / f"{row}.png", data))


def test_the_probe_is_answered_as_the_package_says(served: Server, packaged: Path) -> None:
    answer = served.infer("detector", [(packaged / "probe.png").read_bytes()])
    got, want = (
        parse(text) for text in (answer["prediction"][0, 0], (packaged / "probe.json").read_text(encoding="utf-8"))
    )
    assert len(got.scores) == len(want.scores) > 0
    parity.compare([want], [got], Thresholds().confidence)


def parse(text: str) -> Detections:
    """Detections from their JSON rendering."""
    content = json.loads(text)
    found = content["detections"]
    return Detections(
        content["width"],
        content["height"],
        np.array([item["box"] for item in found]).reshape(-1, 4),
        np.array([item["score"] for item in found]),
        np.array([item["classId"] for item in found], int),
    )


def test_a_broken_image_gets_an_error_alone(served: Server) -> None:
    good = png(make_image(100, 100, 1))
    with pytest.raises(RuntimeError, match="is not JPEG, PNG"):
        served.infer("detector", [b"not an image"])
    assert served.infer("detector", [good])["count"].shape == (1, 1)


def test_every_image_of_a_request_has_its_result(served: Server) -> None:
    one, two = png(make_image(100, 100, 1)), png(make_image(130, 100, 0))
    before = served.refused("detector")

    answer = served.infer("detector", [b"GIF89a", one, one[:-100], two])

    assert ["is not JPEG, PNG" in answer["error"][0, 0], "damaged" in answer["error"][2, 0]] == [True, True]
    assert answer["error"][[1, 3]].tolist() == [[""], [""]]
    rendered = [json.loads(text) for text in answer["prediction"][:, 0]]
    assert [set(row) for row in rendered[::2]] == [{"task", "width", "height", "detections", "error"}] * 2
    assert [(row["width"], row["detections"], row["error"]) for row in rendered[::2]] == [
        (0, [], answer["error"][0, 0]),
        (0, [], answer["error"][2, 0]),
    ]
    for row, data in ((1, one), (3, two)):
        alone = served.infer("detector", [data])
        count = int(alone["count"][0, 0])
        assert int(answer["count"][row, 0]) == count > 0
        np.testing.assert_allclose(answer["boxes"][row, :count], alone["boxes"][0, :count], atol=1e-3)
        labels = [found["label"] for found in json.loads(alone["prediction"][0, 0])["detections"]]
        assert [found["label"] for found in rendered[row]["detections"]] == labels
        assert "error" not in rendered[row]
    assert answer["count"][[0, 2]].tolist() == [[0], [0]]
    assert served.refused("detector") - before == 2


def test_a_request_without_any_image_that_can_be_used_is_an_error_that_names_them(served: Server) -> None:
    good = png(make_image(100, 100, 1))
    with pytest.raises(
        RuntimeError, match=r"none of the 2 images can be used: image 0: .*is not JPEG.*; image 1: .*damaged"
    ):
        served.infer("detector", [b"not an image", good[:-100]])


def test_a_neighbour_is_answered_while_a_bomb_is_decoded(served: Server) -> None:
    bomb, good = untrusted_images.scans(7_000, 7_000, 3_000), png(make_image(100, 100, 1))
    with ThreadPoolExecutor(1) as client:
        refused = client.submit(served.infer, "detector", [good, bomb])
        for _ in range(2):
            assert served.infer("detector", [good])["count"].shape == (1, 1)
            assert not refused.done()
        answer = refused.result()
    assert answer["error"][0, 0] == ""
    assert re.search(r"3 s of processor time.*PELAGOS_MAX_IMAGE_SECONDS", answer["error"][1, 0])
    assert served.infer("detector", [good, good])["count"].shape == (2, 1)


def test_no_bomb_ends_the_server(served: Server) -> None:
    for name in ("a JPEG that claims 65500 x 65500", "a PNG of 8000 x 8000", "a PNG header of 60000 x 60000"):
        with pytest.raises(RuntimeError, match=r"more than 50 megapixels .*PELAGOS_MAX_IMAGE_MEGAPIXELS"):
            served.infer("detector", [untrusted_images.BOMBS[name]()])
    assert served.infer("detector", [png(make_image(100, 100, 1))])["count"].shape == (1, 1)


def test_thresholds_are_parameters_of_the_model(triton: Server, packaged: Path) -> None:
    triton.load(packaged, "strict", confidence="0.5", max_detections="3")
    data = png(make_image(130, 100, 0))
    answer = triton.infer("strict", [data])
    count = int(answer["count"][0, 0])
    assert 0 < count <= 3
    assert (answer["scores"][0, :count] > 0.5).all()


def test_an_answer_that_is_cut_says_so_and_is_counted(served: Server, triton: Server, packaged: Path) -> None:
    triton.load(packaged, "cutting", max_detections="3")
    data = png(make_image(130, 100, 0))
    answer = triton.infer("cutting", [data, data])
    assert answer["count"].tolist() == [[3], [3]]
    assert answer["cut"].tolist() == [[True], [True]]
    assert json.loads(answer["prediction"][0, 0])["cut"] is True
    assert served.infer("detector", [data])["cut"].tolist() == [[False]]
    assert triton.counted("pelagos_cut_answers_total", "cutting") == 2
    assert triton.counted("pelagos_cut_answers_total", "detector") == 0


def test_nothing_found_is_an_answer(triton: Server, packaged: Path) -> None:
    triton.load(packaged, "never", confidence="1.0")
    answer = triton.infer("never", [png(make_image(64, 64, 0))])
    assert answer["count"].tolist() == [[0]]
    assert json.loads(answer["prediction"][0, 0])["detections"] == []


def test_the_predictor_gives_the_same_here_and_in_the_server(served: Server, packaged: Path) -> None:
    """The server has numpy 1 and another OpenCV; this process has numpy 2."""
    image = make_image(320, 240, 0)
    (here,) = predictor.load(packaged, packaged.name).predict([image])
    assert isinstance(here, Detections)
    assert_same(served.infer("detector", [png(image)]), 0, here)
