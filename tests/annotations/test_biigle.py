"""BIIGLE: CSV reports with a row for each label of an annotation; all shapes, labels with equal names, and invalid tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from image_sources import photo, read, text, tree_of
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import reading, registry
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.shapes import Kind, Shape

HEADER = (
    "annotation_label_id,label_id,label_name,label_hierarchy,user_id,firstname,lastname,image_id,filename,image_longitude,"
    "image_latitude,shape_id,shape_name,points,attributes,annotation_id,created_at"
)
COLUMNS = HEADER.split(",")
_PERSON = "user_id,firstname,lastname"
_LABELLED = (
    f"image_label_id,image_id,filename,longitude,latitude,{_PERSON},label_id,label_name,label_hierarchy,created_at"
)
LABELS = _LABELLED.split(",")
BOX = ("Rectangle", [10, 20, 30, 20, 30, 60, 10, 60])
PARSER = "pelagos_pipelines.annotations.biigle_document"


def row(shape: str, points: object, name: str = "a.png", label: str = "cod", **more: object) -> dict[str, object]:
    """A row of the annotation report."""
    size = json.dumps({"width": 100, "height": 80, "mimetype": "image/png"})
    return {
        "annotation_label_id": 1,
        "label_name": label,
        "label_hierarchy": f"Animalia > {label}",
        "firstname": "Ada",
        "lastname": "Fisher",
        "filename": name,
        "shape_name": shape,
        "points": json.dumps(points),
        "attributes": size,
        "annotation_id": 7,
        "created_at": "2026-05-01 10:00:00",
    } | more


def report(path: Path, *rows: dict[str, object], columns: list[str] = COLUMNS, delimiter: str = ",") -> Path:
    """The report as PHP writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, columns, restval="", extrasaction="ignore", delimiter=delimiter, lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


def make(root: Path, *rows: dict[str, object], **more: object) -> Path:
    """One image with a report beside it."""
    photo(root / "a.png", 100, 80)
    report(root / "12-station.csv", *rows, **more)  # type: ignore[arg-type]
    return root


def shapes_of(root: Path) -> list[Shape]:
    """The parser's output, before the task reduces it to what it can hold."""
    tree, faults = tree_of(root), Faults()
    found = [drawings for _, drawings in reading.drawings(PARSER, tree, ["12-station.csv"], faults)]
    faults.refuse_any()
    (drawings,) = found
    assert drawings is not None
    return [shape for image in drawings.images for shape in image.shapes]


@pytest.mark.parametrize(
    ("name", "points", "kind", "numbers"),
    [
        ("Point", [1.5, 2], Kind.POINT, (1.5, 2)),
        ("LineString", [1, 2, 3, 4, 5, 7], Kind.LINE, (1, 2, 3, 4, 5, 7)),
        ("Polygon", [1, 2, 9, 2, 9, 7, 1, 2], Kind.POLYGON, (1, 2, 9, 2, 9, 7)),
        ("Circle", [50, 40, 5], Kind.CIRCLE, (50, 40, 5)),
        (*BOX, Kind.RECTANGLE, (10, 20, 20, 40, 0)),
        ("Rectangle", [30, 60, 30, 20, 10, 20, 10, 60], Kind.RECTANGLE, (10, 20, 20, 40, 0)),
        ("Rectangle", [20, 10, 30, 20, 20, 30, 10, 20], Kind.RECTANGLE, (12.929, 12.929, 14.142, 14.142, 45)),
        ("Rectangle", [0, 0, 40, 0, 30, 20, 0, 20], Kind.POLYGON, (0, 0, 40, 0, 30, 20, 0, 20)),
        ("Ellipse", [30, 40, 50, 30, 70, 40, 50, 50], Kind.ELLIPSE, (50, 40, 20, 10, 0)),
        ("Ellipse", [30, 40, 70, 40, 50, 30, 50, 50], Kind.ELLIPSE, (50, 40, 20, 10, 0)),
        ("Ellipse", [50, 30, 70, 40, 50, 50, 30, 40], Kind.ELLIPSE, (50, 40, 20, 10, 0)),
        ("Ellipse", [40, 30, 55, 35, 60, 50, 45, 45], Kind.ELLIPSE, (50, 40, 14.142, 7.071, 45)),
        ("WholeFrame", [], Kind.TAG, ()),
    ],
)
def test_every_shape_is_read(tmp_path: Path, name: str, points: object, kind: Kind, numbers: tuple[float, ...]) -> None:
    (shape,) = shapes_of(make(tmp_path, row(name, points)))

    assert shape.kind is kind
    assert shape.coordinates == pytest.approx(numbers, abs=1e-3)
    assert (shape.annotator, shape.origin) == ("Ada Fisher", "7")
    assert shape.attributes == {"label_hierarchy": "Animalia > cod"}


