"""The differences of two versions: every image, annotation, class, recipe field and exclusion that differs, and nothing else."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dataset_versions
import image_sources
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import Box, Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind as ShapeKind
from pelagos_pipelines.annotations.shapes import Shape, polygon, rectangle
from pelagos_pipelines.preparation import comparing, difference_sheet, differences, versions
from pelagos_pipelines.preparation.differences import Difference, Side

COD, EEL = Box("cod", 10, 10, 20, 20), Box("eel", 60, 10, 20, 20)


def side(*images: ImageRecord, digests: dict[str, str] | None = None, task: Task = Task.DETECTION, **more: Any) -> Side:
    """A side of a comparison. Images without an entry in ``digests`` get content that follows from their path."""
    classes = more.pop("classes", ("cod", "eel"))
    known = {image.path: (digests or {}).get(image.path, f"content of {image.path}") for image in images}
    return Side(
        **{"version": "sha256:ab", "uri": "/v", "recipe": {}, "excluded": {}} | more,
        collection=Collection(task, classes, images),
        digests=known,
    )


def image(path: str, *boxes: Box, split: str = "train", **more: Any) -> ImageRecord:
    return ImageRecord(path, 100, 100, split=split, boxes=boxes, **more)  # type: ignore[arg-type]


def of_annotations(found: Difference) -> dict[str, int]:
    return {name: count for name, count in found.document()["annotations"].items() if name != "images" and count}


def test_a_version_does_not_differ_from_itself() -> None:
    one = side(image("a", COD), image("b"), excluded={"c": "Corrupt"}, recipe={"split": {"seed": 1}})

    found = differences.between(one, one).document()

    assert found["same"]
    assert found["annotations"] == {
        **dict.fromkeys(("added", "removed", "moved", "relabelled", "described"), 0),
        "unchanged": 1,
        "withAddedImages": 0,
        "withRemovedImages": 0,
        "images": [],
    }
    assert found["images"]["both"] == 2
    assert not any(found["images"][name] for name in ("added", "removed", "replaced", "renamed", "moved", "regrouped"))
    assert (found["recipe"], found["excluded"]["changed"]) == ([], [])


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ((COD,), (COD, EEL), {"unchanged": 1, "added": 1}),
        ((COD, EEL), (EEL,), {"unchanged": 1, "removed": 1}),
        ((COD,), (replace(COD, x=12),), {"moved": 1}),
        ((COD,), (replace(COD, x=10.25),), {"moved": 1}),
        ((COD,), (replace(COD, label="eel"),), {"relabelled": 1}),
        ((COD,), (replace(COD, x=60),), {"added": 1, "removed": 1}),
        ((COD, COD), (COD,), {"unchanged": 1, "removed": 1}),
        (
            (COD, replace(COD, label="eel")),
            (replace(COD, label="eel"), replace(COD, x=11)),
            {"unchanged": 1, "moved": 1},
        ),
    ],
    ids=[
        "added",
        "removed",
        "moved",
        "by less than a pixel",
        "relabelled",
        "elsewhere",
        "one of two",
        "two in one place",
    ],
)
def test_each_box_is_told_by_what_became_of_it(
    was: tuple[Box, ...], now: tuple[Box, ...], expected: dict[str, int]
) -> None:
    assert of_annotations(differences.between(side(image("a", *was)), side(image("a", *now)))) == expected


def test_images_are_known_by_their_content_and_else_by_their_path() -> None:
    was = side(
        *map(image, ("same", "old name", "other pixels", "gone", "swapped 1", "swapped 2")),
        digests={"old name": "x", "other pixels": "y", "swapped 1": "1", "swapped 2": "2"},
    )
    now = side(
        *map(image, ("same", "new name", "other pixels", "new", "swapped 1", "swapped 2")),
        digests={"new name": "x", "other pixels": "z", "swapped 1": "2", "swapped 2": "1"},
        excluded={"gone": "Duplicate"},
    )

    found = differences.between(was, now).document()["images"]

    assert found["both"] == 5
    assert found["renamed"] == [
        {"path": "new name", "was": "old name"},
        {"path": "swapped 1", "was": "swapped 2"},
        {"path": "swapped 2", "was": "swapped 1"},
    ]
    assert found["replaced"] == [{"path": "other pixels"}]
    assert [each["path"] for each in found["added"]] == ["new"]
    assert found["removed"] == [{"path": "gone", "split": "train", "annotations": 0, "excluded": "Duplicate"}]


def test_splits_groups_classes_recipe_and_exclusions_are_compared() -> None:
    was = side(
        image("a", COD, group="dive 1"),
        image("b", EEL, split="test"),
        classes=("cod", "eel"),
        recipe={"split": {"seed": 1, "policy": "Random"}, "format": "Coco"},
        excluded={"x": "Corrupt", "y": "TooSmall"},
    )
    now = side(
        replace(image("a", COD, group="dive 2", split="validation"), capture=Capture(site="pier")),
        image("b", replace(EEL, label="ray"), split="test"),
        classes=("ray", "cod"),
        recipe={"split": {"seed": 2, "policy": "Random"}, "format": "Coco", "labels": {"include": ["cod"]}},
        excluded={"x": "Duplicate", "z": "Corrupt"},
    )

    found = differences.between(was, now).document()

    assert found["images"]["moved"] == [{"path": "a", "from": "train", "to": "validation"}]
    assert found["images"]["regrouped"] == 1
    assert found["images"]["recaptured"] == 1
    assert found["splits"] == {
        "train": {"from": 1, "to": 0},
        "validation": {"from": 0, "to": 1},
        "test": {"from": 1, "to": 1},
    }
    assert (found["classes"]["added"], found["classes"]["removed"]) == (["ray"], ["eel"])
    assert found["classes"]["counts"][0] == {
        "name": "cod",
        "images": {"from": 1, "to": 1},
        "annotations": {"from": 1, "to": 1},
    }
    assert found["recipe"] == [
        {"field": "labels", "from": None, "to": {"include": ["cod"]}},
        {"field": "split.seed", "from": 1, "to": 2},
    ]
    assert found["excluded"]["changed"] == [{"path": "x", "from": "Corrupt", "to": "Duplicate"}]
    assert found["excluded"]["added"] == [{"path": "z", "reason": "Corrupt"}]
    assert found["excluded"]["removed"] == [{"path": "y", "reason": "TooSmall"}]


def test_the_order_of_classes_is_told_where_ids_change() -> None:
    one, other = side(image("a"), classes=("cod", "eel")), side(image("a"), classes=("eel", "cod"))

    assert differences.between(one, other).document()["classes"]["renumbered"]
    assert not differences.between(one, side(image("a"), classes=("cod", "eel", "ray"))).document()["classes"][
        "renumbered"
    ]


def test_classes_of_images_outlines_and_attributes_are_compared() -> None:
    cod, eel = (ImageRecord("a", 9, 9, split="train", label=label) for label in ("cod", "eel"))
    tagged = differences.between(side(cod, task=Task.CLASSIFICATION), side(eel, task=Task.CLASSIFICATION))
    outline = polygon("cod", (0, 0, 9, 0, 9, 9))
    others = (polygon("cod", (0, 0, 9, 0, 9, 8)), replace(outline, attributes={"sex": "f"}))
    drawn = [
        differences.between(
            side(image("a", shapes=(outline,)), task=Task.INSTANCE_SEGMENTATION),
            side(image("a", shapes=(other,)), task=Task.INSTANCE_SEGMENTATION),
        )
        for other in others
    ]

    assert of_annotations(tagged) == {"relabelled": 1}
    assert [of_annotations(found) for found in drawn] == [{"moved": 1}, {"described": 1}]


def test_versions_for_other_tasks_can_be_compared() -> None:
    tags = side(ImageRecord("a", 9, 9, split="train", label="cod"), task=Task.CLASSIFICATION)

    found = differences.between(tags, side(image("a", COD)))

    assert of_annotations(found) == {"removed": 1, "added": 1}


@pytest.mark.parametrize("seed", range(20))
def test_the_numbers_add_up_whatever_changed(seed: int) -> None:
    """The old count plus what was added minus what was removed is the new count: for images of each split and for annotations."""
    chance = random.Random(seed)

    def drawn(name: str) -> Side:
        images, digests = [], {}
        for number in chance.sample(range(12), chance.randint(1, 12)):
            boxes = tuple(
                Box(chance.choice(("cod", "eel")), 20 * chance.randint(0, 3), chance.randint(0, 3), 20, 20)
                for _ in range(chance.randint(0, 5))
            )
            images.append(image(f"{number}", *boxes, split=chance.choice(SPLITS)))
            digests[f"{number}"] = f"{chance.randint(0, 9)}"
        return side(*images, digests=digests, version=name)

    was, now = drawn("a"), drawn("b")
    document = differences.between(was, now).document()
    images, marks = document["images"], document["annotations"]

    assert images["both"] + len(images["removed"]) == document["from"]["images"]
    assert images["both"] + len(images["added"]) == document["to"]["images"]
    for split in SPLITS:
        counts = document["splits"].get(split, {"from": 0, "to": 0})
        came = [each for each in images["added"] if each["split"] == split]
        went = [each for each in images["removed"] if each["split"] == split]
        moved = [(each["to"] == split) - (each["from"] == split) for each in images["moved"]]
        assert counts["from"] + len(came) - len(went) + sum(moved) == counts["to"]
    kept = marks["unchanged"] + marks["moved"] + marks["relabelled"] + marks["described"]
    assert kept + marks["removed"] + marks["withRemovedImages"] == document["from"]["annotations"]
    assert kept + marks["added"] + marks["withAddedImages"] == document["to"]["annotations"]


# --- with real versions


@pytest.fixture
def pair(tmp_path: Path) -> tuple[versions.Version, versions.Version]:
    """Two versions: one image is new, one has other pixels, one another box, and all splits moved."""
    was = dataset_versions.write(tmp_path / "one", dataset_versions.detection(tmp_path / "source"))
    image_sources.photo(tmp_path / "source/images/0a.png", 50, 30, seed=77)
    image_sources.text(tmp_path / "source/labels/0a.txt", "")
    image_sources.photo(tmp_path / "source/images/5.png", 45, 30, seed=78)
    image_sources.text(tmp_path / "source/labels/1.txt", "1 0.5 0.6 0.25 0.1")
    return was, dataset_versions.write(
        tmp_path / "two", tmp_path / "source", recipe={"task": "Detection", "split": {"seed": 2}}
    )


def test_two_stores_are_compared_and_drawn(
    pair: tuple[versions.Version, versions.Version], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    was, now = pair

    assert comparing.main([str(was.folder), str(now.folder), str(tmp_path / "sheet.png")]) == 0

    found = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in found["images"]["added"]] == ["images/0a.png"]
    assert [each["path"] for each in found["images"]["replaced"]] == ["images/5.png"]
    assert found["annotations"]["images"] == [{"path": "images/1.png", "added": 1, "removed": 1}]
    assert found["recipe"] == [{"field": "split.seed", "from": 1, "to": 2}]
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(2**24) or ()}
    drawn = [
        tuple(bytes.fromhex(difference_sheet.COLOURS[kind][1:]))
        for kind in (differences.Kind.ADDED, differences.Kind.REMOVED)
    ]
    assert {*drawn} <= colours


def test_an_image_that_is_damaged_is_a_grey_place_and_the_rest_is_drawn(
    pair: tuple[versions.Version, versions.Version], tmp_path: Path
) -> None:
    was, now = pair
    blob = now.blobs["images/0a.png"]
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(content)))

    found = comparing.compare(str(was.folder), str(now.folder), tmp_path / "sheet.png")

    assert [each["path"] for each in found["images"]["added"]] == ["images/0a.png"]
    assert (tmp_path / "sheet.png").stat().st_size


def test_however_much_differs_the_picture_is_bounded(tmp_path: Path) -> None:
    many = [image(f"{number:03}", COD) for number in range(300)]
    other = [image(f"{number:03}", replace(COD, label="eel"), split="test") for number in range(100, 500)]
    asked: list[str] = []

    def contents(of: Side, sha256: str) -> bytes:
        asked.append(sha256)
        raise OSError("gone")

    difference_sheet.draw(differences.between(side(*many), side(*other)), contents, tmp_path / "sheet.png")

    assert len(asked) <= 6 * difference_sheet.MOST
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width * sheet.height < 8_000_000


def test_a_huge_image_is_not_decoded_for_a_picture(tmp_path: Path) -> None:
    scan = ImageRecord("scan", 20_000, 20_000, split="train", boxes=(COD,))

    def contents(of: Side, sha256: str) -> bytes:
        raise AssertionError("it is read")

    difference_sheet.draw(differences.between(side(), side(scan)), contents, tmp_path / "sheet.png")


def test_every_kind_of_shape_is_drawn_where_it_lies(tmp_path: Path) -> None:
    kinds = [
        Shape("cod", ShapeKind.RECTANGLE, (10, 10, 20, 10, 30.0)),
        polygon("cod", (0, 0, 30, 0, 30, 30)),
        Shape("cod", ShapeKind.MASK, (5, 5, 4, 4, 2, 3, 11)),
        Shape("cod", ShapeKind.POINT, (5, 5)),
        Shape("cod", ShapeKind.TAG),
        Shape("c\u202eod", ShapeKind.CIRCLE, (50, 50, 20)),
    ]
    picture = tmp_path / "a.png"
    Image.new("RGB", (100, 100), "white").save(picture)

    found = differences.between(
        side(image("a"), task=Task.INSTANCE_SEGMENTATION),
        side(image("a", shapes=tuple(kinds)), task=Task.INSTANCE_SEGMENTATION),
    )
    difference_sheet.draw(found, lambda of, sha256: picture.read_bytes(), tmp_path / "sheet.png")

    assert of_annotations(found) == {"added": 6}


def test_a_version_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = dataset_versions.write(
        tmp_path / "store", dataset_versions.classification(tmp_path / "source"), Task.CLASSIFICATION
    )

    assert comparing.main([str(version.folder), str(tmp_path / "gone")]) == 1

    assert "is missing, incomplete or changed" in json.loads(capsys.readouterr().out)["error"]


def test_regions_of_crowds_are_compared_beside_objects() -> None:
    region, small = rectangle("cod", 0, 0, 40, 30), rectangle("cod", 10, 10, 20, 20)
    was = side(image("a", COD, crowds=(region,)), image("b", COD), image("c", COD))
    now = side(image("a", COD), image("b", COD, crowds=(region,)), image("c", crowds=(small,)))

    found = differences.between(was, now)

    told = {
        pair.now.path: [(kind.value, one and one.label, other and other.label) for kind, one, other in pair.marks]
        for pair in found.marked
    }
    assert told == {
        "a": [("removed", "cod (crowd)", None)],
        "b": [("added", None, "cod (crowd)")],
        "c": [("relabelled", "cod", "cod (crowd)")],
    }
