"""iFDO: a header and items by file name, in YAML and JSON. What it can hold survives writing and reading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from image_sources import photo, read, text, tree_of
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import ifdo, masks, reading, registry, shapes
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape

WIDTH, HEIGHT = 97, 61
LABELS = ("cod", 'Ærfugl "3" <&\'>', "=1+2: #x")
RECTANGLE = [10, 20, 30, 20, 30, 60, 10, 60]


def annotation(shape: str | None, coordinates: object, *labels: object, **more: object) -> dict[str, Any]:
    told = [{"label": one, "annotator": "a1", "created-at": "2026-05-01 10:00:00"} | more for one in labels or ("l1",)]
    return {"coordinates": coordinates, "labels": told} | ({"shape": shape} if shape else {})


def document(items: object, **header: object) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "image-set-name": "dive",
        "image-set-uuid": "u",
        "image-set-handle": "h",
        "image-annotation-labels": [{"id": "l1", "name": "cod"}, {"id": 2, "name": "eel"}],
        "image-annotation-creators": [{"id": "a1", "name": "Ada Fisher"}],
    }
    return {"image-set-header": plain | header, "image-set-items": items}


def make(root: Path, *drawn: dict[str, Any], file: str = "ifdo.yaml", **header: Any) -> Path:
    """One image with annotations."""
    photo(root / "a.png", 100, 80)
    return put(root, document({"a.png": [{"image-annotations": list(drawn)}]}, **header), file)


def put(root: Path, content: object, file: str = "ifdo.yaml") -> Path:
    text(root / file, json.dumps(content) if file.endswith("json") else yaml.safe_dump(content, sort_keys=False))
    return root


def shapes_of(root: Path, file: str = "ifdo.yaml") -> list[Shape]:
    """The parser's output, before the task reduces it to what it can hold."""
    faults = Faults()
    ((_, found),) = reading.drawings(ifdo.TOOL.parser, tree_of(root), [file], faults)
    faults.refuse_any()
    assert found is not None
    return [shape for image in found.images for shape in image.shapes]


@pytest.mark.parametrize("file", ["ifdo.yaml", "ifdo.json"])
@pytest.mark.parametrize(
    ("name", "coordinates", "kind", "numbers"),
    [
        ("single-pixel", [1.5, 2], Kind.POINT, (1.5, 2)),
        ("single-pixel", [[1.5, 2]], Kind.POINT, (1.5, 2)),
        ("polyline", [1, 2, 3, 4, 5, 7], Kind.LINE, (1, 2, 3, 4, 5, 7)),
        ("polygon", [1, 2, 9, 2, 9, 7, 1, 2], Kind.POLYGON, (1, 2, 9, 2, 9, 7)),
        ("polygon", [{"x": 1, "y": 2}, {"x": 9, "y": 2}, {"x": 9, "y": 7}], Kind.POLYGON, (1, 2, 9, 2, 9, 7)),
        ("circle", [50, 40, 5], Kind.CIRCLE, (50, 40, 5)),
        ("rectangle", RECTANGLE, Kind.RECTANGLE, (10, 20, 20, 40, 0)),
        ("ellipse", [30, 40, 50, 30, 70, 40, 50, 50], Kind.ELLIPSE, (50, 40, 20, 10, 0)),
        ("whole-image", [], Kind.TAG, ()),
        (None, [1, 2], Kind.POINT, (1, 2)),
        (None, [50, 40, 5], Kind.CIRCLE, (50, 40, 5)),
        (None, [1, 2, 3, 4], Kind.LINE, (1, 2, 3, 4)),
        (None, [1, 2, 9, 2, 9, 7, 1, 2], Kind.POLYGON, (1, 2, 9, 2, 9, 7)),
    ],
)
def test_every_shape_is_read(
    tmp_path: Path, file: str, name: str | None, coordinates: object, kind: Kind, numbers: tuple[float, ...]
) -> None:
    (shape,) = shapes_of(make(tmp_path, annotation(name, coordinates, confidence=0.5), file=file), file)

    assert (shape.label, shape.kind, shape.annotator, shape.confidence) == ("cod", kind, "Ada Fisher", 0.5)
    assert shape.coordinates == pytest.approx(numbers)


