"""Photos with an EXIF orientation: sizes and boxes are those of the upright image, as in training and serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dataset_versions
import image_sources
from pelagos_contract.dataset import Cleaning
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.preparation import cleaning, integrity, versions
from pelagos_pipelines.serving import images


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_a_version_has_the_size_that_the_server_decodes(tmp_path: Path, orientation: int | None) -> None:
    source = tmp_path / "source"
    image_sources.text(source / "data.yaml", "names: [cod]")
    image_sources.photo(source / "images" / "a.jpg", 60, 40, orientation=orientation)
    image_sources.text(source / "labels" / "a.txt", "0 0.25 0.5 0.5 1")
    version = dataset_versions.write(tmp_path / "store", source)
    (image,) = version.collection.images
    served = images.decode_known(version.blobs["images/a.jpg"].read_bytes())
    turned = orientation is not None and orientation >= 5
    assert (image.width, image.height) == ((40, 60) if turned else (60, 40)) == (served.shape[1], served.shape[0])
    (box,) = image.boxes
    assert (box.x, box.y, box.width, box.height) == (0, 0, served.shape[1] / 2, served.shape[0])


def test_the_yolo_view_is_what_ultralytics_takes_for_the_upright_image(tmp_path: Path) -> None:
    source = tmp_path / "source"
    image_sources.photo(source / "a.jpg", 60, 40, orientation=6)
    image_sources.document(source / "annotations.json", image_sources.coco({"a.jpg": [[0, 0, 20, 30]]}, size=(40, 60)))
    version = dataset_versions.write(tmp_path / "store", source)
    versions.materialise(version.folder, "yolo", tmp_path / "view")
    (label,) = (tmp_path / "view" / "labels").rglob("*.txt")
    assert [float(column) for column in label.read_text().split()] == [0, 0.25, 0.25, 0.5, 0.5]


def test_boxes_that_were_drawn_on_the_lying_image_are_refused(tmp_path: Path) -> None:
    image_sources.photo(tmp_path / "a.jpg", 60, 40, orientation=6)
    content: Any = image_sources.coco({"a.jpg": [[0, 0, 20, 30]]}, size=(60, 40))
    image_sources.document(tmp_path / "annotations.json", content)
    inspections = integrity.inspect_tree(image_sources.tree_of(tmp_path), tmp_path / ".inspections")
    with pytest.raises(RefusedError, match=r"annotated as 60 x 40 pixels, but is 40 x 60 \(upright") as caught:
        cleaning.clean(image_sources.read(tmp_path), inspections, Cleaning())
    assert caught.value.failure.reason is Reason.FORMAT_INVALID
