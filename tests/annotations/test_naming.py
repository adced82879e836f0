"""Names that differ from the files' names in ways that tools and file systems cause: matched if only one file can be meant."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest

from image_sources import coco, document, photo, read, text, tree_of
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry, untrusted_input
from pelagos_pipelines.annotations.model import Asked
from pelagos_pipelines.annotations.naming import Names

NFC, NFD = (unicodedata.normalize(form, "Müll 1.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        pytest.param(NFC, f"images/{NFD}", id="composed in the file, decomposed on the disk"),
        pytest.param(NFD, f"images/{NFC}", id="the other way round"),
        pytest.param("M%C3%BCll%201.png", f"images/{NFD}", id="percent-encoded"),
        pytest.param("A.PNG", "images/a.png", id="case"),
        pytest.param("a.png", "Images/a.png", id="a folder in another case"),
        pytest.param("a.png", "JPEGImages/a.png", id="a folder added"),
        pytest.param("a.png", "station 4/images/a.png", id="two folders added"),
        pytest.param("export/images/a.png", "images/a.png", id="a folder dropped"),
        pytest.param("images\\a.png", "IMAGES/a.png", id="backslashes"),
        pytest.param("C:\\me\\export\\images\\a.png", "images/a.png", id="a path of another machine"),
        pytest.param("/home/me/station 4/a.png", "station 4/images/a.png", id="an absolute path"),
        pytest.param("../images/a.png", "images/a.png", id="a way up"),
        pytest.param("s3://bucket/images/a.png", "images/a.png", id="an address"),
        pytest.param("a.png ", "images/a.png", id="a space at the end"),
    ],
)
def test_a_name_of_coco_that_fits_one_image_means_it_and_a_warning_says_so(
    tmp_path: Path, said: str, stored: str
) -> None:
    photo(tmp_path / stored)
    photo(tmp_path / "images" / "other.png")
    document(tmp_path / "annotations" / "instances_default.json", coco({said: [[0, 0, 5, 5]], "other.png": []}))

    found = read(tmp_path)

    assert {image.path: len(image.boxes) for image in found.images} == {stored: 1, "images/other.png": 0}
    assert found.warnings[0].startswith("1 names in annotation files differ from those of the images in case, Unicode")
    assert (stored if stored.isascii() else "M") in found.warnings[0]


def test_a_name_that_fits_two_images_is_refused_with_both(tmp_path: Path) -> None:
    for place in ("reef", "pier"):
        photo(tmp_path / place / "a.png")
    document(tmp_path / "annotations.json", coco({"A.png": [[0, 0, 5, 5]]}))

    with pytest.raises(RefusedError, match=r"images\[0\]\.file_name \(may be pier/a\.png or reef/a\.png\)") as caught:
        read(tmp_path)

    assert caught.value.failure.reason is Reason.LABEL_WITHOUT_IMAGE


def test_a_name_that_fits_none_is_refused_with_the_nearest_and_where_it_was_looked_for(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "dive_0001.png")
    document(tmp_path / "annotations" / "instances_default.json", coco({"dive_0001.tif": [[0, 0, 5, 5]]}))

    with pytest.raises(RefusedError) as caught:
        read(tmp_path)

    message = caught.value.failure.message
    assert "images[0].file_name (nearest is images/dive_0001.png)" in message
    assert "looked for in annotations/, annotations/images/, ./, images/" in message
    assert "and elsewhere for names that differ only in case, Unicode form, " in message


def test_folders_that_say_something_are_not_exchanged(tmp_path: Path) -> None:
    photo(tmp_path / "reef" / "a.png")
    document(tmp_path / "annotations.json", coco({"pier/a.png": [[0, 0, 5, 5]]}))

    with pytest.raises(RefusedError, match=r"nearest is reef/a\.png"):
        read(tmp_path)


def test_an_image_of_another_split_is_not_meant(tmp_path: Path) -> None:
    photo(tmp_path / "Train" / "a.png", seed=1)
    photo(tmp_path / "Val" / "b.png", seed=2)
    document(tmp_path / "annotations" / "instances_val.json", coco({"a.png": [[0, 0, 5, 5]], "b.png": []}))

    with pytest.raises(RefusedError, match=r"images\[0\]\.file_name \(nearest is Train/a\.png\)"):
        read(tmp_path)


def test_the_split_tells_two_images_of_one_name_apart(tmp_path: Path) -> None:
    for number, split in enumerate(("Train", "Val")):
        photo(tmp_path / "Images" / split / "a.png", seed=number)
        document(tmp_path / "Annotations" / f"instances_{split}.json", coco({"a.png": [[0, 0, 5, 5]]}))

    assert {image.path: image.split for image in read(tmp_path).images} == {
        "Images/Train/a.png": "train",
        "Images/Val/a.png": "validation",
    }


def test_an_entry_that_names_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    text(tmp_path / "notes.txt", "")
    document(tmp_path / "annotations.json", coco({"a.png": [[0, 0, 5, 5]], "notes.txt": []}))

    with pytest.raises(RefusedError, match=r"images\[1\]\.file_name"):
        read(tmp_path)


def test_the_layout_of_fiftyone_is_recognised_in_a_folder_for_each_split(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        photo(tmp_path / split / "data" / f"{seed}.png", seed=seed)
        document(tmp_path / split / "labels.json", coco({f"{seed}.png": [[0, 0, 5, 5]]}))
    assert [image.split for image in read(tmp_path).images] == ["train", "validation"]


@pytest.mark.parametrize("name", ["result.json", "dataset.json", "export/Result.json"])
def test_names_that_may_be_of_anything_are_of_coco_by_what_is_in_them(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "images" / "a.png")
    document(tmp_path / name, coco({"images/a.png": [[0, 0, 5, 5]]}))

    found = read(tmp_path)

    assert found.annotation_files == (name,)


def test_a_file_of_such_a_name_without_the_lists_is_none_of_coco(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    document(tmp_path / "dataset.json", {"images": ["a.png"], "annotations": 3})

    with pytest.raises(RefusedError, match="fit no known format"):
        read(tmp_path)


def test_the_layout_of_fiftyone_is_recognised(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "a.png")
    document(tmp_path / "labels.json", coco({"a.png": [[0, 0, 5, 5]]}))

    assert [image.path for image in read(tmp_path).images] == ["data/a.png"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        pytest.param("Images/a.png", "Labels/a.txt", id="folders in another case"),
        pytest.param("images/A.PNG", "labels/a.txt", id="case"),
        pytest.param(f"images/{NFD}", f"labels/{NFC[:-4]}.txt", id="Unicode forms"),
        pytest.param("images/train/a.png", "images/train/a.txt", id="beside the images"),
        pytest.param("images/train/a.png", "labels/a.txt", id="a folder dropped"),
        pytest.param("a.png", "labels/a.txt", id="a folder added"),
        pytest.param("images/a b.png", "labels/a%20b.txt", id="percent-encoded"),
    ],
)
def test_a_label_file_of_yolo_that_fits_one_image_is_its_and_a_warning_says_so(
    tmp_path: Path, image: str, label: str
) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    photo(tmp_path / image)
    text(tmp_path / label, "0 0.5 0.5 0.5 0.5")

    found = read(tmp_path)

    assert [(one.path, len(one.boxes)) for one in found.images] == [(image, 1)]
    assert found.annotation_files == ("data.yaml", label)
    assert found.warnings[0].startswith(
        "1 label files lie where ultralytics would not look, or differ in name from their image"
    )


def test_folders_of_the_settings_are_found_in_another_case(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: images/train\nval: images/val\n")
    for number, split in enumerate(("Train", "Val")):
        photo(tmp_path / "Images" / split / "a.png", seed=number)
        text(tmp_path / "Labels" / split / "a.txt", "0 0.5 0.5 0.5 0.5")

    found = read(tmp_path)

    assert {image.path: image.split for image in found.images} == {
        "Images/Train/a.png": "train",
        "Images/Val/a.png": "validation",
    }


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            "train: /content/fish/train/images\nval: /content/fish/val/images", id="folders of another machine"
        ),
        pytest.param("train: train.txt\nval: val.txt", id="lists"),
    ],
)
def test_paths_of_another_machine_mean_what_lies_here(tmp_path: Path, settings: str) -> None:
    text(tmp_path / "data.yaml", f"names: [cod]\n{settings}\n")
    for number, split in enumerate(("train", "val")):
        photo(tmp_path / split / "images" / "a.png", seed=number)
        text(tmp_path / split / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
        if ".txt" in settings:
            text(tmp_path / f"{split}.txt", f"/home/me/fish/{split}/images/a.png\n")

    found = read(tmp_path)

    assert {image.path: image.split for image in found.images} == {
        "train/images/a.png": "train",
        "val/images/a.png": "validation",
    }
    assert found.warnings[0].startswith("2 entries of data.yaml and its lists differ from the files in case, ")


def test_a_folder_of_another_machine_that_is_not_here_is_refused(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\ntrain: /content/fish/train/images\nval: /content/fish/val/images\n")
    photo(tmp_path / "train" / "images" / "a.png")
    text(tmp_path / "train" / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")

    with pytest.raises(RefusedError, match="val is not a path below the source's folder"):
        read(tmp_path)


def test_hundreds_of_label_files_beside_their_images_are_all_found(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    image = photo(tmp_path / "images" / "0.png", 8, 8).read_bytes()
    for number in range(250):
        (tmp_path / "images" / f"{number}.png").write_bytes(image)
        text(tmp_path / "images" / f"{number}.txt", "0 0.5 0.5 0.5 0.5")

    tree = tree_of(tmp_path)
    found = registry.choose("Yolo", tree, Task.DETECTION).read(tree, lambda path: (8, 8), Asked(Task.DETECTION))

    assert sum(len(one.boxes) for one in found.images) == 250
    assert found.excluded == ()


def test_two_label_files_of_one_image_are_refused_with_both(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cod]\n")
    photo(tmp_path / "images" / "train" / "a.png")
    text(tmp_path / "labels" / "train" / "a.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "images" / "train" / "a.txt", "0 0.5 0.5 0.25 0.5")

    with pytest.raises(RefusedError, match=r"images/train/a\.txt and labels/train/a\.txt, for images/train/a\.png"):
        read(tmp_path)


def test_similar_names_are_looked_for_among_few_of_many() -> None:
    names = Names(f"dive/{number:06d}.jpg" for number in range(20_000))

    assert names.nearest("dive/001234.jpeg")[0] == "dive/001234.jpg"
    assert list(names.nearest("001234")) == ["dive/001234.jpg"]
    assert list(names.nearest("zzz")) == []
    assert list(names.nearest("x" * 1_000_000)) == []


def test_names_are_found_at_once_also_where_many_files_have_the_same() -> None:
    names = Names(f"dive{number % 5_000}/Images/{number // 5_000:06d}.jpg" for number in range(20_000))
    began = time.process_time()

    found = [names.alike(f"DIVE{number}/images/000002.jpg") for number in range(5_000)]

    assert found[7] == ["dive7/Images/000002.jpg"]
    assert all(len(one) == 1 for one in found)
    assert len(names.alike("000002.jpg")) == 100
    assert time.process_time() - began < 10


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u2060\ufeff", "\u0301", "\u3164", "\u2800 \u00ad"], ids=ascii)
def test_a_class_name_of_which_nothing_is_seen_is_none(name: str) -> None:
    with pytest.raises(RefusedError, match="names is not a class name"):
        untrusted_input.class_name(name, "names")


@pytest.mark.parametrize(
    "name", ["0", "-", "?", "e\u0301gg", "\u9c7c", "\u0928\u0940", "sea\u200bcow", "\U0001f41f"], ids=ascii
)
def test_a_class_name_may_be_of_any_script_and_sign(name: str) -> None:
    assert untrusted_input.class_name(name, "names")