def test_labels_are_named_by_the_header_and_two_of_one_name_stay_two_classes(tmp_path: Path) -> None:
    names = [{"id": "l1", "name": "sp. 1"}, {"id": 2, "name": "sp. 1"}, {"id": "l3", "name": "cod"}]
    drawn = [
        annotation("circle", [10 * n, 20, 3], label) for n, label in enumerate(["l1", "2", "l3", "urn:x"], start=1)
    ]
    header: dict[str, Any] = {"image-annotation-labels": names}
    found = read(make(tmp_path, *drawn, **header))

    assert {box.label for box in found.images[0].boxes} == {"sp. 1 (l1)", "sp. 1 (2)", "cod", "urn:x"}
    assert any(words.startswith("1 labels are not declared") for words in found.warnings)


def test_several_labels_of_an_annotation_count_once_each(tmp_path: Path) -> None:
    found = read(make(tmp_path, annotation("rectangle", RECTANGLE, "l1", 2), {"coordinates": [1, 2], "labels": []}))

    assert [box.label for box in found.images[0].boxes] == ["cod", "eel"]
    assert any(words.startswith("1 annotations have more than one label,") for words in found.warnings)
    assert any(words.startswith("1 annotations have no label") for words in found.warnings)


def test_items_without_annotations_wait_and_an_empty_list_shows_nothing(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        photo(tmp_path / "raw" / f"{name}.png", 100, 80, seed=number)
    items = {
        "a.png": {"image-annotations": [annotation("rectangle", RECTANGLE)]},
        "b.png": {"image-latitude": 1.5},
        "c.png": [{"image-annotations": []}],
        "film.mp4": [{"image-acquisition": "video"}, {}],
    }
    found = read(put(tmp_path, document(items)))

    assert [(image.path, len(image.boxes)) for image in found.images] == [("raw/a.png", 1), ("raw/c.png", 0)]
    assert [(each.path, each.reason) for each in found.excluded] == [("raw/b.png", ExclusionReason.UNLABELLED)]
    assert any(words.startswith("1 items are videos") for words in found.warnings)


def test_what_the_header_says_holds_for_items_that_say_nothing(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", 100, 80)
    whole = {"image-annotations": [annotation("whole-image", [])]}
    put(tmp_path, document({"a.png": {}}, **whole))

    assert read(tmp_path, Task.CLASSIFICATION).images[0].label == "cod"


def test_the_header_may_stand_behind_the_items(tmp_path: Path) -> None:
    make(tmp_path, annotation("rectangle", RECTANGLE))
    content = document({"a.png": [{"image-annotations": [annotation("rectangle", RECTANGLE)]}]})
    for file in ("ifdo.yaml", "ifdo.json"):
        put(tmp_path, dict(reversed(content.items())), file)
        assert [shape.label for shape in shapes_of(tmp_path, file)] == ["cod"]


@pytest.mark.parametrize("file", ["ifdo.yaml", "ifdo.json"])
@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (annotation("blob", [1, 2]), "has a shape that iFDO does not define"),
        (annotation("single-pixel", [[1, 2], [3, 4]]), "coordinates of several frames"),
        (annotation("circle", [1, 2]), "a circle has 2 numbers instead of 3"),
        (annotation("rectangle", [1, 2, 3, 4]), "a rectangle has 4 numbers"),
        (annotation("polygon", [1, 2, 3, 4, 1, 2]), "a ring of fewer than three points"),
        (annotation("single-pixel", ["1", True]), "coordinates that are not a list of numbers"),
        (annotation("single-pixel", {"x": 1}), "coordinates"),
        (annotation("single-pixel", [1, 2], confidence=7), "confidence that is not a number from 0 to 1"),
        (annotation("single-pixel", [1, 2], confidence=True), "confidence that is not a number from 0 to 1"),
        (annotation("single-pixel", [1, 2], ""), "class is not a class name"),
    ],
    ids=lambda value: str(value.get("shape")) if isinstance(value, dict) else "",
)
def test_an_annotation_that_is_none_is_refused_by_its_place(
    tmp_path: Path, file: str, drawn: dict[str, Any], words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read(make(tmp_path, drawn, file=file))
    assert "item 0 (counted from 0): image-annotations[0]" in refused.value.failure.message


NAN = "{shape: circle, coordinates: [.nan, 1, 2], labels: [{label: l1}]}"
HEAD = "image-set-header:\n  image-set-name: x\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD + "image-set-items:\n  a.png: &a [*a]\n", "without aliases"),
        (HEAD + "image-set-items:\n  a.png: !!python/object:os.system {}\n", "without aliases"),
        (HEAD + "image-set-items:\n  a.png: " + "[" * 10_000, "not supported YAML"),
        (HEAD + "image-set-items:\n  a.png: " + "{a: " * 100 + "1" + "}" * 100, "not supported YAML"),
        (HEAD + "image-set-items:\n  a.png: {}\n  a.png: {}\n", "the key is twice"),
        (HEAD + "image-set-items: [a.png]\n", "is not a mapping of file names"),
        (HEAD + "image-set-items:\n  a.png: text\n", "neither a mapping nor a list"),
        (HEAD + "image-set-items:\n  ../lost.png: {image-annotations: []}\n", "have no image"),
        ("image-set-items:\n  a.png: {}\n", "has no image-set-header"),
        (HEAD + "image-set-items:\n  ? [a]\n  : {}\n", "not supported YAML"),
        (HEAD + f"image-set-items:\n  a.png: {{image-annotations: [{NAN}]}}\n", "not a list of numbers"),
        ('{"image-set-header": {}, "image-set-items": {"a.png": {}', "not valid JSON"),
        (
            '{"image-set-header": {}, "image-set-items": {"a.png": {}, "a.png": {}}}',
            "has the same name as an earlier one",
        ),
        ('{"image-set-header": 5, "image-set-items": {}}', "has no image-set-header"),
    ],
    ids=range(14),
)
def test_what_is_no_ifdo_or_a_trap_is_refused(tmp_path: Path, content: str, words: str) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / ("a.json" if content.startswith("{") else "a.yaml"), content)

    with pytest.raises(RefusedError, match=words):
        read(tmp_path, name="Ifdo")


