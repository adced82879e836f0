"""The detector is trained on every image of a version, and on the same pixels as the server sees."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import image_sources
import untrusted_images
from pelagos_pipelines.serving import color, images
from pelagos_pipelines.training import yolov8, yolov8_trainer


def test_training_sees_every_image_as_the_server_does(tmp_path: Path) -> None:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    steps: Any = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    files = {
        "dark.png": bytes(cv2.imencode(".png", steps // 16)[1].tobytes()),
        "twelve.png": bytes(cv2.imencode(".png", steps)[1].tobytes()),
        "unended.jpg": untrusted_images.photo(side=(64, 64))[:-2],
        "followed.jpg": untrusted_images.photo(side=(64, 64)) + b"more",
    }
    for name, content in files.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(content)
        image_sources.text(tmp_path / "labels" / f"{Path(name).stem}.txt", "0 0.5 0.5 0.5 0.5")

    assert yolov8.FAMILY  # ours configures ultralytics before any other part of it is loaded
    data = {"names": {0: "cod"}, "channels": 3}
    found = YOLODataset(str(tmp_path / "images"), imgsz=64, augment=False, hyp=get_cfg(), data=data)

    assert sorted(Path(one).name for one in found.im_files) == sorted(files)
    for number, file in enumerate(found.im_files):
        content = files[Path(file).name]
        assert np.array_equal(found.load_image(number)[0], images.decode_known(content))
        assert Path(file).read_bytes() == content


@pytest.mark.parametrize("method", color.METHODS)
def test_training_sees_images_corrected_as_the_server_does(tmp_path: Path, method: str) -> None:
    assert yolov8.FAMILY
    from ultralytics.data import base

    content = untrusted_images.photo(side=(64, 64))
    (tmp_path / "a.jpg").write_bytes(content)

    with yolov8_trainer.showing(method):
        found = base.imread(str(tmp_path / "a.jpg"))

    assert np.array_equal(base.imread(str(tmp_path / "a.jpg")), images.decode_known(content))
    assert np.array_equal(found, color.corrected(images.decode_known(content), method))


def test_images_of_sixteen_bits_do_not_turn_black() -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20), 200, np.uint16)).save(file, "PNG")
    assert images.decode_known(file.getvalue()).max() == 200
