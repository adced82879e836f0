"""Annotation files made to exhaust memory, to take forever, or to be quoted in status: refused, and quickly."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import orjson
import pytest

from child_memory import Watched
from image_sources import coco, document, photo, read, text
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import reading
from pelagos_pipelines.annotations.model import Box, Boxes
from pelagos_pipelines.sandbox import UnavailableError, pool
from pelagos_pipelines.sandbox.ceilings import Ceilings

CANARY = "canary"
ROW = "0 0.5 0.5 0.5 0.5\n"
MEBIBYTE = 1024**2


def refusal(root: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        read(root)
    assert caught.value.failure.reason in {Reason.FORMAT_INVALID, Reason.UNKNOWN_CLASS, Reason.LABEL_WITHOUT_IMAGE}
    assert CANARY not in caught.value.failure.message
    return caught.value.failure.message


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A YOLO source with one image."""
    text(tmp_path / "data.yaml", "names: [cod]")
    photo(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", ROW)
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        "names: [cod]\nnc: " + ":".join(["59"] * 20_000),
        'names: [cod]\nnc: !!int "' + ":".join(["59"] * 100_000) + '"',
        "names: [cod]\nnc: " + "9" * 500_000,
        "names: " + "[" * 100_000,
        "names: " + "{a: " * 20_000,
        "- " * 50_000,
        "names: [" + "x, " * 55_000 + "]",
        "names: [cod]\nwhen: !!timestamp 2001-99-99",
        "names: !!binary canary",
        "names: &a [*a]",
        "names: [cod]\ntrain: canary",
        "names: [cod]\ntrain: /canary",
        "names: [cod]\nnc: canary",
        "names: ['canary\\n']\ntrain: [[canary]]",
        "canary: [",
        "canary",
        "names: ['canary\0']",
        "root:x:0:0:canary:/root:/bin/bash",
    ],
    ids=lambda settings: settings[:30],
)
def test_settings_that_are_a_trap_are_refused_soon_and_never_repeated(source: Path, settings: str) -> None:
    text(source / "data.yaml", settings)
    begun = time.process_time()

    assert "data.yaml" in refusal(source)

    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "content",
    [
        "canary 0.5 0.5 0.5 0.5",
        "0 canary 0.5 0.5 0.5",
        "0 canary",
        "0 0.5 0.5 0.5 1_0",
        "١ 0.5 0.5 0.5 0.5",
        "9" * 5000 + " 0.5 0.5 0.5 0.5",
        "root:x:0:0:canary",
        "\0",
        "0 " * 2_000_000,
        "0 0.5 0.5 0.5 0.5 " * 100_000,
    ],
    ids=lambda content: ascii(content[:20]),
)
def test_a_label_that_is_none_is_named_by_its_line_alone(source: Path, content: str) -> None:
    text(source / "labels/a.txt", f"{ROW}\n{content}\n")

    assert refusal(source).startswith("labels/a.txt, line 3: ")


def test_a_label_file_of_one_endless_line_reaches_the_ceiling_and_the_next_one_is_read(source: Path) -> None:
    text(source / "labels/a.txt", "0 " * (reading.MAX_LABELS // 2))

    assert "labels/a.txt" in refusal(source)

    text(source / "labels/a.txt", ROW)
    assert len(read(source).images[0].boxes) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"file_name": "canary.png"},
        {"file_name": "../canary"},
        {"file_name": ["canary"]},
        {"id": "canary"},
        {"id": 1.5},
        {"width": "canary"},
        {"width": 10**30},
        {"split": "canary"},
        {"group": {"canary": 1}},
    ],
    ids=str,
)
def test_an_image_of_coco_is_named_by_its_place_alone(tmp_path: Path, change: dict[str, object]) -> None:
    photo(tmp_path / "a.png")
    content = coco({"a.png": [[1, 2, 3, 4]]})
    content["images"][0] |= change  # type: ignore[index]
    document(tmp_path / "annotations.json", content)

    assert "annotations.json" in refusal(tmp_path)


def test_numbers_and_depth_that_no_file_has_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    content = document(tmp_path / "annotations.json", coco({"a.png": [[1, 2, 3, 4]]})).read_text(encoding="utf-8")
    for piece in (
        "9" * 100_000,
        "1e999",
        "NaN",
        "[" * 100_000,
        '"canary',
        "\ud83d".encode("utf-8", "replace").decode(),
    ):
        text(tmp_path / "annotations.json", content.replace("[1, 2, 3, 4]", f"[1, 2, 3, {piece}]"))
        assert "annotations.json" in refusal(tmp_path)


def test_more_annotations_than_the_ceiling_are_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATIONS", "3")
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", coco({"a.png": [[1, 2, 3, 4]] * 4}))

    assert "more than 3 annotations or images: the operator's setting PELAGOS_MAX_ANNOTATIONS" in refusal(tmp_path)


