"""Pascal VOC as the challenge, labelImg, CVAT and Roboflow write it: an XML file for each image, corners in pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from image_sources import photo, read, text, tree_of
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import pascal_voc, registry
from pelagos_pipelines.annotations.model import Box, Exclusion

CHALLENGE = "<source><database>The VOC2007 Database</database></source>"


def thing(label: str = "cod", corners: Sequence[object] | None = (10, 20, 30, 60), more: str = "") -> str:
    """An object; without corners it has no box."""
    sides = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners or (), strict=False)
    )
    return f"<object><name>{label}</name>{f'<bndbox>{sides}</bndbox>' if sides else ''}{more}</object>"


def document(*things: str, name: str = "a.png", size: tuple[float, float] = (100, 80), more: str = "") -> str:
    width, height = size
    return (
        f"<annotation><folder>x</folder><filename>{name}</filename>{more}"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>{''.join(things)}</annotation>"
    )


def make(root: Path, *things: str, **words: Any) -> Path:
    """One image with its file in the challenge's folders."""
    photo(root / "JPEGImages" / "a.png", 100, 80)
    text(root / "Annotations" / "a.xml", document(*(things or (thing(),)), **words))
    return root


def test_corners_are_edges_in_pixels_as_todays_tools_write_them(tmp_path: Path) -> None:
    found = read(make(tmp_path, thing(), thing("eel", ("0", "0.5", "99.5", "80"))))

    assert found.classes == ("cod", "eel")
    assert found.images[0].boxes == (Box("cod", 10, 20, 20, 40), Box("eel", 0, 0.5, 99.5, 79.5))
    assert (found.images[0].width, found.images[0].height) == (100, 80)
    assert found.annotation_files == ("Annotations/a.xml",)
    assert found.warnings == ()


def test_corners_of_the_challenge_are_numbers_of_pixels_that_begin_at_one(tmp_path: Path) -> None:
    found = read(make(tmp_path, thing(corners=(1, 1, 100, 80)), more=CHALLENGE))

    assert found.images[0].boxes == (Box("cod", 0, 0, 100, 80),)
    assert "begin at 1 and include the last" in found.warnings[0]


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("JPEGImages/a.png", "Annotations/a.xml"),
        ("images/a.png", "annotations/a.xml"),
        ("train/a.png", "train/a.xml"),
        ("a.png", "a.xml"),
        ("dive1/JPEGImages/a.png", "dive1/Annotations/a.xml"),
    ],
    ids=["the challenge", "as many name them", "Roboflow", "labelImg", "in a folder"],
)
def test_the_file_of_an_image_is_found_in_the_layouts_of_the_field(tmp_path: Path, image: str, file: str) -> None:
    photo(tmp_path / image, 100, 80)
    text(tmp_path / file, document(thing()))

    assert [record.path for record in read(tmp_path, name="Voc").images] == [image]
    assert registry.detect(tree_of(tmp_path)).name == "Voc"


