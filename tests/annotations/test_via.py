"""VIA, the VGG Image Annotator 2: a JSON file of all images, in which people name the attribute with the class themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, read, text, tree_of
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Box

RECT = {"name": "rect", "x": 10, "y": 20, "width": 20, "height": 40}
CIRCLE = {"name": "circle", "cx": 50, "cy": 40, "r": 5}
ELLIPSE = {"name": "ellipse", "cx": 50, "cy": 40, "rx": 10, "ry": 4.5, "theta": math.pi / 2}
POLYGON = {"name": "polygon", "all_points_x": [10, 30, 30], "all_points_y": [20, 20, 60]}
POLYLINE = {"name": "polyline", "all_points_x": [1, 3, 5], "all_points_y": [2, 4, 6]}
POINT = {"name": "point", "cx": 1, "cy": 2}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes or {"species": "cod"}}


def image(*regions: Any, name: str = "a.png", size: int = 123, **attributes: Any) -> dict[str, Any]:
    """The member of one image."""
    entry = {"filename": name, "size": size, "regions": regions, "file_attributes": attributes}
    return {f"{name}{size}": entry}


def project(images: dict[str, Any], **region_attributes: Any) -> dict[str, Any]:
    return {
        "_via_settings": {"ui": {"image": {"region_label": "__via_region_id__"}}, "core": {"filepath": {}}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": region_attributes, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }


def make(root: Path, content: object, file: str = "via_export_json.json") -> Path:
    photo(root / "a.png", 100, 80)
    document(root / file, content)
    return root


@pytest.mark.parametrize(
    ("shape", "box", "kind"),
    [
        (RECT, Box("cod", 10, 20, 20, 40), None),
        (CIRCLE, Box("cod", 45, 35, 10, 10), "circle"),
        (ELLIPSE, Box("cod", 45.5, 30, 9, 20), "ellipse"),
        (POLYGON, Box("cod", 10, 20, 20, 40), "polygon"),
    ],
    ids=["rect", "circle", "ellipse, turned by theta", "polygon"],
)
def test_detection_takes_the_box_around_what_has_an_area(
    tmp_path: Path, shape: dict[str, Any], box: Box, kind: str | None
) -> None:
    found = read(make(tmp_path, image(region(shape))))

    (one,) = found.images[0].boxes
    assert (one.label, one.x, one.y, one.width, one.height) == pytest.approx(
        (box.label, box.x, box.y, box.width, box.height)
    )
    told = [(each.kind, each.reason, each.annotations) for each in found.altered]
    assert told == ([] if kind is None else [(kind, Change.BOX_AROUND, 1)])


def test_an_ellipse_is_turned_clockwise(tmp_path: Path) -> None:
    found = read(make(tmp_path, image(region(ELLIPSE | {"theta": math.pi / 4}))), Task.INSTANCE_SEGMENTATION)

    (shape,) = found.images[0].shapes
    farthest = max(zip(shape.coordinates[::2], shape.coordinates[1::2], strict=True), key=sum)
    assert farthest == pytest.approx((50 + 10 / math.sqrt(2), 40 + 10 / math.sqrt(2)), abs=0.1)


def test_what_has_no_area_is_left_out_of_detection_and_counted(tmp_path: Path) -> None:
    found = read(make(tmp_path, image(region(RECT), region(POINT), region(POLYLINE), region(POINT))))

    left = [(each.kind, each.annotations) for each in found.altered if each.reason == Change.LEFT_OUT]
    assert left == [("line", 1), ("point", 2)]


def test_a_project_is_read_like_its_export_and_declares_classes_in_order(tmp_path: Path) -> None:
    options = {"type": "dropdown", "description": "", "options": {"eel": "Anguilla", "": "", "ray": "", "cod": ""}}
    images = image(region(RECT), region(CIRCLE, species="eel"))
    make(tmp_path, project(images, species=options), "via_project.json")

    found = read(tmp_path)

    assert found.classes == ("eel", "cod")
    assert found.unused == ("ray",)
    (tmp_path / "via_project.json").unlink()
    assert read(make(tmp_path, images)).images == found.images


def test_regions_of_via_1_are_numbered_in_an_object(tmp_path: Path) -> None:
    entry = image()["a.png123"] | {"regions": {"0": region(RECT), "1": region(CIRCLE)}}
    make(tmp_path, {"a.png123": {"fileref": "", "base64_img_data": "", **entry}})

    assert len(read(tmp_path).images[0].boxes) == 2


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({"anything": "cod"}, "cod"),
        ({"note": "old", "Class": "cod", "name": "Ada"}, "cod"),
        ({"note": "old", "Species": "cod"}, "cod"),
        ({"note": "", "what": "cod"}, "cod"),
        ({"what": 7}, "7"),
        ({"what": {"cod": True, "eel": False}}, "cod"),
    ],
    ids=["the only one", "class before all", "the usual one", "the only one with a value", "a number", "checked"],
)
def test_the_class_is_in_one_attribute_of_regions(tmp_path: Path, attributes: dict[str, Any], label: str) -> None:
    assert read(make(tmp_path, image(region(RECT, **attributes)))).classes == (label,)


@pytest.mark.parametrize(
    "attributes", [{"name": "Ada", "type": "cod"}, {"side": "left", "colour": "red"}], ids=["two usual", "none usual"]
)
def test_a_class_that_could_be_in_several_attributes_is_never_guessed(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    with pytest.raises(RefusedError, match=r"regions have 2 attributes.*rename that one to class"):
        read(make(tmp_path, image(region(RECT, **attributes))))


def test_several_checked_options_count_once_each_and_other_attributes_stay(tmp_path: Path) -> None:
    make(
        tmp_path,
        image(region(POLYGON, species={"cod": True, "eel": True}, side="left", seen={"fin": True, "eye": True})),
    )

    found = read(tmp_path, Task.INSTANCE_SEGMENTATION)

    assert [shape.label for shape in found.images[0].shapes] == ["cod", "eel"]
    assert found.images[0].shapes[0].attributes == {"side": "left", "seen": "fin, eye"}
    assert any(words.startswith("1 regions have more than one class") for words in found.warnings)


def test_attributes_of_files_are_class_split_or_left_out_by_number(tmp_path: Path) -> None:
    photo(tmp_path / "b.png", 100, 80, seed=1)
    make(
        tmp_path,
        image(species="cod", split="train", caption="two fish")
        | image(name="b.png", species="eel", split="Validation"),
    )

    found = read(tmp_path, Task.CLASSIFICATION)

    assert [(each.label, each.split) for each in found.images] == [("cod", "train"), ("eel", "validation")]
    assert any(words.startswith("1 attributes of files are neither") for words in found.warnings)


def test_a_caption_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"1 attributes of files are neither the class.*nor its split") as refused:
        read(make(tmp_path, image(caption="two fish")), Task.CLASSIFICATION)
    assert refused.value.failure.reason is Reason.TASK_MISMATCH


def test_an_image_without_regions_shows_nothing_and_one_without_an_entry_is_left_out(tmp_path: Path) -> None:
    for seed, name in enumerate(("b.png", "c.png"), start=1):
        photo(tmp_path / name, 100, 80, seed=seed)
    found = read(make(tmp_path, image(region(RECT)) | image(name="b.png")))

    assert [(each.path, len(each.boxes)) for each in found.images] == [("a.png", 1), ("b.png", 0)]
    assert [(each.path, each.reason) for each in found.excluded] == [("c.png", ExclusionReason.UNLISTED)]
    assert any(words.startswith("1 images have neither a region nor a class") for words in found.warnings)


@pytest.mark.parametrize(
    "name",
    ["https://fish.example/x/a.png?size=1", "C:\\fish\\a.png", "/home/ada/a.png"],
    ids=["URL", "Windows", "path"],
)
def test_the_image_of_another_place_is_the_one_beside_the_file(tmp_path: Path, name: str) -> None:
    assert [each.path for each in read(make(tmp_path, image(region(RECT), name=name, size=-1))).images] == ["a.png"]


def test_an_entry_without_its_size_may_be_repeated_by_an_empty_one(tmp_path: Path) -> None:
    make(tmp_path, image(region(RECT), size=-1) | image())

    assert len(read(tmp_path).images[0].boxes) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (image(region(POLYGON | {"all_points_x": [1, 2]})), "a region has different numbers of x and y"),
        (
            image(region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]})),
            "a polygon has a ring of fewer than three points",
        ),
        (image(region({"name": "blob"})), r"image 0 .*: region 0: a region has a shape that VIA does not define"),
        (image(region({})), "a region has a shape that VIA does not define"),
        (image(region({"name": ["canary"]})), "a region has a shape that VIA does not define"),
        (image(region(RECT | {"width": -1})), "a rectangle has a negative size"),
        (image(region(RECT | {"x": "canary"})), "a rectangle has a coordinate that is not a number of pixels"),
        (image(region(RECT | {"x": True})), "a rectangle has a coordinate that is not a number of pixels"),
        (image(region(ELLIPSE | {"theta": "canary"})), "it has numbers that are not coordinates"),
        (image(region(POLYGON | {"all_points_x": 5})), "it has numbers that are not coordinates"),
        (image(region({"name": "rect"})), "it has numbers that are not coordinates"),
        (image(region(RECT), region(RECT, other="x", species="")), "region 1 has no class"),
        (image(region(RECT, species="\x00")), "class is not a class name"),
        (image(5), "region 0 has no class"),
        (image(region(RECT), name=""), "names no image"),
        (image(region(RECT), name="canary.png"), "have no image: via_export_json.json: image 0"),
        (image(region(RECT)) | image(region(RECT), size=7), "image 1 .* has the same filename as another image"),
        (image(region(RECT)) | {"canary": {"regions": "canary", "filename": "b.png"}}, "image 1 .* has no regions"),
        (image(region(RECT)) | {"canary": "canary"}, "image 1 .* has no regions"),
        (project(image(region(RECT)), species={"options": {"canary\x00": ""}}), "_via_attributes is not a class name"),
    ],
    ids=range(20),
)
def test_what_cannot_be_drawn_is_refused_by_its_place(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read(make(tmp_path, content), name="Via")
    assert "canary" not in refused.value.failure.message


@pytest.mark.parametrize("length", [5, 30, -20], ids=["in a key", "in the first entry", "in the last entry"])
def test_a_file_that_breaks_off_is_refused(tmp_path: Path, length: int) -> None:
    make(tmp_path, {})
    content = json.dumps(image(region(RECT)) | image(region(RECT), name="b.png"))
    text(tmp_path / "via_export_json.json", content[:length])

    with pytest.raises(RefusedError, match=r"via_export_json\.json is not valid JSON"):
        read(tmp_path, name="Via")


@pytest.mark.parametrize(
    "piece", ["[" * 100_000, "9" * 100_000, "1e999", "NaN", '"\\ud800"'], ids=lambda piece: piece[:6]
)
def test_numbers_and_depth_that_no_file_has_are_refused(tmp_path: Path, piece: str) -> None:
    make(tmp_path, {})
    text(tmp_path / "via_export_json.json", json.dumps(image(region(RECT | {"x": 1234}))).replace("1234", piece))

    with pytest.raises(RefusedError, match=r"^via_export_json\.json(:| is not (valid JSON|read))"):
        read(tmp_path, name="Via")


def test_more_regions_than_the_ceiling_are_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATIONS", "3")

    with pytest.raises(RefusedError, match="PELAGOS_MAX_ANNOTATIONS"):
        read(make(tmp_path, image(*[region(RECT)] * 3)))


def test_json_of_another_kind_is_passed_over_and_named(tmp_path: Path) -> None:
    make(tmp_path, image(region(RECT)))
    document(tmp_path / "via3.json", {"project": {"data_format_version": "3.1.1"}, "config": {}, "file": {}})

    found = read(tmp_path)

    assert any("via3.json" in words for words in found.warnings)
    assert found.annotation_files == ("via_export_json.json",)


@pytest.mark.parametrize("file", ["via_region_data.json", "annotations.json", "labels.json", "result.json"])
@pytest.mark.parametrize("content", [image(region(RECT)), project(image(region(RECT)))], ids=["export", "project"])
def test_the_format_is_recognised_whatever_its_file_is_called(tmp_path: Path, file: str, content: object) -> None:
    tree = tree_of(make(tmp_path, content, file))
    found = registry.detect(tree)

    assert found.name == "Via"
    assert found.evidence(tree) == f"{file} is written like the files of Via"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (coco({"a.png": [[0, 0, 5, 5]]}, size=(100, 80)), "Coco"),
        ({"version": "5.5.0", "imagePath": "a.png", "shapes": []}, "LabelMe"),
        ([{"id": 1, "data": {"image": "a.png"}, "annotations": []}], "LabelStudio"),
    ],
    ids=["Coco", "LabelMe", "LabelStudio"],
)
def test_json_of_other_tools_stays_theirs(tmp_path: Path, content: object, name: str) -> None:
    file = "annotations.json" if name == "Coco" else "a.json"
    assert registry.detect(tree_of(make(tmp_path, content, file))).name == name


def test_a_file_of_coco_beside_one_of_via_leaves_the_choice(tmp_path: Path) -> None:
    make(tmp_path, image(region(RECT)))
    document(tmp_path / "annotations.json", coco({"a.png": [[0, 0, 5, 5]]}, size=(100, 80)))

    with pytest.raises(RefusedError, match=r"more than one format \(Coco, Via\)"):
        read(tmp_path)
