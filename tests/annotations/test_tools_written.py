"""What CVAT and Label Studio can hold survives writing and reading; the writer counts what they cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from image_sources import photo, read, tree_of
from pelagos_contract.dataset import Change
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import cvat, label_studio, masks, reading, shapes
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, Collection, Format, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape

WIDTH, HEIGHT = 97, 61
TOOLS = {
    "cvat": (cvat.FORMAT, cvat.TOOL, "annotations.xml"),
    "labelstudio": (label_studio.FORMAT, label_studio.TOOL, "tasks.json"),
}
LOST = {"cvat": set[Kind](), "labelstudio": {Kind.KEY_POINTS}}
"""Kinds that a tool cannot represent."""
LABELS = ("cod", 'Ærfugl "3" <&\'>', "鰊 éé")
across, down = st.floats(0, WIDTH, width=32), st.floats(0, HEIGHT, width=32)
length = st.floats(0.5, 50, width=32)
angle = st.floats(0, 359, width=32)
words = st.text(st.characters(exclude_categories=["C"]) | st.sampled_from("\n\t"), min_size=1, max_size=8)


def _points(least: int) -> st.SearchStrategy[tuple[float, ...]]:
    pairs = st.lists(st.tuples(across, down), min_size=least, max_size=6, unique=True)
    return pairs.map(lambda found: tuple(float(one) for pair in found for one in pair))


def _polygon(found: Sequence[float]) -> tuple[Kind, tuple[float, ...], dict[str, Any]]:
    return Kind.POLYGON, tuple(found), {"rings": (len(found) // 2,)}


def _mask(found: tuple[int, int, list[list[bool]]]) -> tuple[Kind, tuple[float, ...], dict[str, Any]]:
    left, top, rows = found
    inside = np.array(rows)
    inside[0, 0] = True
    return Kind.MASK, masks.of_array("x", inside, (left, top)).coordinates, {}


def _of(kind: Kind, *numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.tuples(*numbers).map(lambda found: (kind, tuple(map(float, found)), {}))


KINDS = st.one_of(
    _of(Kind.RECTANGLE, across, down, length, length, angle | st.just(0.0)),
    _of(Kind.ELLIPSE, across, down, length, length, angle | st.just(0.0)),
    _of(Kind.CIRCLE, across, down, length),
    _of(Kind.POINT, across, down),
    _points(3).map(_polygon),
    _points(2).map(lambda found: (Kind.LINE, found, {})),
    _points(2).map(
        lambda found: (
            Kind.KEY_POINTS,
            tuple(v for x, y in zip(found[::2], found[1::2], strict=True) for v in (x, y, 2.0)),
            {},
        )
    ),
    st.just((Kind.TAG, (), {})),
    st.tuples(
        st.integers(0, 80),
        st.integers(0, 50),
        st.integers(1, 9).flatmap(
            lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=9)
        ),
    ).map(_mask),
)
attributes = st.dictionaries(
    words.filter(lambda name: name.strip() and name not in {"meta", "origin"}), words, max_size=2
)


@st.composite
def _shape(draw: st.DrawFn) -> Shape:
    kind, coordinates, more = draw(KINDS)
    said = {} if kind is Kind.TAG else draw(attributes)
    return Shape(draw(st.sampled_from(LABELS)), kind, coordinates, attributes=said, **more)


def collection(*images: ImageRecord, task: Task = Task.INSTANCE_SEGMENTATION) -> Collection:
    return Collection(task, LABELS, images)


def image(*drawn: Shape, path: str = "a.png", **more: Any) -> ImageRecord:
    return ImageRecord(path, WIDTH, HEIGHT, shapes=drawn, **more)


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo(tmp_path_factory.mktemp("blob") / "a.png", WIDTH, HEIGHT)


@pytest.fixture
def again(tmp_path: Path, blob: Path) -> Callable[..., tuple[list[Shape], dict[tuple[str, str], int]]]:
    """Writes an image's shapes and reads them back. Returns the shapes, and what the writer counted."""
    number = iter(range(10**6))

    def written(tool: str, *drawn: Shape) -> tuple[list[Shape], dict[tuple[str, str], int]]:
        format_, reader, file = TOOLS[tool]
        target = tmp_path / str(next(number))
        target.mkdir()
        assert format_.write is not None
        altered = format_.write(target, collection(image(*drawn)), {"a.png": blob})
        faults = Faults()
        ((_, found),) = reading.drawings(reader.parser, tree_of(target), [file], faults)
        faults.refuse_any()
        assert found is not None
        shutil.rmtree(target)
        counted = altered.counts.items() if altered is not None else ()
        return list(found.images[0].shapes), {(kind, str(change)): count for (kind, change), count in counted}

    return written