def test_other_files_are_passed_over_and_named(tmp_path: Path) -> None:
    make(tmp_path, annotation("rectangle", RECTANGLE))
    text(tmp_path / "camera.yaml", "gain: 3\n")

    assert registry.detect(tree_of(tmp_path)).name == "Ifdo"
    assert any("camera.yaml" in words for words in read(tmp_path).warnings)


across, down = st.floats(0, WIDTH, width=32), st.floats(0, HEIGHT, width=32)
length, angle = st.floats(0.5, 50, width=32), st.floats(1, 89, width=32) | st.just(0.0)


def _of(kind: Kind, *numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Shape]:
    return st.builds(
        lambda label, sure, *found: Shape(label, kind, tuple(map(float, found)), confidence=sure),
        st.sampled_from(LABELS),
        st.none() | st.floats(0, 1),
        *numbers,
    )


def _ring(least: int, kind: Kind) -> st.SearchStrategy[Shape]:
    def drawn(label: str, pairs: Sequence[tuple[float, float]]) -> Shape:
        flat = tuple(float(one) for pair in pairs for one in pair)
        return Shape(label, kind, flat, (len(pairs),) if kind is Kind.POLYGON else ())

    pairs = st.lists(st.tuples(across, down), min_size=least, max_size=6, unique=True)
    return st.builds(drawn, st.sampled_from(LABELS), pairs)


HELD = st.one_of(
    _of(Kind.RECTANGLE, across, down, length, length, angle),
    _of(Kind.ELLIPSE, across, down, length, length, angle),
    _of(Kind.CIRCLE, across, down, length),
    _of(Kind.POINT, across, down),
    _of(Kind.TAG),
    _ring(3, Kind.POLYGON),
    _ring(2, Kind.LINE),
)


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo(tmp_path_factory.mktemp("blob") / "a.png", WIDTH, HEIGHT)


