"""LabelMe: a JSON file for each image. Its shapes become what the task needs, and nothing is dropped silently."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from image_sources import photo, read, text
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, Exclusion


def drawn(kind: str, *points: tuple[float, float], label: str = "cod", **more: Any) -> dict[str, Any]:
    """A shape."""
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def document(*shapes: dict[str, Any], name: str = "a.png", **more: Any) -> str:
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": 80,
        "imageWidth": 100,
    }
    return json.dumps(content | more)


def make(root: Path, *shapes: dict[str, Any], **more: Any) -> Path:
    """One image with its file beside it."""
    photo(root / "a.png", 100, 80)
    text(root / "a.json", document(*shapes, **more))
    return root


def picture(width: int, height: int) -> str:
    """A mask all of whose pixels are set."""
    content = io.BytesIO()
    Image.new("1", (width, height), 1).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


@pytest.mark.parametrize(
    ("shape", "box", "kind"),
    [
        (drawn("rectangle", (30, 60), (10, 20)), Box("cod", 10, 20, 20, 40), None),
        (drawn("polygon", (10, 20), (30, 20), (30, 60)), Box("cod", 10, 20, 20, 40), "polygon"),
        (drawn("circle", (50, 40), (53, 44)), Box("cod", 45, 35, 10, 10), "circle"),
        (
            drawn("oriented_rectangle", (20, 10), (30, 20), (20, 30), (10, 20)),
            Box("cod", 10, 10, 20, 20),
            "rectangle",
        ),
        (drawn("mask", (10, 20), (29, 59), mask=picture(20, 40)), Box("cod", 10, 20, 20, 40), "mask"),
    ],
    ids=["rectangle, from any corner", "polygon", "circle", "rotated", "mask"],
)
def test_detection_takes_the_box_around_what_has_an_area(
    tmp_path: Path, shape: dict[str, Any], box: Box, kind: str | None
) -> None:
    found = read(make(tmp_path, shape))

    (one,) = found.images[0].boxes
    assert (one.label, one.x, one.y, one.width, one.height) == pytest.approx(
        (box.label, box.x, box.y, box.width, box.height)
    )
    told = [(each.kind, each.reason, each.annotations) for each in found.altered]
    assert told == ([] if kind is None else [(kind, Change.BOX_AROUND, 1)])


def test_what_has_no_area_is_left_out_of_detection_and_counted(tmp_path: Path) -> None:
    point, line = drawn("point", (1, 2)), drawn("linestrip", (1, 2), (3, 4), (5, 6))
    found = read(make(tmp_path, drawn("rectangle", (10, 20), (30, 60)), point, point | {"label": "eel"}, line))

    assert found.classes == ("cod",)
    assert [(each.kind, each.annotations) for each in found.altered if each.reason == Change.LEFT_OUT] == [
        ("line", 1),
        ("point", 2),
    ]
    assert any("2 annotations of the kind point" in warning for warning in found.warnings)


def test_an_image_of_points_alone_is_no_background(tmp_path: Path) -> None:
    make(tmp_path, drawn("point", (1, 2)))
    photo(tmp_path / "b.png", 100, 80)
    text(tmp_path / "b.json", document(drawn("rectangle", (10, 20), (30, 60)), name="b.png"))

    found = read(tmp_path)

    assert [image.path for image in found.images] == ["b.png"]
    assert found.excluded == (Exclusion("a.png", ExclusionReason.UNLABELLED),)


def test_flags_of_a_file_are_the_class_of_its_image(tmp_path: Path) -> None:
    for name, kind in (("a", "cod"), ("b", "eel")):
        photo(tmp_path / f"{name}.png", 100, 80)
        text(tmp_path / f"{name}.json", document(name=f"{name}.png", flags={kind: True, "dark": False}))

    found = read(tmp_path, task=Task.CLASSIFICATION)

    assert {image.path: image.label for image in found.images} == {"a.png": "cod", "b.png": "eel"}


def test_an_image_of_two_classes_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, flags={"cod": True, "eel": True})

    with pytest.raises(RefusedError, match=r"a\.png has 2 classes \(cod, eel\)") as refused:
        read(tmp_path, task=Task.CLASSIFICATION)
    assert refused.value.failure.reason is Reason.FORMAT_INVALID


def test_the_image_of_another_machine_is_the_one_beside_the_file(tmp_path: Path) -> None:
    make(tmp_path, drawn("rectangle", (10, 20), (30, 60)), name="..\\..\\home\\me\\A.PNG")

    assert [image.path for image in read(tmp_path).images] == ["a.png"]


def test_json_of_another_kind_is_passed_over_and_named(tmp_path: Path) -> None:
    make(tmp_path, drawn("rectangle", (10, 20), (30, 60)))
    text(tmp_path / "camera.json", '{"gain": 3}')

    found = read(tmp_path)

    assert any("camera.json" in warning for warning in found.warnings)
    assert found.annotation_files == ("a.json",)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (drawn("polygon", (1, 2), (3, 4)), r"a\.json: shapes\[0\]: a polygon has a ring of fewer than three points"),
        (drawn("blob", (1, 2)), r"a\.json: shapes\[0\]: a shape has a type that LabelMe does not define"),
        (drawn("rectangle", (1, 2), (3, 4), label=""), r"a\.json: shapes\[0\]: class"),
        ({"label": "cod", "points": "x", "shape_type": "polygon"}, r"it has numbers that are not coordinates"),
    ],
    ids=["two points", "unknown", "no class", "no points"],
)
def test_a_shape_that_is_none_is_refused_by_its_place(tmp_path: Path, shape: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        read(make(tmp_path, shape))