def test_detection_takes_boxes_and_leaves_unlisted_images_out(tmp_path: Path) -> None:
    make(tmp_path, row(*BOX), row("Circle", [50, 40, 5], label="eel", annotation_id=8))
    photo(tmp_path / "b.png", 100, 80)

    found = read(tmp_path)

    assert [(box.label, box.x, box.y, box.width, box.height) for box in found.images[0].boxes] == [
        ("cod", 10, 20, 20, 40),
        ("eel", 45, 35, 10, 10),
    ]
    assert [(each.path, each.reason) for each in found.excluded] == [("b.png", ExclusionReason.UNLISTED)]


def test_two_labels_of_an_annotation_count_twice_and_are_told(tmp_path: Path) -> None:
    same = row(*BOX) | {"firstname": "Bo"}
    found = read(make(tmp_path, row(*BOX), row(*BOX, label="eel"), same))

    assert [box.label for box in found.images[0].boxes] == ["cod", "eel"]
    assert any(words.startswith("1 annotations have more than one label,") for words in found.warnings)
    assert [each.annotations for each in found.altered if each.reason == Change.REPEATED] == [1]


def test_labels_of_one_name_are_told_apart_by_their_tree(tmp_path: Path) -> None:
    make(
        tmp_path,
        row(*BOX, label="sp. 1", label_hierarchy="Animalia > Holothuria > sp. 1"),
        row("Circle", [50, 40, 5], label="sp. 1", label_hierarchy="Animalia > Ophiura > sp. 1"),
        row("Circle", [50, 40, 6], label="cod"),
    )

    found = read(tmp_path)

    assert found.classes == ("Holothuria > sp. 1", "Ophiura > sp. 1", "cod")
    assert any("2 labels share their name" in words for words in found.warnings)


def test_labels_of_whole_images_are_their_class(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / name, 100, 80)
    rows = [
        {"image_label_id": 1, "filename": f"{name}.png", "label_name": kind}
        for name, kind in (("a", "sand"), ("b", "rock"))
    ]
    report(tmp_path / "labels.csv", *rows, columns=LABELS)

    found = read(tmp_path, Task.CLASSIFICATION)

    assert {image.path: image.label for image in found.images} == {"a.png": "sand", "b.png": "rock"}


def test_volumes_with_images_of_the_same_name_have_folders_of_their_own(tmp_path: Path) -> None:
    for folder in ("12-west", "east"):
        photo(tmp_path / folder / "a.png", 100, 80)
    report(tmp_path / "12-west.csv", row(*BOX))
    report(tmp_path / "13-east.csv", row("Circle", [50, 40, 5]))

    found = read(tmp_path, name="Biigle")

    assert [(image.path, len(image.boxes)) for image in found.images] == [("12-west/a.png", 1), ("east/a.png", 1)]


