"""What YOLO sources of real tools contain beyond plain boxes: read as it was meant, or refused with file, line and value."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from image_sources import photo, read, text
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.model import Box


def source(root: Path, settings: str, *labels: str) -> Path:
    """A YOLO source with an image of 100 x 100 pixels for each label file."""
    text(root / "data.yaml", settings)
    return _labelled(root, *labels)


def lines(root: Path, classes: str, *labels: str) -> Path:
    """The same, with class names in classes.txt instead of data.yaml."""
    text(root / "classes.txt", classes)
    return _labelled(root, *labels)


def _labelled(root: Path, *labels: str) -> Path:
    for number, rows in enumerate(labels):
        photo(root / "images" / f"{number}.png", 100, 100, seed=number)
        text(root / "labels" / f"{number}.txt", rows)
    return root


def refusal(root: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        read(root)
    return caught.value.failure.message


@pytest.mark.parametrize(
    ("shape", "points"),
    [("[3, 2]", "0.45 0.45 0.55 0.45 0.5 0.6"), ("[2, 3]", "0.45 0.45 2 0 0 0"), ("[1, 2]", "0 0")],
    ids=str,
)
def test_of_a_row_with_key_points_the_first_four_numbers_are_the_box(tmp_path: Path, shape: str, points: str) -> None:
    rows = f"0 0.5 0.5 0.25 0.25 {points}\n0 0.5 0.5 0.5 0.5\n"
    found = read(source(tmp_path, f"names: [cod]\nkpt_shape: {shape}\n", rows))
    assert found.images[0].boxes == (Box("cod", 37.5, 37.5, 25, 25), Box("cod", 25, 25, 50, 50))
    assert any("kpt_shape" in warning for warning in found.warnings)


@pytest.mark.parametrize("row", ["0 0.5 0.5 0.25 0.25 0.1", "0 0.1 0.1 0.2 0.1 0.2 0.2", "0 0.5 0.5"])
def test_a_row_that_does_not_fit_its_key_points_is_refused(tmp_path: Path, row: str) -> None:
    message = refusal(source(tmp_path, "names: [cod]\nkpt_shape: [3, 2]\n", row))
    assert message.startswith(
        f"labels/0.txt, line 1: {len(row.split())} columns; by kpt_shape, [3, 2], a row has 11, or 5"
    )


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[0, 2]", "[a, b]", "[100000, 3]"])
def test_key_points_of_no_shape_are_refused(tmp_path: Path, shape: str) -> None:
    assert "data.yaml: kpt_shape must be" in refusal(
        source(tmp_path, f"names: [cod]\nkpt_shape: {shape}", "0 .5 .5 .5 .5")
    )


def test_rows_with_visible_key_points_and_no_shape_are_refused_with_a_hint(tmp_path: Path) -> None:
    message = refusal(source(tmp_path, "names: [cod]", "0 0.5 0.5 0.25 0.25 0.45 0.45 2 0.5 0.5 2"))
    assert message.startswith("labels/0.txt, line 1: 2 is not a fraction of the image")
    assert "kpt_shape" in message


def test_rows_that_are_boxes_with_key_points_to_the_eye_are_refused_without_their_shape(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.25 0.25 0.45 0.45 1 0.5 0.5 1\n0 0.3 0.5 0.25 0.25 0 0 0 0.3 0.5 1\n"
    message = refusal(source(tmp_path, "names: [cod]", rows, "0 .5 .5 .2 .2"))
    assert message.startswith("rows of more than 5 columns, 2, look like a box with key points")
    assert "add it, which would be [2, 3] or [3, 2]" in message


SMALL = (0.3, 0.4, 0.08, 0.12)
LARGE = (0.5, 0.5, 0.4, 0.4)


def pose(box: tuple[float, ...], spread: float, count: int, sure: float | None = None, stray: bool = False) -> str:
    """A row with key points around the middle of its box, with confidences if ``sure``; the last one may lie outside the box."""
    x, y, width, height = box
    points = [(x + (number - 1) * spread * width, y + (number % 2) * spread * height) for number in range(count)]
    points[-1] = (x + width, y) if stray else points[-1]
    third = "" if sure is None else f" {sure}"
    return f"0 {x} {y} {width} {height} " + " ".join(f"{left:.4f} {top:.4f}{third}" for left, top in points) + "\n"


@pytest.mark.parametrize(
    ("sure", "end"), [(None, ""), (0.93, ""), (0.93, " 0.88")], ids=["two", "three", "confidence of the box"]
)
def test_key_points_without_their_shape_are_refused_though_one_lies_out_of_its_box(
    tmp_path: Path, sure: float | None, end: str
) -> None:
    count = 4 if sure and not end else 3  # so that the rows have an even number of columns, as no outline has
    rows = [pose(SMALL, 0.3, count, sure, stray=number == 0).rstrip() + end for number in range(6)]
    message = refusal(source(tmp_path, "names: [cod]", "\n".join(rows)))
    assert "look like a box with key points, and data.yaml has no kpt_shape: add it" in message


def test_polygons_that_may_be_key_points_are_said_to_be_doubtful(tmp_path: Path) -> None:
    rows = "".join(pose(LARGE, 0.4 + number / 100, 2) for number in range(4))
    doubt = "each polygon could also be a box with key points; if so, add kpt_shape to data.yaml"
    assert doubt in read(source(tmp_path, "names: [cod]", rows)).warnings
    outline = "0 0.1 0.1 0.9 0.1 0.9 0.9 0.5 0.95\n"
    text(tmp_path / "labels" / "0.txt", rows + outline)
    assert doubt in read(tmp_path).warnings
    text(tmp_path / "labels" / "0.txt", rows + outline + outline.replace("0.95", "0.9"))
    assert doubt not in read(tmp_path).warnings


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 40])
@pytest.mark.parametrize("size", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("middle", [0.3, 0.5, None])
def test_outlines_are_not_taken_for_key_points(tmp_path: Path, corners: int, size: float, middle: float | None) -> None:
    generator = random.Random(corners)
    rows = []
    for _ in range(40):
        x, y = (middle, middle) if middle else (generator.uniform(0.25, 0.75), generator.uniform(0.25, 0.75))
        turned, flat = generator.uniform(0, math.tau), generator.uniform(0.2, 1)
        angles = (
            sorted(generator.uniform(0, math.tau) for _ in range(corners)) if corners != 4 else [0, 1.2, 3.14, 4.34]
        )
        outline = [(size / 2 * math.cos(angle), size / 2 * flat * math.sin(angle)) for angle in angles]
        points = [
            (x + a * math.cos(turned) - b * math.sin(turned), y + a * math.sin(turned) + b * math.cos(turned))
            for a, b in outline
        ]
        rows.append("0 " + " ".join(f"{a:.5f} {b:.5f}" for a, b in points) + "\n")
    assert len(read(source(tmp_path, "names: [cod]", "".join(rows))).images[0].boxes) == 40


def test_boxes_among_polygons_stay_boxes_and_are_said(tmp_path: Path) -> None:
    found = read(source(tmp_path, "names: [cod]", "0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.2 0.1 0.2 0.3\n", "0 .5 .5 .2 .2"))
    assert found.images[0].boxes[0] == Box("cod", 25, 25, 50, 50)
    assert [round(side) for side in (found.images[0].boxes[1].x, found.images[0].boxes[1].height)] == [10, 20]
    assert "1 rows are polygons; their bounding boxes are read, and the outlines are left out" in found.warnings
    assert any(one.startswith("1 label files contain boxes and polygons") for one in found.warnings)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0 30 20 10 10", "30 is not a fraction of the image"),
        ("0 0.5 0.5 0 0.5", "width 0 and height 0.5: a box without area"),
        ("0 0.5 0.5 0.5 -0.5", "width 0.5 and height -0.5: a box without area"),
        ("0 0.1 0.1 0.2 0.1 0.3 0.1", "height 0: a box without area"),
        ("7 0.5 0.5 0.5 0.5", "class 7 is not declared in names, which has 1 (0 to 0)"),
    ],
)
def test_a_row_is_refused_with_file_line_and_value(tmp_path: Path, row: str, words: str) -> None:
    assert refusal(source(tmp_path, "names: [cod]", f"0 0.5 0.5 0.5 0.5\n{row}\n")).startswith("labels/0.txt, line 2: ")
    assert words in refusal(tmp_path)


def test_a_row_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    row = "0 0.5 0.5 0.5 0.5\n"
    found = read(source(tmp_path, "names: [cod, eel]", row * 3 + "1 0.5 0.5 0.5 0.5\n", row, "", row * 2))
    assert [len(image.boxes) for image in found.images] == [2, 1, 0, 1]
    assert any(
        one.startswith(
            "3 rows repeat another with the same file, class and box; one of each is kept: labels/0.txt, labels/3.txt"
        )
        for one in found.warnings
    )


@pytest.mark.parametrize("empty", ["", " ", "\u2060", "\u200b\u00a0"], ids=ascii)
def test_an_empty_line_of_class_names_keeps_its_number(tmp_path: Path, empty: str) -> None:
    found = read(lines(tmp_path, f"copepod\n{empty}\ndiatom\nradiolarian\n{empty}\n", "0 .5 .5 .5 .5", "2 .5 .5 .5 .5"))
    assert [image.boxes[0].label for image in found.images] == ["copepod", "diatom"]
    assert any("classes.txt has 1 empty lines before its last name" in one for one in found.warnings)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"], ids=ascii)
def test_lines_end_where_editors_end_them(tmp_path: Path, end: str) -> None:
    root = lines(tmp_path, "", f"0 .5 .5 .5 .5{end}1 .5 .5 .2 .2{end}")
    (root / "classes.txt").write_bytes(f"\ufeffsea\x85cow{end}diatom{end}".encode())
    assert [box.label for box in read(root).images[0].boxes] == ["sea\x85cow", "diatom"]


def test_a_comment_among_class_names_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(lines(tmp_path, "cod\n# all others\neel\n", "0 0.5 0.5 0.5 0.5\n"))
    assert message.startswith("classes.txt, line 2 begins with #: a comment would count as a class")


def test_a_row_of_a_class_whose_line_is_empty_is_refused(tmp_path: Path) -> None:
    message = refusal(lines(tmp_path, "copepod\n\ndiatom\n", "1 .5 .5 .5 .5"))
    assert message.startswith("labels/0.txt, line 1: class 1 has no name: its line, 2, is empty in classes.txt")


@pytest.mark.parametrize("other", ["egg", " egg ", "e\u0301gg"], ids=ascii)
def test_class_names_that_are_equal_and_used_are_refused(tmp_path: Path, other: str) -> None:
    first = "\u00e9gg" if "\u0301" in other else "egg"
    message = refusal(source(tmp_path, f"names: ['{first}', larva, '{other}']", "0 .5 .5 .5 .5", "2 .5 .5 .5 .5"))
    assert f"data.yaml has 1 class names that stand for more than one class: {first} (class 0, class 2)" in message


def test_a_class_that_nothing_uses_may_have_the_name_of_another(tmp_path: Path) -> None:
    assert read(source(tmp_path, "names: [egg, larva, egg]", "0 .5 .5 .5 .5")).classes == ("egg",)


def test_class_names_that_look_the_same_are_refused(tmp_path: Path) -> None:
    message = refusal(source(tmp_path, "names: [Sea Urchin, larva, sea  urchin]", "0 .5 .5 .5 .5", "2 .5 .5 .5 .5"))
    assert "1 classes have names that differ in case, in spaces" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("names: {0: egg, 2: larva}", "2 entries, but none for 1"),
        ("names: {1: egg, 2: larva}", "2 entries, but none for 0"),
        ("names: {0: egg, '0': larva}", "2 entries, but one id twice"),
        ("names: {0: egg, 0: larva}", "line 1: the key is twice"),
        ("names: [egg]\nnames: [larva]", "line 2: the key is twice"),
        ("names: [egg, , larva]", "is not supported YAML"),
        ("names:\n  - egg\n  -\n  - larva", r"names[1] is not a class name"),
    ],
)
def test_ids_of_class_names_have_no_gaps_and_stand_once(tmp_path: Path, settings: str, words: str) -> None:
    assert words in refusal(source(tmp_path, settings, "0 .5 .5 .5 .5"))


def test_ids_of_class_names_may_be_text(tmp_path: Path) -> None:
    found = read(source(tmp_path, "names: {'1': larva, '0': egg}", "0 .5 .5 .5 .5", "1 .5 .5 .5 .5"))
    assert [image.boxes[0].label for image in found.images] == ["egg", "larva"]


def test_all_faults_of_all_label_files_are_told_at_once(tmp_path: Path) -> None:
    good = "0 .5 .5 .5 .5"
    labels = (f"{good}\n0 .5 .5\n5 .5 .5 .5 .5\n", good, f"x .5 .5 .5 .5\n{good}\n0 30 .5 .5 .5\n", "0 nan .5 .5 .5")
    with pytest.raises(RefusedError) as caught:
        read(source(tmp_path, "names: [cod]", *labels))
    failure = caught.value.failure
    assert failure.reason is Reason.FORMAT_INVALID
    assert failure.message.startswith("5 faults: (1) labels/0.txt, line 2: 3 columns")
    for place in (
        "0.txt, line 3: class 5",
        "2.txt, line 1: ",
        "2.txt, line 3: 30 is not a fraction",
        "3.txt, line 1: ",
    ):
        assert f"labels/{place}" in failure.message


def test_all_faults_of_the_settings_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(source(tmp_path, "names: [cod, 7]\ntrain: 3\nkpt_shape: x", "0 .5 .5 .5 .5"))
    assert message.startswith("3 faults: ")
    assert all(f"data.yaml: {field}" in message for field in ("names[1]", "train", "kpt_shape"))


def test_of_many_faults_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    message = refusal(source(tmp_path, "names: [cod]", *["0 .5 .5\n" * 30] * 3))
    assert message.startswith("90 faults: (1) labels/0.txt, line 1: ")
    assert message.endswith("And 80 more like these.")


def test_faults_of_settings_lists_and_labels_are_told_together(tmp_path: Path) -> None:
    source(tmp_path, "names: [egg, 7]\nnc: 3\ntrain: train.txt\n", "1 .5 .5 .5 .5\n9 .5 .5 .5 .5", "0 .9 .5 .5 .5")
    text(tmp_path / "train.txt", "images/0.png\nimages/nothing.png\nimages/1.png\n")
    message = refusal(tmp_path)
    assert message.startswith("5 faults: (1) data.yaml: nc, 3, is not the number of names, 2")
    for words in (
        "names[1] is not a class name",
        "train.txt, line 2",
        "0.txt, line 2: class 9",
        "1.png (egg: 65, 25, 50, 50)",
    ):
        assert words in message


def test_without_class_names_labels_are_judged_all_the_same(tmp_path: Path) -> None:
    message = refusal(source(tmp_path, "names: {0: egg, 2: larva}", "9 .5 .5 .5 .5\n0 .5 .5"))
    assert message.startswith("2 faults: (1) data.yaml: names must be a list")
    assert "labels/0.txt, line 2: 3 columns" in message


@pytest.mark.parametrize("written", ["1", "1.0", "1.000000000000000000e+00", "01"])
def test_a_class_may_be_written_as_a_number_with_decimals(tmp_path: Path, written: str) -> None:
    assert read(source(tmp_path, "names: [cod, eel]", f"{written} .5 .5 .5 .5")).classes == ("eel",)


@pytest.mark.parametrize("written", ["0.5", "nan", "inf", "1e99", "1_0", "\u0661", "x"])
def test_a_class_that_is_no_whole_number_is_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(RefusedError, match=r"labels/0\.txt, line 1: .* the class as a whole number"):
        read(source(tmp_path, "names: [cod, eel]", f"{written} .5 .5 .5 .5"))