def _comparable(drawn: Sequence[Shape], tool: str) -> Iterator[Shape]:
    """The shapes as the tool can represent them: it stores circles as ellipses."""
    for shape in drawn:
        if shape.kind is Kind.CIRCLE:
            x, y, radius = shape.coordinates
            yield replace(shape, kind=Kind.ELLIPSE, coordinates=(x, y, radius, radius, 0.0))
        elif shape.kind is Kind.MASK and tool == "labelstudio":
            inside = masks.on_image(shape, WIDTH, HEIGHT)
            if inside.any():
                yield masks.of_array(shape.label, inside, attributes=shape.attributes)
        elif shape.kind not in LOST[tool]:
            yield shape


@pytest.mark.parametrize("tool", TOOLS)
def test_shapes_come_back_as_they_were(tool: str, again: Callable[..., Any]) -> None:
    @hypothesis.seed(1)
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @hypothesis.given(st.lists(_shape(), max_size=8))
    def check(drawn: list[Shape]) -> None:
        found, counted = again(tool, *drawn)
        expected = [*_comparable(drawn, tool)]
        assert [(one.label, one.kind, one.rings) for one in found] == [
            (one.label, one.kind, one.rings) for one in expected
        ]
        for one, other in zip(found, expected, strict=True):
            assert one.coordinates == pytest.approx(other.coordinates, abs=1e-6)
            assert one.attributes == other.attributes
        left = sum(count for (_, change), count in counted.items() if change == Change.LEFT_OUT)
        assert left == len(drawn) - len(expected)

    check()


def test_names_and_visibility_of_key_points_come_back_from_cvat(again: Callable[..., Any]) -> None:
    shape = Shape("cod", Kind.KEY_POINTS, (1, 2, 2, 3, 4, 1, 0, 0, 0), points=("head", "tail", "fin"))

    assert again("cvat", shape) == ([shape], {})


def test_what_cvat_says_itself_comes_back_as_it_was(again: Callable[..., Any]) -> None:
    said = {
        "occluded": "true",
        "source": "auto",
        "z_order": "-2",
        "group_id": "7",
        "attribute.source": "net 4",
        "": "x",
    }
    shape = Shape("cod", Kind.POINT, (1, 2), attributes=said)

    assert again("cvat", shape) == ([shape], {})


def test_a_region_keeps_its_id_its_score_and_what_it_was_made_of(again: Callable[..., Any]) -> None:
    shape = Shape(
        "cod",
        Kind.POINT,
        (1, 2),
        attributes={"origin": "prediction-changed", "meta": "x"},
        confidence=0.25,
        origin="Ab3",
    )

    ((found,), _) = again("labelstudio", shape)

    assert found.coordinates == pytest.approx(shape.coordinates)
    assert replace(found, coordinates=shape.coordinates) == shape