def test_more_label_rows_than_the_ceiling_are_refused_by_its_name(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATIONS", "3")
    text(source / "labels/a.txt", ROW * 4)

    assert "PELAGOS_MAX_ANNOTATIONS" in refusal(source)


def test_a_file_larger_than_the_ceiling_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATION_MEBIBYTES", "1")
    photo(tmp_path / "a.png")
    (tmp_path / "annotations.json").touch()
    os.truncate(tmp_path / "annotations.json", 3 * 1024**4)

    assert "PELAGOS_MAX_ANNOTATION_MEBIBYTES" in refusal(tmp_path)


def test_a_file_that_takes_too_long_is_refused_by_the_ceiling_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATION_SECONDS", "1")
    monkeypatch.setenv("PELAGOS_MAX_ANNOTATIONS", "10000000")
    photo(tmp_path / "a.png")
    text(tmp_path / "annotations.json", '{"images": [' + "{}," * 12_000_000 + "{}]}")

    assert "PELAGOS_MAX_ANNOTATION_SECONDS" in refusal(tmp_path)


def test_one_annotation_that_is_as_large_as_the_file_stays_below_the_ceiling_of_memory(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    content = orjson.dumps(coco({"a.png": [[1, 2, 3, 4]]})).decode()
    huge = "[" + '{"a":0},' * 1_500_000 + "0]"
    text(tmp_path / "annotations.json", content.replace('"bbox":[1,2,3,4]', f'"bbox":[1,2,3,4],"segmentation":{huge}'))
    with Watched(reading.pool(Ceilings.read())) as watched:
        assert "memory" in refusal(tmp_path)

    assert watched.peak() < 400 * MEBIBYTE


def test_a_large_coco_file_takes_less_memory_than_its_size(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    sides = itertools.product(range(10), range(10), range(20), range(20))
    boxes = [[left + 0.25, top + 0.5, width + 1.125, height + 0.75] for left, top, width, height in sides]
    file = document(tmp_path / "annotations.json", coco({"a.png": boxes}))
    text(
        tmp_path / "annotations.json",
        file.read_text(encoding="utf-8").replace('"bbox"', f'"note": "{"x" * 100}", "bbox"'),
    )
    size = file.stat().st_size
    with Watched(reading.pool(Ceilings.read())) as watched:
        found = read(tmp_path)

    assert len(found.images[0].boxes) == len(boxes)
    kept = found.images[0].boxes
    assert isinstance(kept, Boxes)
    assert len(kept._classes) * kept._classes.itemsize + len(kept._sides) * kept._sides.itemsize == 36 * len(boxes)
    assert watched.peak() < 50 * MEBIBYTE + size


def test_boxes_in_little_memory_are_like_a_tuple_of_boxes() -> None:
    boxes = (Box("cod", 1.0, 2.0, 3.0, 4.0), Box("eel", 5.0, 6.0, 7.0, 8.0))
    kept = Boxes.of(boxes, {"cod": 0, "eel": 1}, ("cod", "eel"))

    assert kept == boxes
    assert boxes == kept
    assert (kept[1], kept[-2], kept[:1]) == (boxes[1], boxes[0], boxes[:1])
    assert kept.labels == {"cod", "eel"}
    assert hash(kept) == hash(boxes)
    with pytest.raises(IndexError):
        kept[2]


def test_boxes_of_several_images_share_memory_and_are_those_of_each() -> None:
    names = ("cod", "eel", "ray")
    every = [Box(names[number % 3], *(10.0 * number + side for side in range(4))) for number in range(6)]
    none, first, second, third = Boxes.of(every, {"cod": 0, "eel": 1, "ray": 2}, names).divided([0, 1, 3, 6])

    assert [*map(tuple, (none, first, second, third))] == [(), (every[0],), tuple(every[1:3]), tuple(every[3:])]
    assert (second[0], second[-1], third[1:]) == (every[1], every[2], tuple(every[4:]))
    assert second.labels == {"eel", "ray"}
    assert [*third.rows()] == [(box.label, box.x, box.y, box.width, box.height) for box in every[3:]]
    assert second.divided([1, 2]) == [(every[1],), (every[2],)]
    assert second.numbered([-1, -1, 0], ["skate"]) == (Box("skate", 20.0, 21.0, 22.0, 23.0),)
    own = Boxes.of(every[:1], {"cod": 0}, ["cod"])
    for many in ([none, first, second, third], [third, first], [second, own, none, third]):
        classes, sides = Boxes.together(many, {"cod": 2, "eel": 1, "ray": 0})
        expected = [box for one in many for box in one]
        assert classes.tolist() == [{"cod": 2, "eel": 1, "ray": 0}[box.label] for box in expected]
        assert sides.tolist() == [side for box in expected for side in (box.x, box.y, box.width, box.height)]


def test_a_child_that_cannot_be_started_is_no_fault_of_the_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "interpreter", lambda: "/bin/false")
    reading.pool.cache_clear()
    try:
        with pytest.raises(UnavailableError, match="did not start"):
            read(source)
    finally:
        reading.pool.cache_clear()
