"""Boxes checked against their images, for any box: one inside is kept as it is, a pixel of overhang is cut, the rest refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import dataset_versions
import image_sources
from pelagos_contract.dataset import Cleaning
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.preparation import cleaning, versions
from pelagos_pipelines.preparation.integrity import Inspection

WIDTH, HEIGHT = 640, 480
INSPECTION = Inspection("0" * 64, 1000, WIDTH, HEIGHT, "0" * 64)


def _clean(box: Box) -> Box:
    collection = Collection(Task.DETECTION, ("cod",), (ImageRecord("a.png", boxes=(box,)),))
    (image,) = cleaning.clean(collection, {"a.png": INSPECTION}, Cleaning()).collection.images
    return image.boxes[0]


def _coordinates(limit: int, slack: float = 0.0) -> st.SearchStrategy[tuple[float, float]]:
    """The two ends of a box on an axis, the lower one first."""
    ends = st.floats(-slack, limit + slack, allow_nan=False, width=32)
    return st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))


@given(x=_coordinates(WIDTH), y=_coordinates(HEIGHT))
def test_a_box_inside_is_kept_as_it_is(x: tuple[float, float], y: tuple[float, float]) -> None:
    assume(x[1] - x[0] > 0.01 and y[1] - y[0] > 0.01)
    box = Box("cod", x[0], y[0], x[1] - x[0], y[1] - y[0])
    assert _clean(box) == box


@given(x=_coordinates(WIDTH, slack=1), y=_coordinates(HEIGHT, slack=1))
def test_a_pixel_of_overhang_is_cut_at_the_edge(x: tuple[float, float], y: tuple[float, float]) -> None:
    assume(min(x[1], WIDTH) - max(x[0], 0) > 0.01 and min(y[1], HEIGHT) - max(y[0], 0) > 0.01)
    box = _clean(Box("cod", x[0], y[0], x[1] - x[0], y[1] - y[0]))
    assert box.x == max(x[0], 0)
    assert box.y == max(y[0], 0)
    assert box.x + box.width == pytest.approx(min(x[1], WIDTH))
    assert box.y + box.height == pytest.approx(min(y[1], HEIGHT))
    assert box.x + box.width <= WIDTH + 1e-6
    assert box.y + box.height <= HEIGHT + 1e-6


@pytest.mark.parametrize(
    ("x", "y", "width", "height"),
    [
        (-1.5, 0, 10, 10),
        (0, -1.5, 10, 10),
        (0, 0, WIDTH + 1.5, 10),
        (0, 0, 10, HEIGHT + 1.5),
        (WIDTH, 0, 1, 1),
        (5, 5, 0, 10),
        (5, 5, 10, 0),
        (5, 5, -3, 10),
        (float("nan"), 0, 1, 1),
        (0, 0, float("inf"), 1),
    ],
)
def test_a_box_elsewhere_or_without_area_is_refused(x: float, y: float, width: float, height: float) -> None:
    with pytest.raises(RefusedError, match=r"a\.png \(cod: ") as caught:
        _clean(Box("cod", x, y, width, height))
    assert caught.value.failure.reason is Reason.ANNOTATION_OUTSIDE_IMAGE


def test_boxes_survive_all_formats_within_a_thousandth_of_a_pixel(tmp_path: Path) -> None:
    """From COCO to a version, by its view in each other format to another version, then to COCO: the same boxes as drawn."""
    drawn = {
        f"{index}.png": [[0.1 + index, 0.2, 33.3 / (1 + index), 29.7], [0.0, 0.0, 40.0, 30.0]] for index in range(5)
    }
    source = tmp_path / "source"
    for seed, name in enumerate(drawn):
        image_sources.photo(source / name, seed=seed)
    image_sources.document(source / "annotations.json", image_sources.coco(drawn))
    for number, view in enumerate(("yolo", "voc", "cvat", "labelstudio", "ifdo", "coco")):
        version = dataset_versions.write(tmp_path / f"store{number}", source)
        source = tmp_path / view
        versions.materialise(version.folder, view, source)
    found = {image.path[-5:]: image.boxes for image in image_sources.read(source).images}
    for name, boxes in drawn.items():
        want = [pytest.approx(box, abs=1e-3) for box in sorted(boxes)]
        assert [[box.x, box.y, box.width, box.height] for box in found[name]] == want