Again = Callable[..., tuple[list[Shape], dict[tuple[str, str], int]]]


@pytest.fixture
def again(tmp_path: Path, blob: Path) -> Again:
    """Writes an image's shapes and reads them back. Returns the shapes, and what the writer counted."""

    def written(*drawn: Shape) -> tuple[list[Shape], dict[tuple[str, str], int]]:
        target = tmp_path / "view"
        target.mkdir()
        image = ImageRecord("a.png", WIDTH, HEIGHT, shapes=drawn)
        assert ifdo.FORMAT.write is not None
        altered = ifdo.FORMAT.write(target, Collection(Task.INSTANCE_SEGMENTATION, LABELS, (image,)), {"a.png": blob})
        found = shapes_of(target, "ifdo.json")
        shutil.rmtree(target)
        assert altered is not None
        return found, {(kind, str(change)): count for (kind, change), count in altered.counts.items()}

    return written


def test_shapes_come_back_as_they_were(again: Again) -> None:
    @hypothesis.seed(1)
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @hypothesis.given(st.lists(HELD, max_size=8))
    def check(drawn: list[Shape]) -> None:
        found, counted = again(*drawn)
        assert counted == {}
        assert [(one.label, one.kind, one.rings) for one in found] == [
            (one.label, one.kind, one.rings) for one in drawn
        ]
        for one, other in zip(found, drawn, strict=True):
            assert one.coordinates == pytest.approx(other.coordinates, abs=1e-6)
            assert one.confidence == other.confidence

    check()


def test_of_masks_and_polygons_in_pieces_the_largest_outline_is_written_and_counted(again: Again) -> None:
    pixels: Any = np.zeros((20, 30), bool)
    pixels[2:10, 3:20] = True
    pixels[15, 25] = True
    mask = masks.of_array("cod", pixels, attributes={"sex": "f"})
    ring = shapes.polygon("cod", (10, 10, 50, 10, 50, 40), holes=[(20, 12, 30, 12, 30, 14)])
    points = Shape("cod", Kind.KEY_POINTS, (1, 2, 2))

    found, counted = again(mask, ring, points)

    assert [(one.kind, one.sides) for one in found] == [
        (Kind.POLYGON, (3, 2, 17, 8)),
        (Kind.POLYGON, (10, 10, 40, 30)),
    ]
    assert counted == {
        ("mask", Change.OUTLINE): 1,
        ("polygon", Change.OUTLINE): 1,
        ("attributes", Change.WITHOUT_EXTRAS): 1,
        ("key points", Change.LEFT_OUT): 1,
    }


@pytest.mark.parametrize("task", [Task.DETECTION, Task.CLASSIFICATION])
def test_boxes_classes_and_splits_come_back_and_the_file_is_the_same_again(
    tmp_path: Path, blob: Path, task: Task
) -> None:
    box = (Box("cod", 1.25, 2.5, 30.1, 20.7),)
    splits = ("train", "validation", "test", None)
    images = tuple(
        ImageRecord(f"north/{number} é%/a.png", WIDTH, HEIGHT, split=split)  # type: ignore[arg-type]
        for number, split in enumerate(splits)
    )
    marked = [
        replace(image, label=LABELS[number % 2]) if task is Task.CLASSIFICATION else replace(image, boxes=box)
        for number, image in enumerate(images)
    ]
    assert ifdo.FORMAT.write is not None
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        collection = Collection(task, LABELS, tuple(marked))
        ifdo.FORMAT.write(tmp_path / name, collection, {each.path: blob for each in images})
    assert (tmp_path / "one/ifdo.json").read_bytes() == (tmp_path / "two/ifdo.json").read_bytes()

    found = read(tmp_path / "one", task)

    order = {image.path.rpartition("/")[2]: image for image in found.images}
    assert [order[name].split for name in sorted(order)] == [*splits]
    assert [order[name].label for name in sorted(order)] == [each.label for each in marked]
    for image in found.images:
        assert [(one.x, one.y, one.width, one.height) for one in image.boxes] == [
            pytest.approx((one.x, one.y, one.width, one.height)) for one in marked[0].boxes
        ]