def test_lists_of_image_sets_say_the_splits(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        photo(tmp_path / f"JPEGImages/{name}.png", 100, 80)
        text(tmp_path / f"Annotations/{name}.xml", document(thing(), name=f"{name}.png"))
    for split, content in (("train", "a\nd\n"), ("val", "b  1\n"), ("test", "c -1\nd\n"), ("trainval", "a\nb\n")):
        text(tmp_path / f"ImageSets/Main/{split}.txt", content)
    text(tmp_path / "ImageSets/Main/cod_train.txt", "a 1\nb -1\n")
    text(tmp_path / "ImageSets/Segmentation/test.txt", "a\n")

    found = read(tmp_path)

    assert {Path(image.path).stem: image.split for image in found.images} == {
        "a": "train",
        "b": "validation",
        "c": "test",
        "d": None,
    }
    assert found.overlapping == ("JPEGImages/d.png",)
    assert "1 images are in more than one list of ImageSets" in " ".join(found.warnings)
    assert {"ImageSets/Main/train.txt", "ImageSets/Main/test.txt"} < set(found.annotation_files)


def test_without_lists_the_folders_of_the_images_say_the_splits(tmp_path: Path) -> None:
    for folder in ("train", "valid", "test"):
        photo(tmp_path / folder / f"{folder}.png", 100, 80)
        text(tmp_path / folder / f"{folder}.xml", document(thing(), name=f"{folder}.png"))

    splits = {Path(image.path).stem: image.split for image in read(tmp_path).images}

    assert splits == {"train": "train", "valid": "validation", "test": "test"}


def test_a_list_that_names_an_image_that_is_not_there_is_refused_with_its_line(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "ImageSets/Main/train.txt", "a\n\nb\n")

    with pytest.raises(RefusedError, match=r"ImageSets/Main/train\.txt: line 3"):
        read(tmp_path)


def test_a_file_without_an_object_makes_its_image_a_background_and_an_image_without_a_file_is_left_out(
    tmp_path: Path,
) -> None:
    make(tmp_path)
    for name in ("b", "c"):
        photo(tmp_path / f"JPEGImages/{name}.png", 100, 80)
    text(tmp_path / "Annotations/b.xml", document(name="b.png"))

    found = read(tmp_path)

    assert [(image.path, len(image.boxes)) for image in found.images] == [
        ("JPEGImages/a.png", 1),
        ("JPEGImages/b.png", 0),
    ]
    assert found.excluded == (Exclusion("JPEGImages/c.png", ExclusionReason.UNLABELLED),)


def test_an_image_whose_objects_have_no_box_is_no_background(tmp_path: Path) -> None:
    make(tmp_path)
    photo(tmp_path / "JPEGImages/b.png", 100, 80)
    rotated = thing(corners=None, more="<robndbox><cx>5</cx></robndbox>")
    text(tmp_path / "Annotations/b.xml", document(thing(corners=None), rotated, name="b.png"))

    found = read(tmp_path)

    assert found.excluded == (Exclusion("JPEGImages/b.png", ExclusionReason.UNLABELLED),)
    assert any(warning.startswith("1 objects without a bndbox") for warning in found.warnings)
    assert any(warning.startswith("1 objects have only a rotated box") for warning in found.warnings)


def test_what_a_box_cannot_hold_is_counted(tmp_path: Path) -> None:
    part = "<part><name>fin</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    more = "<difficult>1</difficult><truncated>1</truncated><occluded>0</occluded><polygon><x1>1</x1></polygon>"
    found = read(make(tmp_path, thing(more=part + more), thing(), thing("eel")))

    assert found.images[0].boxes == (Box("cod", 10, 20, 20, 40), Box("eel", 10, 20, 20, 40))
    told = {warning.split(" ", 1)[1].split(",")[0]: warning.split()[0] for warning in found.warnings}
    assert told == {
        "objects have an outline in addition to their box; only the box is read": "1",
        "parts of objects are left out": "1",
        "objects are marked as difficult": "1",
        "objects are marked as truncated": "1",
        "objects repeat another with the same image": "1",
        "boxes are given for two or more classes; all are kept: check them": "1",
    }


def test_masks_of_the_challenge_are_no_second_images(tmp_path: Path) -> None:
    make(tmp_path)
    photo(tmp_path / "SegmentationClass/a.png", 100, 80)

    found = read(tmp_path)

    assert [image.path for image in found.images] == ["JPEGImages/a.png"]
    assert found.excluded == (Exclusion("SegmentationClass/a.png", ExclusionReason.UNLABELLED),)


def test_a_file_of_another_name_belongs_to_the_image_that_it_names(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages/a.png", 100, 80)
    text(tmp_path / "Annotations/0001.xml", document(thing(), name="C:\\surveys\\a.png"))

    found = read(tmp_path)

    assert [image.path for image in found.images] == ["JPEGImages/a.png"]
    assert "matched were Annotations/0001.xml" in found.warnings[0]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"name": "b.png"}, r"has the name of JPEGImages/a\.png, but its filename says JPEGImages/b\.png"),
        ({"size": (7.5, 80)}, r"a\.xml: size\.width is not a whole number"),
        ({"size": (50, 80)}, r"is annotated as 50 x 80 pixels, but is 100 x 80"),
    ],
)
def test_a_file_that_contradicts_its_image_is_refused(tmp_path: Path, broken: dict[str, Any], words: str) -> None:
    make(tmp_path, **broken)
    photo(tmp_path / "JPEGImages/b.png", 100, 80)
    text(tmp_path / "Annotations/b.xml", "<annotation")  # a second problem, so that sizes are judged in the same pass

    with pytest.raises(RefusedError, match=words):
        read(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (thing(""), r"a\.xml: object 2: name is not a class name"),
        (thing(corners=("a", 2, 3, 4)), r"object 2 has a bndbox whose xmin, ymin, xmax and ymax are not four numbers"),
        (thing(corners=("nan", 2, 3, 4)), "are not four numbers"),
        (thing(corners=(1, 2, 3)), "are not four numbers"),
        (thing(corners=(30, 20, 10, 60)), "have no area"),
        (thing(corners=(0, 0, 300, 60)), "lie outside of their image"),
        (thing("Cod"), "names that differ in case"),
    ],
)
def test_an_object_that_cannot_be_meant_is_refused(tmp_path: Path, wrong: str, words: str) -> None:
    make(tmp_path, thing(), wrong)
    photo(tmp_path / "JPEGImages/b.png", 100, 80)
    text(tmp_path / "Annotations/b.xml", "<annotation")  # a second problem, so that boxes are judged in the same pass

    with pytest.raises(RefusedError) as caught:
        read(tmp_path)
    if "Cod" not in wrong:
        assert caught.match(words)
    assert caught.match(r"b\.xml is not well-formed XML, in line 1")


