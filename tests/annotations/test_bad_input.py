"""Mistakes in users' files, and attackers' files: each is refused with its reason and a helpful message."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, read, text
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import untrusted_input

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\nnames: [cod]\n"
GOOD_ROW = "0 0.5 0.5 0.5 0.5"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("names: [cod]\ndownload: |\n  import os; os.system('touch /tmp/owned')", "download.*never executed"),
        ("names: [cod]\ntrain: /etc", "train is not a path below"),
        ("names: [cod]\ntrain: images/../../..", r"without '\.\.'"),
        ("names: [cod]\ntrain: 'C:\\fish'", "train is not a path below"),
        ("names: [cod]\ntrain: nowhere", "where there are no images"),
        ("names: [cod]\ntrain: 7", "train must be a path or a list"),
        ("names: !!python/object/apply:os.system ['true']", "is not supported YAML"),
        (BOMB, "line 2, column 8, is not supported YAML"),
        ("names: {0: cod, 2: eel}", "names must be a list"),
        ("names: []", "names must be a list"),
        ("nc: 3\nnames: [cod]", "nc, 3, is not the number of names, 1"),
        ('names: ["a\\nb"]', r"names\[0\] is not a class name"),
        ("names: [1]", r"names\[0\] is not a class name"),
        ("- cod", "is not a mapping"),
        ("names: [cod", "is not supported YAML"),
    ],
)
def test_settings_of_yolo(tmp_path: Path, settings: str, words: str) -> None:
    text(tmp_path / "data.yaml", settings)
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", GOOD_ROW)
    with pytest.raises(RefusedError, match=words) as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.FORMAT_INVALID
    assert not Path("/tmp/owned").exists()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("fish 0.5 0.5 0.5 0.5", Reason.FORMAT_INVALID),
        ("0 0.5 0.5 0.5", Reason.FORMAT_INVALID),
        ("0 0.5 0.5 0.5 0.5 0.9", Reason.FORMAT_INVALID),
        ("0 0.5 0.5 0.5 nan", Reason.FORMAT_INVALID),
        ("0 0.5 0.5 0.5 1e999", Reason.FORMAT_INVALID),
        ("1 0.5 0.5 0.5 0.5", Reason.UNKNOWN_CLASS),
        ("-1 0.5 0.5 0.5 0.5", Reason.UNKNOWN_CLASS),
    ],
)
def test_rows_of_yolo_are_named_by_file_and_line(tmp_path: Path, row: str, reason: Reason) -> None:
    text(tmp_path / "data.yaml", "names: [cod]")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", f"{GOOD_ROW}\n{row}\n")
    with pytest.raises(RefusedError, match=r"^labels/a\.txt, line 2: ") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is reason


def test_labels_without_an_image(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]")
    photo(tmp_path / "images" / "a.png")
    for name in ("a", "b", "c"):
        text(tmp_path / "labels" / f"{name}.txt", GOOD_ROW)
    with pytest.raises(RefusedError, match=r"^2 label files .*labels/b\.txt, labels/c\.txt") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.LABEL_WITHOUT_IMAGE


def _two_images_with_one_id(content: Any) -> None:
    content["images"].append(content["images"][0] | {"file_name": "b.png"})


def _two_categories_with_one_id(content: Any) -> None:
    content["categories"].append({"id": 7, "name": "eel"})


def _image_listed_twice(content: Any) -> None:
    content["images"].append(content["images"][0] | {"id": 99})


def _unknown_category(content: Any) -> None:
    content["annotations"][0]["category_id"] = 8


def _unknown_image(content: Any) -> None:
    content["annotations"][0]["image_id"] = 8


def _missing_image(content: Any) -> None:
    content["images"].append({"id": 99, "file_name": "gone.png"})


def _box(*values: object) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content["annotations"][0]["bbox"] = list(values)

    return change


def _only(**members: object) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content["annotations"] = [{"id": 1, **members}, {"id": 2, **members}]

    return change


def _file_name(name: str) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content["images"][0]["file_name"] = name

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_two_images_with_one_id, Reason.FORMAT_INVALID),
        (_two_categories_with_one_id, Reason.FORMAT_INVALID),
        (_image_listed_twice, Reason.FORMAT_INVALID),
        (_unknown_category, Reason.UNKNOWN_CLASS),
        (_unknown_image, Reason.LABEL_WITHOUT_IMAGE),
        (_missing_image, Reason.LABEL_WITHOUT_IMAGE),
        (_box(1, 2, 3), Reason.FORMAT_INVALID),
        (_box(1, 2, 3, "4"), Reason.FORMAT_INVALID),
        (_box(1, 2, 3, None), Reason.FORMAT_INVALID),
        (_only(bbox=[1, 2, 3, 4]), Reason.FORMAT_INVALID),
        (_only(segmentation="a name"), Reason.FORMAT_INVALID),
        (_only(category_id=7), Reason.FORMAT_INVALID),
        (_only(), Reason.FORMAT_INVALID),
        (_file_name("../secret.png"), Reason.FORMAT_INVALID),
        (_file_name("/etc/passwd"), Reason.FORMAT_INVALID),
        (_file_name("a\x00.png"), Reason.FORMAT_INVALID),
        (_file_name("..\\secret.png"), Reason.FORMAT_INVALID),
        (_file_name(""), Reason.FORMAT_INVALID),
    ],
)
def test_contents_of_coco(tmp_path: Path, change: Callable[[Any], None], reason: Reason) -> None:
    source = tmp_path / "source"
    photo(tmp_path / "secret.png")
    for name in ("a.png", "b.png"):
        photo(source / name)
    content = coco({"a.png": [[0, 0, 5, 5]]})
    change(content)
    document(source / "annotations.json", content)
    with pytest.raises(RefusedError) as caught:
        read(source)
    assert caught.value.failure.reason is reason
    assert "cannot be parsed" not in str(caught.value), "the message says what is wrong"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '{"images": 1}', "[" * 100_000, '{"images": [], "annotations": [NaN]}']
)
def test_json_that_is_not_coco(tmp_path: Path, content: str) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / "annotations.json", content)
    with pytest.raises(RefusedError, match=r"annotations\.json") as caught:
        read(tmp_path)
    assert caught.value.failure.reason is Reason.FORMAT_INVALID


def test_files_too_large_to_be_labels_are_not_read(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]")
    os.truncate(tmp_path / "data.yaml", 3 * 1024**4)  # sparse: takes no space
    photo(tmp_path / "images" / "a.png")
    with pytest.raises(RefusedError, match="at most 1048576 are read"):
        read(tmp_path)


def test_labels_that_are_not_text(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]")
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "").write_bytes(b"\xff\xfe0\x00")
    with pytest.raises(RefusedError, match=r"labels/a\.txt is not UTF-8 text"):
        read(tmp_path)


@pytest.mark.parametrize("target", ["/etc", "../outside.png", "nothing"])
def test_links_do_not_lead_out_of_the_source(tmp_path: Path, target: str) -> None:
    source = tmp_path / "source"
    photo(tmp_path / "outside.png")
    photo(source / "cod" / "a.png")
    (source / "cod" / "link.png").symlink_to(target)
    with pytest.raises(RefusedError, match=r"links .*cod/link\.png"):
        read(source)


@pytest.mark.parametrize("name", ["a\x1b[31mb", "\udcff", "x" * 500])
def test_names_in_messages_cannot_harm_the_reader(name: str) -> None:
    shown = untrusted_input.printable(name)
    assert shown.isprintable()
    assert len(shown.encode()) <= 4 * untrusted_input.MAX_CLASS_NAME
