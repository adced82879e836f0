"""Where splits are read from: folders that neither annotations nor settings name, and settings with synonyms for splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo, read, text
from pelagos_contract.failures import RefusedError

BOX = "0 0.5 0.5 0.5 0.5\n"
FOLDERS = {"train": "train", "Valid": "validation", "test2017": "test", "pier": None}


def photos(root: Path, layout: str) -> list[str]:
    """Write an image into each folder, where ``layout`` puts it. Returns their paths without the layout."""
    names = [f"{folder}/{number}.png" for number, folder in enumerate(FOLDERS)]
    for seed, name in enumerate(names):
        photo(root / layout.format(name), seed=seed)
    return names


@pytest.mark.parametrize("layout", ["{}", "images/{}", "pool/{}"])
def test_one_coco_file_for_all_folders_leaves_the_splits_to_them(tmp_path: Path, layout: str) -> None:
    names = photos(tmp_path, layout)
    document(tmp_path / "annotations.json", coco({layout.format(name): [[0, 0, 5, 5]] for name in names}))
    assert {image.split for image in read(tmp_path).images} == set(FOLDERS.values())
    assert {Path(image.path).parent.name: image.split for image in read(tmp_path).images} == FOLDERS


def test_the_name_of_a_coco_file_and_what_it_says_of_an_image_count_before_folders(tmp_path: Path) -> None:
    for seed, name in enumerate(("val/a.png", "val/b.png")):
        photo(tmp_path / name, seed=seed)
    content = coco({"val/a.png": [[0, 0, 5, 5]], "val/b.png": []})
    images: Any = content["images"]
    images[0]["split"] = "test"
    document(tmp_path / "annotations_train.json", content)
    assert [image.split for image in read(tmp_path).images] == ["test", "train"]


@pytest.mark.parametrize("settings", ["classes.txt", "data.yaml", "obj.names"])
def test_settings_without_splits_leave_them_to_the_folders(tmp_path: Path, settings: str) -> None:
    for name in photos(tmp_path, "images/{}"):
        text((tmp_path / "labels" / name).with_suffix(".txt"), BOX)
    text(tmp_path / settings, "names: [cod]\n" if settings.endswith("yaml") else "cod\n")
    found = read(tmp_path, name="Yolo")
    assert {Path(image.path).parent.name: image.split for image in found.images} == FOLDERS


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_an_image_in_folders_of_two_splits_is_in_none_and_said(tmp_path: Path, kind: str) -> None:
    photo(tmp_path / "images" / "train" / "test" / "a.png")
    if kind == "coco":
        document(tmp_path / "annotations.json", coco({"train/test/a.png": [[0, 0, 5, 5]]}))
    else:
        text(tmp_path / "classes.txt", "cod\n")
        text(tmp_path / "labels" / "train" / "test" / "a.txt", BOX)
    found = read(tmp_path)
    assert found.images[0].split is None
    assert found.overlapping == ("images/train/test/a.png",)
    assert found.warnings == (
        "1 images lie in folders named like more than one split, and count as in none: images/train/test/a.png",
    )


@pytest.mark.parametrize(
    ("first", "second"), [("Train", "Validation"), ("train", "valid"), ("TRAIN", "dev"), ("training", "val")]
)
@pytest.mark.parametrize("lists", [True, False], ids=["lists", "folders"])
def test_other_words_for_splits_are_keys_of_the_settings_too(
    tmp_path: Path, first: str, second: str, lists: bool
) -> None:
    for seed, split in enumerate((first, second)):
        photo(tmp_path / "images" / f"part{seed}" / f"{seed}.png", seed=seed)
        text(tmp_path / "labels" / f"part{seed}" / f"{seed}.txt", BOX)
        text(tmp_path / f"{split}.txt", f"data/images/part{seed}/{seed}.png\n")
    places = [f"{split}.txt" if lists else f"images/part{seed}" for seed, split in enumerate((first, second))]
    text(tmp_path / "data.yaml", f"Names: [cod]\nPath: .\n{first}: {places[0]}\n{second}: {places[1]}\n")
    assert [image.split for image in read(tmp_path).images] == ["train", "validation"]


@pytest.mark.parametrize("settings", ["test_size: 0.2\n", "dev: true\n", "training: {epochs: 3}\n", "valid: [1, 2]\n"])
def test_keys_that_are_words_for_splits_and_no_paths_are_none(tmp_path: Path, settings: str) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", BOX)
    text(tmp_path / "data.yaml", f"names: [cod]\ntrain: images\n{settings}")
    assert read(tmp_path).warnings == ()


def test_a_key_in_two_cases_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", BOX)
    text(tmp_path / "data.yaml", "names: [cod]\nNames: [eel]\n")
    with pytest.raises(RefusedError, match="the key names is there twice, in different case"):
        read(tmp_path)


def test_images_below_a_key_that_is_no_split_are_left_out_with_that_reason(tmp_path: Path) -> None:
    for seed, folder in enumerate(("train", "spare")):
        photo(tmp_path / "images" / folder / "a.png", seed=seed)
        text(tmp_path / "labels" / folder / "a.txt", BOX)
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: images/train\nspare: ../images/spare\nauthor: someone\n")
    told = "keys of data.yaml that are not words for splits name images/spare"
    assert read(tmp_path).warnings == (
        "1 images are in no split of data.yaml and are left out: images/spare/a.png",
        f"{told}: rename them to train, val or test to use these images",
    )


@pytest.mark.parametrize("settings", ["classes.txt", "obj.names", "data.yaml"])
def test_lists_at_the_root_whose_names_are_words_for_splits_are_read(tmp_path: Path, settings: str) -> None:
    for seed, split in enumerate(("Train", "Validation")):
        photo(tmp_path / "images" / f"{seed}.png", seed=seed)
        text(tmp_path / "labels" / f"{seed}.txt", BOX)
        text(tmp_path / f"{split}.txt", f"data/images/{seed}.png\n")
    text(tmp_path / settings, "names: [cod]\n" if settings.endswith("yaml") else "cod\n")
    found = read(tmp_path, name="Yolo")
    assert [image.split for image in found.images] == ["train", "validation"]
    assert set(found.annotation_files) > {"Train.txt", "Validation.txt"}


@pytest.mark.parametrize("content", ["", BOX])
def test_a_text_that_has_the_name_of_a_split_and_lists_no_images_is_no_list(tmp_path: Path, content: str) -> None:
    photo(tmp_path / "train.png")
    text(tmp_path / "train.txt", BOX)
    text(tmp_path / "classes.txt", "cod\n")
    text(tmp_path / "test.txt", content)
    photo(tmp_path / "test.png", seed=1)
    found = read(tmp_path, name="Yolo")
    assert [image.split for image in found.images] == [None, None]


@pytest.mark.parametrize("prefix", ["", "../", "data/", "/home/me/fish/"])
def test_settings_may_name_each_image(tmp_path: Path, prefix: str) -> None:
    for seed, name in enumerate("abc"):
        photo(tmp_path / "images" / f"{name}.png", seed=seed)
        text(tmp_path / "labels" / f"{name}.txt", BOX)
    text(
        tmp_path / "data.yaml",
        f"names: [cod]\ntrain: [{prefix}images/a.png, {prefix}images/B.PNG]\nval: {prefix}images/c.png\n",
    )
    assert [image.split for image in read(tmp_path).images] == ["train", "train", "validation"]


def test_an_image_that_the_settings_name_and_that_is_not_there_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", BOX)
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: [images/a.png, images/z.png]\n")
    with pytest.raises(RefusedError, match=r"data\.yaml: train\[1\] names a place where there are no images"):
        read(tmp_path)


def test_a_file_that_is_no_list_is_refused_as_such(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", BOX)
    text(tmp_path / "train.json", "{}")
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: train.json\n")
    with pytest.raises(RefusedError, match=r"data\.yaml: train is no list of images, which is a text file"):
        read(tmp_path)


def test_what_darknet_says_of_a_list_counts_before_its_name(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        photo(tmp_path / "obj" / f"{name}.png", seed=seed)
        text(tmp_path / "obj" / f"{name}.txt", BOX)
    text(tmp_path / "obj.names", "cod\n")
    text(tmp_path / "obj.data", "classes = 1\ntrain = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n")
    text(tmp_path / "train.txt", "data/obj/a.png\n")
    text(tmp_path / "test.txt", "data/obj/b.png\n")
    assert [image.split for image in read(tmp_path).images] == ["train", "validation"]