@pytest.mark.parametrize("tool", TOOLS)
def test_a_polygon_with_a_hole_becomes_its_pixels_and_is_counted(tool: str, again: Callable[..., Any]) -> None:
    whole = (10.0, 10.0, 50.0, 10.0, 50.0, 40.0, 10.0, 40.0)
    shape = shapes.polygon("cod", whole, holes=[(20.0, 20.0, 30.0, 20.0, 30.0, 30.0, 20.0, 30.0)])
    speck = shapes.polygon("cod", (1.1, 1.1, 1.2, 1.1, 1.2, 1.2), holes=[(1.1, 1.1, 1.2, 1.1, 1.2, 1.2)])

    (found,), counted = again(tool, shape, speck)

    assert masks.on_image(found, WIDTH, HEIGHT).sum() == 40 * 30 - 100
    assert counted == {("polygon", Change.PIXELS): 1, ("polygon", Change.LEFT_OUT): 1}


def test_cvat_has_no_place_for_how_sure_a_model_is(again: Callable[..., Any]) -> None:
    assert again("cvat", Shape("cod", Kind.POINT, (1, 2), confidence=0.5))[1] == {
        ("confidence", Change.WITHOUT_EXTRAS): 1
    }


def test_characters_that_xml_cannot_hold_are_replaced(again: Callable[..., Any]) -> None:
    ((found,), _) = again("cvat", Shape("cod", Kind.POINT, (1, 2), attributes={"a\x00b": "c\ud800\rd"}))

    assert found.attributes == {"a\ufffdb": "c\ufffd\rd"}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("task", [Task.DETECTION, Task.CLASSIFICATION])
def test_boxes_classes_and_splits_come_back(tmp_path: Path, blob: Path, tool: str, task: Task) -> None:
    kind, *_ = TOOLS[tool]
    splits = ("train", "validation", "test", None)
    box = (Box("cod", 1.25, 2.5, 30.1, 20.7),)
    marks: list[dict[str, Any]] = [{"boxes": box}, {"boxes": ()}, {"boxes": box}, {"boxes": box}]
    if task is Task.CLASSIFICATION:
        marks = [{"label": LABELS[number % 3]} for number in range(4)]
    images = [
        ImageRecord(f"north/{number} é%/a.png", WIDTH, HEIGHT, split=split, **mark)  # type: ignore[arg-type]
        for number, (split, mark) in enumerate(zip(splits, marks, strict=True))
    ]
    assert kind.write is not None
    kind.write(tmp_path, collection(*images, task=task), {each.path: blob for each in images})

    found = read(tmp_path, task)

    assert [each.split for each in found.images] == [*splits]
    assert [each.label for each in found.images] == [each.label for each in images]
    for one, other in zip(found.images, images, strict=True):
        assert [replace_of(box) for box in one.boxes] == [pytest.approx(replace_of(box)) for box in other.boxes]


def replace_of(box: Box) -> tuple[float, ...]:
    return box.x, box.y, box.width, box.height


def test_cvat_gets_the_labels_that_a_task_needs_before_annotations_fit(tmp_path: Path, blob: Path) -> None:
    drawn = Shape("cod", Kind.POINT, (1, 2), attributes={"sex": "f", "occluded": "true"})
    kind: Format = cvat.FORMAT
    assert kind.write is not None
    kind.write(tmp_path, collection(image(drawn)), {"a.png": blob})

    labels = json.loads((tmp_path / "cvat-labels.json").read_text())

    assert [label["name"] for label in labels] == [*LABELS]
    assert [one["name"] for one in labels[0]["attributes"]] == ["sex"]


def test_label_studio_gets_a_configuration_with_all_classes(tmp_path: Path, blob: Path) -> None:
    from xml.etree import ElementTree

    drawn = Shape("cod", Kind.POINT, (1, 2), attributes={'se"x': "f"})
    kind: Format = label_studio.FORMAT
    assert kind.write is not None
    kind.write(tmp_path, collection(image(drawn)), {"a.png": blob})

    root = ElementTree.fromstring((tmp_path / "config.xml").read_text())

    assert [label.get("value") for label in root.findall("RectangleLabels/Label")] == [*LABELS]
    assert [each.tag for each in root] == [
        "Image",
        "RectangleLabels",
        "PolygonLabels",
        "KeyPointLabels",
        "BrushLabels",
        "TextArea",
    ]
    assert [one.get("name") for one in root.findall("TextArea")] == ['se"x']