@pytest.mark.parametrize(
    ("beginning", "encoding"),
    [
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252"),
        ("\ufeff", "utf-8"),
        ("<!-- by -->\n<!-- a -->\n<!-- program -->\n<!-- of -->\n<!-- its -->\n<?own style?>\n", "utf-8"),
    ],
    ids=["UTF-16", "Latin-1", "Windows", "byte order mark", "comments"],
)
@pytest.mark.parametrize("root", ["annotation", "Annotation", "annotation\n"], ids=["plain", "upper case", "line end"])
def test_files_of_all_encodings_are_recognised(tmp_path: Path, beginning: str, encoding: str, root: str) -> None:
    make(tmp_path)
    content = document(thing("m\u00fcller")).replace("<annotation>", f"<{root}>").replace("/annotation", f"/{root}")
    (tmp_path / "Annotations/a.xml").write_bytes(f"{beginning}{content}".encode(encoding))

    assert registry.detect(tree_of(tmp_path)).name == "Voc"
    assert read(tmp_path).classes == ("m\u00fcller",)


def test_files_of_other_programs_hide_none(tmp_path: Path) -> None:
    for number in range(20):
        photo(tmp_path / f"images/{number}.png", 100, 80)
        text(tmp_path / f"images/{number}.png.aux.xml", "<PAMDataset/>")
        text(tmp_path / f"xml/{number}.xml", document(thing(), name=f"{number}.png"))

    assert registry.detect(tree_of(tmp_path)).name == "Voc"


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("things", "words"),
    [
        (thing(more=BOX), "object 1 has more than one name or bndbox"),
        (thing(more="<name>eel</name>"), "object 1 has more than one name or bndbox"),
        (thing(more=thing()), "has an object outside of"),
        (f"<annotation>{thing()}</annotation>", "has an object outside of"),
        (f"<objects>{thing()}</objects>", "has an object outside of"),
        (thing(corners=("1_0", 20, 30, 60)), "are not four numbers"),
    ],
    ids=["boxes", "names", "in an object", "in an annotation", "in a list", "underscore"],
)
def test_objects_that_would_get_lost_are_refused(tmp_path: Path, things: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        read(make(tmp_path, things))


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("dive 1", "dive 1"),
        ("dive 1", '"dive 1"'),
        ("dive 1", "dive 1 -1"),
        ("dive -1", "dive -1"),
        ("a.b", "a.b"),
        ("a.b", "a.b.png 1"),
        ("a", "a.jpg"),
        ("a", "JPEGImages/a.png"),
        ("sub/a", "sub/a"),
        ("a", "\ufeffa\r\n\r\n"),
    ],
)
def test_lists_name_images_as_programs_write_them(tmp_path: Path, image: str, line: str) -> None:
    photo(tmp_path / f"JPEGImages/{image}.png", 100, 80)
    text(tmp_path / f"Annotations/{image}.xml", document(thing(), name=f"{image}.png"))
    text(tmp_path / "ImageSets/Main/val.txt", line)

    assert [record.split for record in read(tmp_path).images] == ["validation"]


