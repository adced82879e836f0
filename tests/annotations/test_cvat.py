"""CVAT for images 1.1: every shape that its tools draw, as exported from tasks, projects and jobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from image_sources import photo, read, text, tree_of
from pelagos_contract.dataset import Change
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import masks, reading
from pelagos_pipelines.annotations.drawings import Drawings
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, Exclusion
from pelagos_pipelines.annotations.shapes import Kind, Shape

PARSER = "pelagos_pipelines.annotations.cvat_document"
LABELS = "".join(f"<label><name>{name}</name><attributes/></label>" for name in ("eel", "cod"))
BOX = '<box label="cod" xtl="10" ytl="20" xbr="30" ybr="60" source="manual" occluded="0" z_order="0"/>'


SKELETON = (
    '<skeleton label="cod"><points label="head" outside="0" occluded="0" points="1,2"/>'
    '<points label="tail" outside="0" occluded="1" points="3,4"/><points label="fin" outside="1" points="5,6"/>'
    "</skeleton>"
)


def document(images: str, meta: str = f"<task><labels>{LABELS}</labels></task>") -> str:
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta>{meta}</meta>{images}</annotations>'


def image(*marks: str, name: str = "a.png", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="100" height="80" {more}>{"".join(marks)}</image>'


def make(root: Path, *marks: str) -> Path:
    """An export of a task with one image."""
    photo(root / "images" / "a.png", 100, 80)
    text(root / "annotations.xml", document(image(*marks)))
    return root


def drawings(root: Path) -> Drawings:
    """What the child reads from annotations.xml."""
    faults = Faults()
    ((_, found),) = reading.drawings(PARSER, tree_of(root), ["annotations.xml"], faults)
    faults.refuse_any()
    assert found is not None
    return found


def shape(root: Path, mark: str) -> Shape:
    ((only,),) = (each.shapes for each in drawings(make(root, mark)).images)
    return only


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (BOX, Shape("cod", Kind.RECTANGLE, (10, 20, 20, 40, 0))),
        (BOX.replace("z_order", 'rotation="90" z_order'), Shape("cod", Kind.RECTANGLE, (10, 20, 20, 40, 90))),
        (
            '<polygon label="cod" points="1.5,2;30,2;30,40"/>',
            Shape("cod", Kind.POLYGON, (1.5, 2, 30, 2, 30, 40), (3,)),
        ),
        ('<polyline label="cod" points="1,2;30,2"/>', Shape("cod", Kind.LINE, (1, 2, 30, 2))),
        ('<points label="cod" points="1,2"/>', Shape("cod", Kind.POINT, (1, 2))),
        ('<points label="cod" points="1,2;3,4"/>', Shape("cod", Kind.KEY_POINTS, (1, 2, 2, 3, 4, 2))),
        (
            '<ellipse label="cod" cx="50" cy="40" rx="20" ry="10" rotation="30"/>',
            Shape("cod", Kind.ELLIPSE, (50, 40, 20, 10, 30)),
        ),
        (
            '<mask label="cod" rle="1, 2, 3" left="4" top="5" width="3" height="2"/>',
            Shape("cod", Kind.MASK, (4, 5, 3, 2, 1, 2, 3)),
        ),
        ('<tag label="cod" source="manual"/>', Shape("cod", Kind.TAG)),
        (
            SKELETON,
            Shape("cod", Kind.KEY_POINTS, (1, 2, 2, 3, 4, 1, 0, 0, 0), points=("head", "tail", "fin")),
        ),
    ],
    ids=["box", "turned", "polygon", "polyline", "point", "points", "ellipse", "mask", "tag", "skeleton"],
)
def test_every_shape_is_read(tmp_path: Path, mark: str, expected: Shape) -> None:
    assert shape(tmp_path, mark) == expected


def test_a_mask_goes_along_the_rows_of_its_part_of_the_image(tmp_path: Path) -> None:
    found = shape(tmp_path, '<mask label="cod" rle="1, 2, 3" left="4" top="5" width="3" height="2"/>')

    where = np.argwhere(masks.on_image(found, 100, 80)).tolist()
    assert where == [[5, 5], [5, 6]]


def test_attributes_and_what_cvat_says_itself_are_kept_apart(tmp_path: Path) -> None:
    mark = (
        '<box label="cod" xtl="1" ytl="2" xbr="3" ybr="4" occluded="1" source="semi-auto" z_order="2" group_id="7">'
        '<attribute name="sex">female</attribute><attribute name="source">net 4</attribute></box>'
    )

    assert shape(tmp_path, mark).attributes == {
        "occluded": "true",
        "source": "semi-auto",
        "z_order": "2",
        "group_id": "7",
        "sex": "female",
        "attribute.source": "net 4",
    }


def test_classes_have_the_order_of_the_labels_without_the_points_of_skeletons(tmp_path: Path) -> None:
    point = "<label><name>head</name><type>points</type><parent>cod</parent></label>"
    photo(tmp_path / "images/a.png", 100, 80)
    eel = BOX.replace("cod", "eel")
    text(
        tmp_path / "annotations.xml",
        document(image(BOX, eel), f"<job><labels>{point}{LABELS}</labels></job>"),
    )

    found = read(tmp_path)

    assert found.classes == ("eel", "cod")
    assert found.images[0].boxes == (Box("cod", 10, 20, 20, 40), Box("eel", 10, 20, 20, 40))


def test_subsets_are_splits_and_images_of_one_name_stay_apart(tmp_path: Path) -> None:
    marks = {"Train": BOX, "Validation": "", "Test": BOX.replace('label="cod"', 'label="eel"')}
    for number, subset in enumerate(marks):
        photo(tmp_path / "images" / subset / "north/a.png", 100, 80, seed=number)
    body = "".join(
        image(mark, name="north/a.png", more=f'subset="{subset}" task_id="{number}"')
        for number, (subset, mark) in enumerate(marks.items())
    )
    text(tmp_path / "annotations.xml", document(body, f"<project><labels>{LABELS}</labels></project>"))

    found = read(tmp_path)

    assert {each.path: (each.split, sorted(each.labels)) for each in found.images} == {
        "images/Train/north/a.png": ("train", ["cod"]),
        "images/Validation/north/a.png": ("validation", []),
        "images/Test/north/a.png": ("test", ["eel"]),
    }
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("file", "meta"),
    [("annotations.xml", "<task><subset>Test</subset></task>"), ("Test.xml", ""), ("annotations.xml", "")],
    ids=["of the task", "of Datumaro's file", "none"],
)
def test_a_task_may_be_of_one_subset(tmp_path: Path, file: str, meta: str) -> None:
    photo(tmp_path / "images/a.png", 100, 80)
    text(tmp_path / file, document(image(BOX), meta))

    assert read(tmp_path).images[0].split == ("test" if meta or file == "Test.xml" else None)


@pytest.mark.parametrize("end", [".PNG", ".png", ".jpg"])
def test_frames_of_a_video_are_found_without_a_suffix(tmp_path: Path, end: str) -> None:
    photo(tmp_path / f"images/frame_000012{end}", 100, 80)
    text(tmp_path / "annotations.xml", document(image(BOX, name="frame_000012")))

    assert len(read(tmp_path).images[0].boxes) == 1


def test_two_images_of_one_name_are_never_taken_for_one_file(tmp_path: Path) -> None:
    photo(tmp_path / "images/Test/a.png", 100, 80)
    body = "".join(image(BOX, more=f'subset="{subset}"') for subset in ("Train", "Test"))
    text(tmp_path / "annotations.xml", document(body))

    with pytest.raises(RefusedError, match=r"images/Test/a\.png is named by two annotated images") as refused:
        read(tmp_path)
    assert "annotations.xml: image 0 (counted from 0), and annotations.xml: image 1" in str(refused.value)


def test_images_of_two_exports_are_named(tmp_path: Path) -> None:
    make(tmp_path, BOX)
    text(tmp_path / "old.xml", document(image(BOX)))

    assert any("1 images are annotated in more than one file: images/a.png" in each for each in read(tmp_path).warnings)


def test_tasks_of_a_project_may_show_one_image_twice(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png", 100, 80)
    other = BOX.replace('xtl="10"', 'xtl="11"')
    text(tmp_path / "annotations.xml", document(image(BOX, more='task_id="1"') + image(other, more='task_id="2"')))

    assert len(read(tmp_path).images[0].boxes) == 2


def test_an_image_without_shapes_is_a_background_and_one_with_a_cuboid_alone_is_not(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "deleted"):
        photo(tmp_path / f"images/{name}.png", 100, 80)
    cuboid = '<cuboid label="cod" xtl1="1" ytl1="2"/>'
    text(tmp_path / "annotations.xml", document(image(BOX) + image(name="b.png") + image(cuboid, name="c.png")))

    found = read(tmp_path)

    assert [(each.path, len(each.boxes)) for each in found.images] == [("images/a.png", 1), ("images/b.png", 0)]
    assert set(found.excluded) == {
        Exclusion("images/c.png", ExclusionReason.UNLABELLED),
        Exclusion("images/deleted.png", ExclusionReason.UNLISTED),
    }
    assert any(warning.startswith("1 annotations are cuboids") for warning in found.warnings)


def test_what_detection_cannot_hold_is_counted_by_kind(tmp_path: Path) -> None:
    marks = ('<ellipse label="cod" cx="50" cy="40" rx="20" ry="10"/>', '<polyline label="cod" points="1,2;30,2"/>')
    found = read(make(tmp_path, BOX, *marks))

    assert {(each.kind, each.reason) for each in found.altered} == {
        ("ellipse", Change.BOX_AROUND),
        ("line", Change.LEFT_OUT),
    }


def test_tags_are_the_classes_of_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"images/{name}.png", 100, 80)
    body = image('<tag label="cod"/>') + image('<tag label="eel"/>', name="b.png")
    text(tmp_path / "annotations.xml", document(body))

    found = read(tmp_path, task=Task.CLASSIFICATION)

    assert [each.label for each in found.images] == ["cod", "eel"]


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (BOX.replace('xtl="10"', 'xtl="nan"'), "a rectangle has a coordinate that is not a number of pixels"),
        (BOX.replace('xtl="10"', 'xtl="1_0"'), "numbers that are not coordinates"),
        (BOX.replace('xtl="10"', ""), "numbers that are not coordinates"),
        (BOX.replace('xtl="10"', 'xtl="40"'), "a rectangle has a negative size"),
        (BOX.replace("cod", " "), "is not a class name"),
        ('<polygon label="cod" points="1,2"/>', "a ring of fewer than three points"),
        ('<polygon label="cod" points="1,2;3"/>', "numbers that are not coordinates"),
        ('<mask label="cod" rle="1,2" left="0" top="0" width="9" height="9"/>', "runs of 3 pixels, but 9 x 9 are 81"),
        (
            f'<mask label="cod" rle="1,{10**10}" left="0" top="0" width="100000" height="100000"/>',
            "more pixels than any camera",
        ),
        (f'<mask label="cod" rle="{"9" * 5000}" left="0" top="0" width="9" height="9"/>', "that are not coordinates"),
        (
            '<mask label="cod" rle="1,2" left="0.5" top="0" width="3" height="1"/>',
            "numbers that are not coordinates",
        ),
        ('<mask label="cod" rle="" left="0" top="0" width="9" height="9"/>', "numbers that are not coordinates"),
        ('<skeleton label="cod"/>', "key points have 0 numbers"),
        ("<a>" * 40 + "</a>" * 40, "more than 32 levels deep"),
    ],
)
def test_a_shape_that_is_none_is_refused_by_its_place(tmp_path: Path, mark: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        read(make(tmp_path, mark))
    assert refused.value.failure.reason is Reason.FORMAT_INVALID
    assert "annotations.xml" in str(refused.value)


def test_cvat_for_video_is_refused_with_the_export_to_choose(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / "annotations.xml", document('<track id="0" label="cod"><box frame="0"/></track>'))

    with pytest.raises(RefusedError, match=r"is CVAT for video.*export it as CVAT for images 1\.1"):
        read(tmp_path)


def test_a_document_type_is_never_read(tmp_path: Path) -> None:
    make(tmp_path, BOX)
    content = (tmp_path / "annotations.xml").read_text()
    bomb = '<!DOCTYPE annotations [<!ENTITY a "canary">]>'
    text(tmp_path / "annotations.xml", content.replace("<annotations>", f"{bomb}<annotations>").replace("eel", "&a;"))

    with pytest.raises(RefusedError, match="declares a document type"):
        read(tmp_path, name="Cvat")


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png", 100, 80)
    text(tmp_path / "annotations.xml", document(image(BOX).replace('width="100"', 'width="wide"')))

    with pytest.raises(RefusedError, match="width or height that is not a whole number of pixels"):
        read(tmp_path)


def test_an_image_that_is_not_there_is_named_by_its_place(tmp_path: Path) -> None:
    make(tmp_path, BOX)
    text(tmp_path / "annotations.xml", document(image(BOX) + image(BOX, name="lost.png")))

    with pytest.raises(RefusedError, match=r"annotations\.xml: image 1 \(counted from 0\)") as refused:
        read(tmp_path)
    assert refused.value.failure.reason is Reason.LABEL_WITHOUT_IMAGE
    assert "lost" not in refused.value.failure.message  # not everyone who can read status may read files' content


def test_pascal_voc_beside_it_is_another_format(tmp_path: Path) -> None:
    make(tmp_path, BOX)
    text(tmp_path / "a.xml", "<annotation><filename>a.png</filename></annotation>")

    with pytest.raises(RefusedError, match=r"fit more than one format \(Voc, Cvat\)"):
        read(tmp_path)
