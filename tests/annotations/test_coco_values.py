"""What COCO files of real tools contain beyond the standard: read as it was meant, or refused with its place and value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, read, text
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.model import Box

Content = Any


def source(root: Path, boxes: dict[str, list[list[float]]], change: Callable[[Content], None]) -> Path:
    """A COCO source in one file, after ``change``."""
    for seed, name in enumerate(boxes):
        photo(root / name, seed=seed)
    content: Content = coco(boxes)
    change(content)
    document(root / "annotations.json", content)
    return root


def refusal(root: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        read(root)
    return caught.value.failure.message


def test_an_annotation_with_an_outline_alone_has_the_box_around_it(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        one, other, mask, zeros = content["annotations"]
        del one["bbox"]
        zeros["segmentation"] = [[2, 2, 4, 2, 4, 5]]
        one["segmentation"] = [[10, 10, 30, 10, 30, 25]]
        other |= {"bbox": [], "segmentation": [[1, 1, 3, 1, 3, 4], [6, 6, 8, 6, 8, 9]]}
        mask |= {"bbox": None, "segmentation": {"size": [30, 40], "counts": [31, 2, 1167]}}

    found = read(source(tmp_path, {f"{name}.png": [[0, 0, 0, 0]] for name in "abcd"}, change))

    assert [image.boxes for image in found.images] == [
        (Box("cod", 10, 10, 20, 15),),
        (Box("cod", 1, 1, 7, 8),),
        (Box("cod", 1, 1, 1, 2),),
        (Box("cod", 2, 2, 2, 3),),
    ]
    assert "4 annotations have no bbox; the box around their polygons or mask is used" in found.warnings


def test_an_image_of_which_all_annotations_are_left_out_is_no_background(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["annotations"][1]["iscrowd"] = 1
        del content["annotations"][2]["bbox"]

    boxes = {"a.png": [[1.0, 1, 9, 9]], "b.png": [[1.0, 1, 9, 9]], "c.png": [[1.0, 1, 9, 9]], "d.png": []}
    found = read(source(tmp_path, boxes, change))

    assert [image.path for image in found.images] == ["a.png", "d.png"]
    assert [(one.path, one.reason) for one in found.excluded] == [
        ("b.png", ExclusionReason.UNLABELLED),
        ("c.png", ExclusionReason.UNLABELLED),
    ]
    assert any(warning.startswith("2 images have only those annotations") for warning in found.warnings)


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        *(("10", 10), (10, "10"), (10, 10.0), ("10", 10.0), ("dive-3", "dive-3"), ("010", "010")),
        *(("0010", 10), (10, "10.0"), (10, " 10"), ("AB-1", "ab-1"), (2**64 - 1, 2**64 - 1), (2**127, str(2**127))),
    ],
    ids=repr,
)
def test_an_id_is_the_same_as_text_and_as_a_number(tmp_path: Path, listed: object, named: object) -> None:
    def change(content: Content) -> None:
        content["images"][0]["id"] = listed
        content["annotations"][0] |= {"image_id": named, "category_id": "7"}
        content["categories"][0]["id"] = 7.0

    assert read(source(tmp_path, {"a.png": [[1, 1, 9, 9]]}, change)).images[0].boxes == (Box("cod", 1, 1, 9, 9),)


@pytest.mark.parametrize(("listed", "named"), [(10, 11), ("a", "b"), (10, 10.5), (1, 2**64)], ids=repr)
def test_an_id_that_no_image_has_is_named_when_it_is_a_number(tmp_path: Path, listed: object, named: object) -> None:
    def change(content: Content) -> None:
        content["images"][0]["id"] = listed
        content["annotations"][0]["image_id"] = named

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9]]}, change))
    assert "annotations[0].image_id" in message
    if type(named) is not float:
        told = f"from {listed} to {listed}" if type(listed) is int else "1 of which are text, or"
        assert (
            "1 annotations with an image_id that is the id of no entry of images[] (annotations[0].image_id" in message
        )
        assert f"; the declared ids are 1, {told}" in message
    assert (f"image_id {named}" in message) is (type(named) is int)


def test_an_id_that_two_images_may_mean_is_none(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"][0]["id"], content["images"][1]["id"] = "0001", "01"
        content["annotations"][0]["image_id"] = 1

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9]], "b.png": []}, change))
    assert "annotations[0].image_id 1)" in message


def test_ids_that_are_found_in_another_writing_are_counted(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"][0]["id"] = "0010"

    found = read(source(tmp_path, {"a.png": [[1, 1, 9, 9], [2, 3, 9, 9]]}, change))
    assert any(one.startswith("2 annotations write the id of their image differently from") for one in found.warnings)


def test_a_file_name_in_the_place_of_an_id_is_called_so(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["image_id"] = "a.png"

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9]]}, change))
    assert "annotations[0].image_id (a file_name of images[])" in message


@pytest.mark.parametrize(
    "number", [2**63, 2**64 - 1, -(2**70), 2**127, 10**300], ids=["63", "64", "-70", "127", "1000"]
)
@pytest.mark.parametrize(
    "note", ["", '12345678901234567890 \\" 12345678901234567890', "x" * 600_000], ids=["", "text", "long"]
)
def test_numbers_of_any_length_are_read_over_where_none_is_needed(tmp_path: Path, number: int, note: str) -> None:
    def change(content: Content) -> None:
        content["note"] = note
        for mark in content["annotations"]:
            mark |= {"id": number, "score": float(f"0.{'123456789' * 3}"), "area": float(2**80)}

    found = read(source(tmp_path, {"a.png": [[1, 1, 9, 9], [2.5, 3, 9, 9]]}, change))
    assert found.images[0].boxes == (Box("cod", 1, 1, 9, 9), Box("cod", 2.5, 3, 9, 9))


@pytest.mark.parametrize("border", range(1, 25, 4))
def test_long_numbers_are_found_where_two_pieces_meet(tmp_path: Path, border: int) -> None:
    photo(tmp_path / "a.png")
    content: Content = {"note": "", "id": [2**70, 1.5], **coco({"a.png": [[1, 1, 9, 9]]})}
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = 2**70
    before = json.dumps(content).index(str(2**70))
    content["note"] = "x" * ((1 << 18) - before - border)
    text(tmp_path / "annotations.json", json.dumps(content))
    assert len(read(tmp_path).images[0].boxes) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: whole.encode("utf-16"), "annotations.json is UTF-16 or UTF-32 text; save it as UTF-8"),
        (lambda whole: whole.encode("utf-16-be"), "annotations.json is UTF-16 or UTF-32 text; save it as UTF-8"),
        (lambda whole: whole.replace("cod", "cöd").encode("latin-1"), "annotations.json is not UTF-8 text"),
        (lambda whole: whole.replace("[1, 1", "[1, 1e999").encode(), "annotations.json has a number that is too large"),
        (
            lambda whole: whole.replace("[1, 1", f"[1, {'9' * 5000}").encode(),
            "annotations.json has a number that is too",
        ),
        (
            lambda whole: whole.replace("[1, 1", f"[1, {'9' * 300_000}").encode(),
            "annotations.json has a number that is",
        ),
        (lambda whole: whole.replace("[1, 1", f"[1, {2**64}").encode(), r"annotations[0].bbox must hold four finite"),
        (
            lambda whole: whole.replace(": 7", f": {2**64}").encode(),
            r"categories[0].id must be a whole number of at most 18",
        ),
    ],
    ids=["UTF-16", "no mark", "Latin-1", "1e999", "5000 digits", "300000 digits", "side", "category"],
)
def test_what_is_wrong_with_the_text_of_a_file_is_said(
    tmp_path: Path, change: Callable[[str], bytes], words: str
) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "annotations.json").write_bytes(change(json.dumps(coco({"a.png": [[1, 1, 9, 9]]}))))
    assert words in refusal(tmp_path)


def test_ids_that_differ_in_type_alone_are_refused(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"][1]["id"] = "10"

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9]], "b.png": []}, change))
    assert "images[1].id 10 is the id of images[0] as well" in message


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("note", ["", 'NaN "Infinity" \\ "', "x" * 600_000], ids=["plain", "texts", "pieces"])
def test_numbers_that_json_does_not_have_are_read_over_where_no_number_is_needed(
    tmp_path: Path, word: str, note: str
) -> None:
    photo(tmp_path / "a.png")
    content: Content = coco({"a.png": [[1, 1, 9, 9]]})
    content["annotations"][0] |= {"note": note, "area": float(word), "score": [float(word), 1], "after": note}
    content["info"] = {"NaN": f"{note}NaN"}
    text(tmp_path / "annotations.json", json.dumps(content))
    assert word in (tmp_path / "annotations.json").read_text(encoding="utf-8")

    assert read(tmp_path).images[0].boxes == (Box("cod", 1, 1, 9, 9),)


@pytest.mark.parametrize(
    "piece", [1 << 18, (1 << 18) - 1, (1 << 18) + 1, (1 << 18) + 2, (1 << 18) + 7, (1 << 18) + 9], ids=str
)
def test_such_numbers_are_found_where_two_pieces_meet(tmp_path: Path, piece: int) -> None:
    photo(tmp_path / "a.png")
    content: Content = coco({"a.png": [[1, 1, 9, 9]]})
    content = {"note": "", "area": [float("-inf"), float("nan")], **content}
    before = json.dumps(content).index("-Infinity")
    content["note"] = "x" * (piece - before - 5)
    text(tmp_path / "annotations.json", json.dumps(content))

    assert len(read(tmp_path).images) == 1


@pytest.mark.parametrize(
    ("member", "key", "value", "words"),
    [
        ("annotations", "bbox", [1, 2, float("nan"), 4], r"annotations\[0\]\.bbox must hold four finite numbers"),
        ("annotations", "bbox", [1, 2, 3, float("inf")], r"annotations\[0\]\.bbox must hold four finite numbers"),
        ("annotations", "image_id", float("nan"), r"annotations\[0\]\.image_id must be"),
        ("annotations", "category_id", float("nan"), r"annotations\[0\]\.category_id must be"),
        ("images", "id", float("nan"), r"images\[0\]\.id must be"),
        ("images", "file_name", float("nan"), r"images\[0\]\.file_name is missing"),
        ("categories", "name", float("nan"), r"categories\[0\]\.name is not a class name"),
        ("annotations", "bbox", [0.1, 0.1, 0.25, 0.25], r"height are 0\.1, 0\.1, 0\.25, 0\.25: .* fractions"),
        ("annotations", "bbox", [0, 0, 1, 1], "fractions of the image"),
        ("annotations", "bbox", [0.5, 0.5, 0.5004, 0.5], "fractions of the image"),
        ("annotations", "bbox", [0.5, 0.5, 0.9, 0.8], "fractions of the image"),
        ("annotations", "bbox", [0.7, 0.7, 0.5, 0.5], "fractions of the image"),
        ("annotations", "bbox", [-0.1, 0.2, 0.5, 0.5], "fractions of the image"),
        ("annotations", "bbox", [0.25, 1, 0.75, 1], "fractions of the image"),
        ("annotations", "bbox", [3, 4, 0, 5], "width and height are 3, 4, 0, 5: a box without area"),
        ("annotations", "bbox", [3, 4, 5, -5], "width and height are 3, 4, 5, -5: a box without area"),
        ("annotations", "bbox", {"x": 1}, "must be x, y, width and height"),
    ],
)
def test_a_value_that_is_needed_and_none_is_refused_with_its_place(
    tmp_path: Path, member: str, key: str, value: object, words: str
) -> None:
    def change(content: Content) -> None:
        content[member][0][key] = value

    with pytest.raises(RefusedError, match=words) as caught:
        read(source(tmp_path, {"a.png": [[1, 1, 9, 9]]}, change))
    assert "annotations.json: " in caught.value.failure.message


@pytest.mark.parametrize("box", [[1, 1, 1, 1], [0, 1.0, 1, 1], [1, 0, 1, 1], [0.2, 0.2, 0.9, 5]], ids=str)
def test_a_small_box_that_is_not_in_fractions_is_read(tmp_path: Path, box: list[float]) -> None:
    found = read(source(tmp_path, {"a.png": [box]}, lambda content: None))
    assert len(found.images[0].boxes) == 1
    slight = "1 boxes are less than one pixel wide or high: check them" in found.warnings
    assert slight is (min(box[2:]) < 1)


def test_boxes_whose_area_tells_that_they_are_corners_are_refused(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for mark in content["annotations"]:
            left, top, right, bottom = mark["bbox"]
            mark["area"] = (right - left) * (bottom - top)

    message = refusal(source(tmp_path, {"a.png": [[5.0, 6, 20, 15], [1, 1, 9.5, 8.25]]}, change))
    assert message.startswith(
        "2 of 2 boxes are left, top, right and bottom, by their area or their outlines, not x, y, width and height"
    )
    assert "annotations.json: annotations[0].bbox, annotations.json: annotations[1].bbox" in message


def test_boxes_around_which_polygons_lie_only_as_corners_are_refused(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for mark in content["annotations"]:
            left, top, right, bottom = mark["bbox"]
            mark |= {"area": 50, "segmentation": [[left, top, right, top, right, bottom]]}

    message = refusal(source(tmp_path, {"a.png": [[5.0, 6, 20, 15], [3, 4, 9.5, 8.25]]}, change))
    assert message.startswith("2 of 2 boxes are left, top, right and bottom, by their area or their outlines")


def outlined(boxes: list[list[float]], around: list[list[float]], root: Path, mask: bool = False) -> Path:
    """A source of 40 x 30 pixels with ``boxes``, each with an outline whose own bounding box is the one in ``around``."""

    def change(content: Content) -> None:
        for mark, (x, y, w, h) in zip(content["annotations"], around, strict=True):
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            mark["segmentation"] = rectangle(int(x), int(y), int(w), int(h)) if mask else polygon

    return source(root, {"a.png": boxes}, change)


def rectangle(x: int, y: int, w: int, h: int) -> Content:
    """A rectangular mask."""
    inner = [30 - h, h] * (w - 1)
    return {"size": [30, 40], "counts": [30 * x + y, h, *inner, 30 * (40 - x - w) + 30 - y - h]}


@pytest.mark.parametrize("mask", [False, True], ids=["polygons", "masks"])
@pytest.mark.parametrize(
    ("meant", "words"),
    [
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "they are centre, width and height"),
        (lambda x, y, w, h: [x / 2, y / 2, w / 2, h / 2], "as if for an image of another size"),
        (lambda x, y, w, h: [0.85 * x, 0.85 * y, 0.85 * w, 0.85 * h], "as if for an image of another size"),
        (lambda x, y, w, h: [y, x, h, w], "or in another order"),
        (lambda x, y, w, h: [x, y, x + w, y + h], "3 of 3 boxes are left, top, right and bottom"),
        (lambda x, y, w, h: [x, y, x + w - 1, y + h - 1], "3 of 3 boxes are left, top, right and bottom"),
    ],
    ids=["centres", "half", "a little smaller", "transposed", "corners", "corners within"],
)
def test_boxes_that_their_outlines_contradict_are_refused(
    tmp_path: Path, meant: Callable[..., list[float]], words: str, mask: bool
) -> None:
    around: list[list[float]] = [[16, 8, 14, 10], [20, 10, 12, 14], [18, 12, 16, 12]]
    message = refusal(outlined([meant(*one) for one in around], around, tmp_path, mask))
    assert words in message
    assert "3 of 3 boxes" in message
    assert "annotations.json: annotations[0].bbox" in message


@pytest.mark.parametrize("mask", [False, True], ids=["polygons", "masks"])
@pytest.mark.parametrize(
    "meant",
    [
        lambda x, y, w, h: [x, y, w, h],
        lambda x, y, w, h: [x + 1, y + 1, w - 2, h - 2],
        lambda x, y, w, h: [x - 6, y, w + 6, h + 9],
        lambda x, y, w, h: [0, 0, 40, 30],
    ],
    ids=["same", "rounded", "larger", "the whole image"],
)
def test_boxes_that_hold_their_outlines_are_read(tmp_path: Path, meant: Callable[..., list[float]], mask: bool) -> None:
    around: list[list[float]] = [[16, 8, 14, 10], [20, 10, 12, 11], [18, 5, 16, 12]]
    found = read(outlined([meant(*one) for one in around], around, tmp_path, mask))
    assert not any("not around" in one for one in found.warnings)


def test_single_boxes_that_their_outlines_contradict_are_counted(tmp_path: Path) -> None:
    around: list[list[float]] = [[16, 8, 14, 10], [20, 10, 12, 14], [18, 12, 16, 12]]
    found = read(outlined([*around[:2], [2, 2, 9, 9]], around, tmp_path))
    assert len(found.images[0].boxes) == 3
    assert any(one.startswith("1 boxes do not surround the polygon or mask") for one in found.warnings)


def test_one_outline_among_boxes_does_not_tell_of_all(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["segmentation"] = [[20, 20, 29, 20, 29, 29]]

    found = read(source(tmp_path, {"a.png": [[1, 1, 9, 9], [5, 5, 9, 9], [9, 9, 9, 9], [12, 1, 9, 9]]}, change))
    assert len(found.images[0].boxes) == 4


def test_the_area_of_a_mask_may_be_anything(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for mark, area in zip(content["annotations"], (135, 20 * 15, 71, float("nan"), "9"), strict=True):
            mark["area"] = area

    boxes = [[5.0, 6.0, width, 15.0] for width in (20.0, 21.0, 22.0, 23.0, 24.0)]
    assert len(read(source(tmp_path, {"a.png": boxes}, change)).images[0].boxes) == 5


def test_what_a_box_cannot_hold_is_said(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        one, other, plain = content["annotations"]
        one |= {"segmentation": [[1, 1, 9, 1, 9, 9]], "attributes": {"rotation": 30.0}}
        other |= {"keypoints": [1, 1, 2], "attributes": {"rotation": 0}}
        plain |= {"segmentation": [], "attributes": {"rotation": "x"}}

    found = read(source(tmp_path, {"a.png": [[1.0, 1, 9, 9], [2, 1, 9, 9], [3, 1, 9, 9]]}, change))
    assert found.warnings == (
        "2 annotations have key points or outlines in addition to their box; only the box is read",
        "1 boxes are rotated (attributes.rotation); they are read without their rotation",
    )


def test_an_annotation_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        marks = content["annotations"]
        marks += [marks[0] | {"id": 99}, marks[0] | {"id": 98, "category_id": 8}]
        content["categories"].append({"id": 8, "name": "eel"})

    found = read(source(tmp_path, {"a.png": [[1, 1, 9, 9], [2, 1, 9, 9]], "b.png": [[1, 1, 9, 9]]}, change))
    assert [[(box.label, box.x) for box in image.boxes] for image in found.images] == [
        [("cod", 1), ("cod", 2), ("eel", 1)],
        [("cod", 1)],
    ]
    assert "1 annotations repeat another with the same image, category and box; one of each is kept" in found.warnings
    assert "1 boxes are given for two or more classes; all are kept: check them" in found.warnings


def test_an_annotation_that_is_given_again_with_other_digits_counts_once(tmp_path: Path) -> None:
    box = [5.25, 6.125, 20.5, 15.75]
    again: list[list[float]] = [
        [5, 6, 20, 16],
        [5.3, 6.1, 20.5, 15.8],
        [8.0, 8.0, 9, 9],
        [8.01, 7.99, 9, 9],
        [9.0, 8, 9, 9],
        [5, 6, 22, 16],
    ]

    found = read(source(tmp_path, {"a.png": [box, *again], "b.png": [box]}, lambda content: None))

    kept = [[tuple(round(side, 2) for side in (one.x, one.width)) for one in image.boxes] for image in found.images]
    assert kept == [[(5.25, 20.5), (8, 9), (9, 9), (5, 22)], [(5.25, 20.5)]]
    assert "3 annotations repeat another with the same image, category and box; one of each is kept" in found.warnings


def test_boxes_of_a_row_that_moves_on_by_little_are_not_all_taken_for_one(tmp_path: Path) -> None:
    boxes = [[5 + number / 4, 6, 9, 9] for number in range(40)]
    found = read(source(tmp_path, {"a.png": boxes}, lambda content: None))
    assert 8 <= len(found.images[0].boxes) <= 20


def test_names_that_are_none_are_no_further_fault_of_being_equal(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["categories"] = [{"id": 7, "name": 1}, {"id": 8, "name": 2}]
        content["annotations"][1]["category_id"] = 8

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9], [2, 2, 9, 9]]}, change))
    assert message.startswith("2 faults: (1) annotations.json: categories[0].name is not a class name")


@pytest.mark.parametrize("name", ["cod", " cod "], ids=repr)
def test_categories_that_have_one_name_and_are_used_are_refused(tmp_path: Path, name: str) -> None:
    def change(content: Content) -> None:
        content["categories"].append({"id": 9, "name": name})
        content["annotations"][1]["category_id"] = 9

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9], [2, 2, 9, 9]]}, change))
    assert "annotations.json has 1 class names that stand for more than one class: cod (id 7, id 9)" in message


def test_a_category_that_nothing_uses_may_have_the_name_of_another(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["categories"].insert(0, {"id": 0, "name": "cod", "supercategory": "none"})

    assert read(source(tmp_path, {"a.png": [[1, 1, 9, 9]]}, change)).classes == ("cod",)


@pytest.mark.parametrize("other", ["Cod", "c\u200bod", "ｃｏｄ"], ids=ascii)
def test_categories_that_look_the_same_are_refused(tmp_path: Path, other: str) -> None:
    def change(content: Content) -> None:
        content["categories"].append({"id": 9, "name": other})
        content["annotations"][1]["category_id"] = 9

    message = refusal(source(tmp_path, {"a.png": [[1, 1, 9, 9], [2, 2, 9, 9]]}, change))
    assert "1 classes have names that differ in case, in spaces or in how a character is encoded alone" in message


def test_names_that_differ_in_their_unicode_form_are_one_class_of_all_files(tmp_path: Path) -> None:
    for split, name in (("train", "M\u00fcll"), ("val", "Mu\u0308ll")):
        photo(tmp_path / split / f"{split}.png")
        content: Content = coco({f"{split}.png": [[1, 1, 9, 9]]}, categories=[{"id": 7, "name": name}])
        document(tmp_path / split / "_annotations.coco.json", content)
    found = read(tmp_path)
    assert found.classes == ("M\u00fcll",)
    assert any("not in Unicode's composed form (NFC), and are read as such: M\u00fcll" in one for one in found.warnings)


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photo(tmp_path / split / f"{split}.png")
        content: Content = coco({f"{split}.png": [[1, 1, 9, 9], [1, 2, 0, 9], [0.1, 0.1, 0.2, 0.2]]})
        content["annotations"] += [{"image_id": 5, "category_id": 7, "bbox": [1, 1, 9, 9]}, {"image_id": 10}]
        document(tmp_path / split / "_annotations.coco.json", content)
    text(tmp_path / "test" / "_annotations.coco.json", "{")

    message = refusal(tmp_path)

    assert message.startswith("9 faults: (1) test/_annotations.coco.json is not JSON")
    for split in ("train", "val"):
        where = f"{split}/_annotations.coco.json"
        for place in ("[1]: x, y, width", "[2]: x, y, width", "[4].category_id"):
            assert f"{where}: annotations{place}" in message
        assert (
            f"{where} has 1 annotations with an image_id that is the id of no entry of images[] (annotations[3]"
            in message
        )


def test_of_many_faults_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        read(source(tmp_path, {"a.png": [[1, 1, 0, 9]] * 500}, lambda content: None))
    failure = caught.value.failure
    assert failure.reason is Reason.ANNOTATION_OUTSIDE_IMAGE
    assert failure.message.startswith("500 faults: (1) annotations.json: annotations[0]: ")
    assert failure.message.endswith("And 490 more like these.")
    assert len(failure.message) < 3000