def test_lists_of_classes_say_the_splits_where_there_are_no_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"JPEGImages/{name}.png", 100, 80)
        text(tmp_path / f"Annotations/{name}.xml", document(thing(), name=f"{name}.png"))
    for label in ("cod", "eel_2"):
        text(tmp_path / f"ImageSets/Main/{label}_train.txt", "a.png 1\n")
        text(tmp_path / f"ImageSets/Main/{label}_val.txt", "b.png -1\n")

    assert [image.split for image in read(tmp_path).images] == ["train", "validation"]


@pytest.mark.parametrize(("name", "other"), [("_annotations.coco.json", "Coco"), ("data.yaml", "Yolo")])
def test_another_format_beside_it_leaves_open_which_is_meant(tmp_path: Path, name: str, other: str) -> None:
    make(tmp_path)
    text(tmp_path / name, "{}")

    with pytest.raises(RefusedError) as caught:
        registry.detect(tree_of(tmp_path))
    assert {"Voc", other} <= set(re.findall(r"\w+", caught.value.failure.message.partition(")")[0]))


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "JPEGImages/a.xml", document(thing()))

    with pytest.raises(RefusedError, match=r"Annotations/a\.xml and JPEGImages/a\.xml are both of JPEGImages/a\.png"):
        read(tmp_path)


def test_a_file_without_its_image_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "Annotations/ab.xml", document(thing(), name="ab.png"))

    with pytest.raises(RefusedError, match=r"1 label files .* have no image: Annotations/ab\.xml") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.LABEL_WITHOUT_IMAGE


def test_other_xml_is_passed_over_by_name(tmp_path: Path) -> None:
    make(tmp_path)
    text(tmp_path / "metadata.xml", "<eml><title>survey</title></eml>")

    found = read(tmp_path)

    assert found.warnings == ("1 XML files are of another kind and are not read: metadata.xml",)
    assert "metadata.xml" not in found.annotation_files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        ("<annotation>&x;</annotation>", "is not well-formed XML"),
        ("<annotation>" + "<a>" * 40 + "</a>" * 40 + "</annotation>", "more than 32 levels deep"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "is not well-formed XML"),
        ("<annotation><object/></annotation><annotation/>", "is not well-formed XML, in line 1"),
    ],
    ids=["entities", "outside", "undeclared", "deep", "encoding", "two roots"],
)
def test_xml_that_is_meant_to_harm_is_refused(tmp_path: Path, content: str, words: str) -> None:
    make(tmp_path)
    text(tmp_path / "Annotations/a.xml", content)

    with pytest.raises(RefusedError, match=words):
        read(tmp_path, name="Voc")


def test_a_view_reads_back_as_the_same_boxes(tmp_path: Path) -> None:
    source = make(tmp_path / "source", thing("cod &amp; &lt;eel&gt;", (0.125, 1, 99.3, 79.7)), thing())
    photo(source / "JPEGImages/b.png", 100, 80)
    text(source / "Annotations/b.xml", document(name="b.png"))
    for split, name in (("train", "a"), ("test", "b")):
        text(source / f"ImageSets/Main/{split}.txt", f"{name}\n")
    before = read(source)

    pascal_voc.write(tmp_path / "view", before, {image.path: source / image.path for image in before.images})
    after = read(tmp_path / "view")

    assert before.classes == ("cod", "cod & <eel>")

    assert [(each.split, each.width, each.boxes) for each in after.images] == [
        (each.split, each.width, each.boxes) for each in before.images
    ]
    assert after.classes == before.classes


def test_a_view_is_xml_whatever_files_are_called(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    (source / "JPEGImages/a.png").rename(source / "JPEGImages/a\x01<&.png")
    (source / "Annotations/a.xml").rename(source / "Annotations/a\x01<&.xml")
    text(source / "Annotations/a\x01<&.xml", document(thing(), name=""))
    before = read(source)

    pascal_voc.write(tmp_path / "view", before, {image.path: source / image.path for image in before.images})

    assert [image.boxes for image in read(tmp_path / "view").images] == [before.images[0].boxes]