def test_reports_of_several_people_are_of_the_same_images(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.png", 100, 80)
    report(tmp_path / "1-Ada.csv", row(*BOX))
    report(tmp_path / "2-Bo.csv", row("Circle", [50, 40, 5], annotation_id=8))

    assert [len(image.boxes) for image in read(tmp_path).images] == [2]


def test_a_report_without_attributes_and_one_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    columns = [name for name in COLUMNS if name != "attributes"]
    assert read(make(tmp_path, row(*BOX), columns=columns)).images[0].width is None

    report(tmp_path / "12-station.csv", row(*BOX), delimiter=";")
    assert len(read(tmp_path).images[0].boxes) == 1


def test_formulas_and_markup_are_names_like_others(tmp_path: Path) -> None:
    formula, markup = '=HYPERLINK("http://evil.example")', "<script>alert(1)</script>"
    found = read(make(tmp_path, row(*BOX, label=formula), row("Circle", [50, 40, 5], label=markup, annotation_id=8)))

    assert found.classes == (markup, formula)


def test_other_tables_are_passed_over_and_named(tmp_path: Path) -> None:
    make(tmp_path, row(*BOX))
    text(tmp_path / "ctd.csv", "depth,temperature\n1,2\n")
    text(tmp_path / "videos.csv", "video_annotation_label_id,video_filename,label_name,shape_name,points\n")

    found = read(tmp_path)

    assert found.annotation_files == ("12-station.csv",)
    assert any("ctd.csv, videos.csv" in words for words in found.warnings)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (row("Blob", [1, 2]), "has a shape that BIIGLE does not define"),
        (row("Circle", [1, 2]), "a circle has 2 numbers instead of 3"),
        (row("Rectangle", [1, 2, 3, 4]), "a rectangle has 4 numbers, not x and y of four corners"),
        (row("Ellipse", [0, 0, 1, 1, 50, 2, 3, 70]), "an ellipse has four points that are not the ends of two axes"),
        (row("Ellipse", [1e308] * 8), "not a number of pixels"),
        (row("Point", [1, 2]) | {"points": "[NaN, 1]"}, "it has numbers that are not coordinates"),
        (row("Point", [1, 2]) | {"points": "[1e999, 1]"}, "no"),
        (row("Point", [True, 2]), "points that are not a list of numbers"),
        (row("Point", {"x": 1}), "points that are not a list of numbers"),
        (row("Polygon", [1, 2, 3, 4, 1, 2]), "a ring of fewer than three points"),
        (row("Circle", [1, 2, -3]), "a circle has a negative size"),
        (row("Point", [1, 2], label="\x07"), "class is not a class name"),
        (row("Point", [1, 2], attributes="{"), "attributes is not JSON"),
        (row("Point", [1, 2], attributes='{"width": -1, "height": 1}'), "not a whole number of pixels"),
        (row("Point", [1, 2], name=""), "names no image"),
        (row("Point", [1, 2], name="../../etc/passwd"), r"have no image: 12-station\.csv: line 2"),
    ],
    ids=lambda value: str(value.get("points", ""))[:20] if isinstance(value, dict) else "",
)
def test_a_row_that_is_none_is_refused_by_its_line(tmp_path: Path, shape: dict[str, object], words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read(make(tmp_path, shape))
    assert "line 2" in refused.value.failure.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'a.png,cod,Point,"[1, 2]",1,more\n', "line 2 has 6 cells, but there are 5 columns"),
        (b'a.png,cod,Point,"[1, 2]" x,1\n', "line 2 has quotes"),
        (b'a.png,cod,Point,"[1, 2]\n', "quotes"),
        (b'a.png,c\xf6d,Point,"[1, 2]",1\n', "line 2 is not UTF-8 text"),
    ],
    ids=["more cells", "text after a quote", "a quote without an end", "Latin-1"],
)
def test_what_is_no_table_is_refused_by_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    photo(tmp_path / "a.png", 100, 80)
    (tmp_path / "a.csv").write_bytes(b"filename,label_name,shape_name,points,annotation_id\n" + content)

    with pytest.raises(RefusedError, match=words):
        read(tmp_path)


def test_more_rows_than_the_ceiling_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATIONS", "20")
    make(tmp_path, *[row(*BOX)] * 30)

    with pytest.raises(RefusedError, match="more than 20 annotations"):
        read(tmp_path)


def test_the_format_is_recognised(tmp_path: Path) -> None:
    assert registry.detect(tree_of(make(tmp_path, row(*BOX)))).name == "Biigle"
