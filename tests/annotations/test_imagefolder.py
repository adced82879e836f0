"""ImageFolder: the folder is the class, folders above it may be splits, folders below it may be groups."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from image_sources import coco, document, folders_of, photo, read, read_folders, tree_of
from pelagos_contract.dataset import ClassFolder
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import registry
from pelagos_pipelines.annotations.model import Asked, Exclusion


def test_classes_are_the_sortedfolders_of(tmp_path: Path) -> None:
    for name in ("zander", "Cod", "eel"):
        photo(tmp_path / name / "a.png")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("Cod", "eel", "zander")
    assert {image.path: image.label for image in found.images} == {
        "Cod/a.png": "Cod",
        "eel/a.png": "eel",
        "zander/a.png": "zander",
    }
    assert all(image.split is None for image in found.images)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_folders_above_the_classes_are_splits(tmp_path: Path, validation: str) -> None:
    for split in ("train", validation, "test"):
        for label in ("cod", "eel"):
            photo(tmp_path / split / label / "a.jpg")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert {image.path.split("/")[0]: image.split for image in found.images} == {
        "train": "train",
        validation: "validation",
        "test": "test",
    }


def test_folders_below_the_class_are_groups(tmp_path: Path) -> None:
    photo(tmp_path / "cod" / "station-4" / "a.png")
    photo(tmp_path / "eel" / "b.png")
    groups = {image.path: image.group for image in read(tmp_path, Task.CLASSIFICATION).images}
    assert groups == {"cod/station-4/a.png": "station-4", "eel/b.png": None}


def test_suffixes_may_have_any_case_and_other_files_are_no_images(tmp_path: Path) -> None:
    for path in ("cod/a.JPG", "cod/b.Jpeg", "eel/c.PNG"):
        photo(tmp_path / path)
    (tmp_path / "eel" / "notes.txt").write_text("calm sea")
    (tmp_path / "eel" / ".hidden.png").write_bytes(b"")
    assert [image.path for image in read(tmp_path, Task.CLASSIFICATION).images] == [
        "cod/a.JPG",
        "cod/b.Jpeg",
        "eel/c.PNG",
    ]


def test_images_in_no_class_folder_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "cod" / "a.png")
    photo(tmp_path / "stray.png")
    with pytest.raises(RefusedError, match=r"1 images lie in no class folder: stray\.png") as caught:
        read(tmp_path, Task.CLASSIFICATION, "ImageFolder")
    assert caught.value.failure.reason is Reason.FORMAT_INVALID


# --- folders named like splits


def _refusal(root: Path, name: str = "ImageFolder", class_folder: ClassFolder | None = None) -> Failure:
    with pytest.raises(RefusedError) as caught:
        read_folders(root, class_folder, name)
    return caught.value.failure


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("dev", "validation"),
        ("Validation_Set", "validation"),
        ("testing", "test"),
        ("hold-out", "test"),
        ("03_test_images", "test"),
        ("testset", "test"),
        ("tst", "test"),
        ("validate", "validation"),
    ],
)
def test_what_tools_call_a_split_is_one(tmp_path: Path, folder: str, split: str) -> None:
    folders_of(tmp_path, "training/cod", "training/eel", f"{folder}/cod", f"{folder}/eel")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert {image.path.split("/")[0]: image.split for image in found.images} == {"training": "train", folder: split}


def test_folders_of_splits_without_one_for_training_are_no_classes(tmp_path: Path) -> None:
    folders_of(tmp_path, "val/cod", "val/eel", "test/cod", "test/eel")
    assert read(tmp_path, Task.CLASSIFICATION).classes == ("cod", "eel")


@pytest.mark.parametrize(
    "folder", ["unlabelled", "Unlabeled", "unannotated_images", "unlabelled/batch1", "no labels yet"]
)
@pytest.mark.parametrize("others", [("cod", "eel"), ("train/cod", "train/eel", "test/cod", "test/eel")])
def test_unlabelled_images_are_left_out_counted_and_named(tmp_path: Path, folder: str, others: tuple[str, ...]) -> None:
    folders_of(tmp_path, *others, folder)
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert len(found.images) == len(others)
    assert found.excluded == (Exclusion(f"{folder}/a.png", ExclusionReason.UNLABELLED),)
    assert found.warnings == (f"1 images in folders named unlabelled are left out: {folder}/a.png",)


def test_unlabelled_images_beside_the_classes_of_a_split_are_left_out_too(tmp_path: Path) -> None:
    folders_of(tmp_path, "train/cod", "train/eel", "train/unlabelled", "test/cod", "test/eel")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert [one.path for one in found.excluded] == ["train/unlabelled/a.png"]
    assert found.classes == ("cod", "eel")


@pytest.mark.parametrize("folder", ["extra", "eval", "predict", "unknown", "trainval"])
def test_a_folder_beside_splits_that_is_none_is_refused_with_the_choice(tmp_path: Path, folder: str) -> None:
    folders_of(tmp_path, "train/cod", "train/eel", "test/cod", "test/eel", f"{folder}/cod")
    failure = _refusal(tmp_path, "Auto")
    assert failure.reason is Reason.FORMAT_NOT_RECOGNISED
    assert folder in failure.message
    assert "train, val, test, or unlabelled" in failure.message
    assert _refusal(tmp_path).reason is Reason.FORMAT_INVALID


@pytest.mark.parametrize("folder", ["test", "train", "holdout", "eval", "predictions", "fold1", "dev", "split1"])
def test_a_folder_named_like_a_split_beside_classes_is_never_a_class_without_a_word(
    tmp_path: Path, folder: str
) -> None:
    folders_of(tmp_path, "cod", "eel", folder)
    message = _refusal(tmp_path).message
    assert message.startswith(f"the folders {folder} are named like")
    assert "cod, eel" in message
    assert "rename" in message


def test_a_class_for_what_nobody_could_name_is_one_and_said(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod", "eel", "unknown")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel", "unknown")
    assert found.warnings[0].startswith("unknown is read as a class like the others; a folder named unlabelled")


def test_two_folders_for_one_split_are_said(tmp_path: Path) -> None:
    folders_of(tmp_path, "train/cod", "train/eel", "val/cod", "dev/eel")
    assert read(tmp_path, Task.CLASSIFICATION).warnings == ("the folders dev, val are all read as validation",)


def test_an_archive_unpacked_into_a_folder_of_its_name_is_refused(tmp_path: Path) -> None:
    folders_of(tmp_path, "train/train/cod", "train/train/eel", "test/test/cod")
    assert "the folders test, train below those of the splits are named like splits" in _refusal(tmp_path).message


def test_folders_of_splits_below_each_class_are_splits(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod/train", "cod/test", "eel/train", "eel/test/pier")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert {image.path: (image.split, image.group) for image in found.images} == {
        "cod/test/a.png": ("test", None),
        "cod/train/a.png": ("train", None),
        "eel/test/pier/a.png": ("test", "pier"),
        "eel/train/a.png": ("train", None),
    }


def test_the_last_folder_is_no_class_when_it_is_a_split(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod/train", "cod/test", "eel/train", "eel/test")
    found = read_folders(tmp_path, "Last")
    assert found.classes == ("cod", "eel")
    assert found.images[0].split == "test"


def test_folders_of_splits_below_some_classes_are_refused(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod/train", "cod/test", "eel")
    assert re.match(
        r"2 images lie in folders named like splits .*, and 1 do not \(eel/a\.png\)", _refusal(tmp_path).message
    )


def test_folders_that_differ_in_unicode_form_only_are_one_class_and_said(tmp_path: Path) -> None:
    folders_of(tmp_path, "Müll", unicodedata.normalize("NFD", "Müll"), "cod")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("Müll", "cod")
    assert [image.label for image in found.images].count("Müll") == 2
    assert found.warnings[0].startswith("folders whose names differ only in Unicode form or spaces are one class: ")
    assert found.warnings[1].startswith("1 class names are not in Unicode's composed form (NFC)")


@pytest.mark.parametrize("other", ["Cod", "COD"])
def test_classes_that_differ_in_case_only_are_refused(tmp_path: Path, other: str) -> None:
    folders_of(tmp_path, "train/cod", "train/eel", f"test/{other}")
    assert _refusal(tmp_path).reason is Reason.FORMAT_INVALID


CLASSES_BELOW = tuple(f"{place}/{name}" for place in ("north", "south") for name in ("cod", "eel"))


@pytest.mark.parametrize(
    ("folders", "path"),
    [
        ([f"{above}/{split}" for above in CLASSES_BELOW for split in ("train", "test")], "north/cod/train/a.png"),
        (["north/train/cod", "north/test/eel", "south/train/cod", "south/test/cod"], "north/train/cod/a.png"),
        (["train/north/cod", "train/south/eel", "test/north/eel", "test/south/cod"], "train/north/cod/a.png"),
    ],
    ids=["below the classes", "between", "above all"],
)
def test_folders_of_splits_at_any_depth_are_splits_and_the_class_is_what_was_chosen(
    tmp_path: Path, folders: list[str], path: str
) -> None:
    folders_of(tmp_path, *folders)
    failure = _refusal(tmp_path, "Auto")
    assert failure.field == "classFolder"
    assert "set classFolder to Last" in failure.message
    last, first = read_folders(tmp_path, "Last"), read_folders(tmp_path, "First")
    assert (last.classes, first.classes) == (("cod", "eel"), ("north", "south"))
    for found, group in ((last, "north"), (first, "cod")):
        (image,) = (image for image in found.images if image.path == path)
        assert (image.split, image.group) == ("train", group)


def test_splits_below_groups_are_splits(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod/st1/train", "cod/st1/test", "eel/st1/train", "eel/test/st2")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert {image.path: (image.split, image.group) for image in found.images} == {
        "cod/st1/test/a.png": ("test", "st1"),
        "cod/st1/train/a.png": ("train", "st1"),
        "eel/st1/train/a.png": ("train", "st1"),
        "eel/test/st2/a.png": ("test", "st2"),
    }


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (
            ("train/cod/test", "train/eel", "test/cod"),
            r"1 images lie in folders named like more than one split: train/cod/test",
        ),
        (("cod/st1/test", "cod/st2", "eel/st1"), r"1 images lie in folders named like splits .*, and 2 do not"),
    ],
)
def test_folders_that_leave_the_split_open_are_refused(tmp_path: Path, folders: tuple[str, ...], words: str) -> None:
    folders_of(tmp_path, *folders)
    for chosen in (None, "First", "Last"):
        assert re.match(words, _refusal(tmp_path, class_folder=chosen).message)


@pytest.mark.parametrize("last", ["eval", "set2", "Testdaten", "cod unlabelled"])
def test_the_last_folder_is_no_class_when_it_is_named_like_a_part_of_the_data(tmp_path: Path, last: str) -> None:
    folders_of(tmp_path, "north/cod", "north/eel", f"south/cod/{last}")
    failure = _refusal(tmp_path, "Auto", "Last")
    assert failure.field == "classFolder"
    assert f"the folders {last} are named like parts of the data and would be classes" in failure.message


def test_splits_above_some_classes_and_below_others_are_refused_for_the_last_folder(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod/train", "eel/test/pier")
    assert "put the splits above all classes or below all" in _refusal(tmp_path, class_folder="Last").message


@pytest.mark.parametrize(
    "folders",
    [
        ("trainA", "trainB", "testA", "testB"),
        ("traina", "testa", "cod"),
        ("x_train", "x_test"),
        ("xtrain", "xtest", "cod", "eel", "ray", "dab"),
        ("cod_train", "cod_test", "eel_train", "eel_test", "ray"),
        ("TrainCod", "TestCod"),
        ("Trainingsdaten", "Testdaten", "Validierungsdaten"),
        ("entrenamiento", "prueba", "validación"),
        ("jeu d'entraînement", "jeu de test"),
        ("训练集", "测试集"),
        ("訓練データ", "テストデータ"),
        ("обучающая выборка", "тестовая выборка"),
        ("train+val", "test+extra"),
        ("seg_train/0", "seg_train/1", "seg_test/0", "seg_test/1"),
        ("entrenamiento/cod", "entrenamiento/eel", "prueba/cod"),
        ("cod", "eel", "Testdaten"),
        ("tr", "te", "va"),
        ("train_final", "test_final"),
    ],
)
def test_folders_that_are_rather_splits_than_classes_are_refused_with_the_choice(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    folders_of(tmp_path, *folders)
    failure = _refusal(tmp_path)
    assert failure.reason is Reason.FORMAT_INVALID
    assert re.search("name (each|every folder) train, val, test, or unlabelled", failure.message)
    assert "set classFolder to First if they are classes" in failure.message
    assert read_folders(tmp_path, "First", "ImageFolder").classes == tuple(
        sorted({one.split("/")[0] for one in folders})
    )


@pytest.mark.parametrize(
    "classes",
    [
        ("bottle", "test tube"),
        ("cod", "sea urchin", "sea urchin test"),
        ("foraminifera test", "urchin test"),
        ("bottle", "can", "net", "test tube", "training cone"),
        ("interval", "strain", "contest"),
        ("valve", "shell", "tester"),
    ],
)
def test_classes_whose_names_have_a_word_for_a_split_are_classes(tmp_path: Path, classes: tuple[str, ...]) -> None:
    folders_of(tmp_path, *classes)
    assert read(tmp_path, Task.CLASSIFICATION).classes == tuple(sorted(classes))


def test_a_class_whose_name_has_a_word_for_a_split_is_said(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod", "cod_test")
    assert "cod_test are read as classes like the others" in read(tmp_path, Task.CLASSIFICATION).warnings[0]


def test_groups_that_are_named_like_splits_are_said(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod/prueba", "cod/entrenamiento", "eel")
    warning = read(tmp_path, Task.CLASSIFICATION).warnings[-1]
    assert warning.startswith(
        "the folders entrenamiento, prueba are read as groups, although they are named like splits"
    )


@pytest.mark.parametrize("folder", ["cod/unlabelled", "cod/st1/not yet labelled", "train/cod/unannotated"])
def test_unlabelled_images_below_a_class_are_left_out(tmp_path: Path, folder: str) -> None:
    above = "train/" if folder.startswith("train") else ""
    folders_of(tmp_path, f"{above}cod", f"{above}eel", folder)
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    assert [one.path for one in found.excluded] == [f"{folder}/a.png"]


@pytest.mark.parametrize(
    "folder", ["unlabelled_video_3", "nicht annotiert", "sin etiquetar", "ungelabelt", "unlabelled fish", "未标注"]
)
def test_folders_of_unlabelled_images_in_other_words_are_refused(tmp_path: Path, folder: str) -> None:
    folders_of(tmp_path, "cod", "eel", folder)
    assert _refusal(tmp_path).message.startswith(f"the folders {folder} are named like parts of the data")


@pytest.mark.parametrize("folders", [("ds/train/cod", "ds/test/eel"), ("ds/0", "ds/1")])
def test_one_folder_around_all_is_refused_when_the_format_is_named(tmp_path: Path, folders: tuple[str, ...]) -> None:
    folders_of(tmp_path, *folders)
    failure = _refusal(tmp_path)
    assert failure.field == "classFolder"
    assert failure.message.startswith("all images lie in the one folder ds, which has subfolders")
    assert read_folders(tmp_path, "Last", "ImageFolder").classes == tuple(sorted(one.split("/")[-1] for one in folders))


# --- folders in folders

TAXA = ("Bacillariophyta/Chaetoceros", "Bacillariophyta/Thalassiosira", "Copepoda/Calanoida", "Copepoda/Cyclopoida")


@pytest.mark.parametrize("more", [(), ("Copepoda", "Bacillariophyta", "Detritus")], ids=["alone", "with images above"])
@pytest.mark.parametrize("above", ["", "train/"])
def test_folders_that_look_like_taxa_in_a_tree_are_refused_with_the_choice(
    tmp_path: Path, above: str, more: tuple[str, ...]
) -> None:
    folders_of(tmp_path, *(f"{above}{taxon}" for taxon in (*TAXA, *more)))
    failure = _refusal(tmp_path, "Auto")
    assert (failure.reason, failure.field) == (Reason.FORMAT_INVALID, "classFolder")
    assert "Bacillariophyta: Chaetoceros, Thalassiosira; Copepoda: Calanoida, Cyclopoida" in failure.message
    assert "set classFolder to Last" in failure.message


@pytest.mark.parametrize("above", [("2006", "2007"), ("HE542", "PS121")])
def test_folders_of_the_same_names_below_others_may_be_the_classes_and_are_refused_with_the_choice(
    tmp_path: Path, above: tuple[str, ...]
) -> None:
    folders_of(tmp_path, *(f"{one}/{name}" for one in above for name in ("cod", "eel")))
    failure = _refusal(tmp_path, "Auto")
    assert (failure.reason, failure.field) == (Reason.FORMAT_INVALID, "classFolder")
    assert f"{above[0]}: cod, eel; {above[1]}: cod, eel" in failure.message
    assert "set classFolder to Last" in failure.message
    assert read_folders(tmp_path, "Last").classes == ("cod", "eel")
    assert read_folders(tmp_path, "First").classes == tuple(sorted(above))


@pytest.mark.parametrize(
    "folders",
    [
        ("2019/126436", "2019/127160", "2020/126436", "2020/127160"),
        ("2019-05/st1", "2019-06/st2"),
        ("Pisces/Gadus_morhua_126436", "Pisces/Anguilla_anguilla_126281", "Crustacea/Homarus_gammarus_107253"),
        ("Pisces/sp1", "Pisces/sp2", "Crustacea/sp3", "Crustacea/sp4"),
    ],
)
def test_numbers_in_the_names_of_taxa_or_in_those_above_leave_the_class_open(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    folders_of(tmp_path, *folders)
    assert "set classFolder to Last" in _refusal(tmp_path, "Auto").message


@pytest.mark.parametrize("above", ["", "train/"])
def test_a_folder_that_says_nothing_below_the_class_is_as_if_it_were_not_there(tmp_path: Path, above: str) -> None:
    folders_of(tmp_path, f"{above}cod/images", f"{above}eel/images", f"{above}ray")
    for chosen in (None, "First", "Last"):
        found = read_folders(tmp_path, chosen)
        assert found.classes == ("cod", "eel", "ray")
        assert {image.group for image in found.images} == {None}


def test_the_last_folder_is_the_class_when_told_so(tmp_path: Path) -> None:
    folders_of(tmp_path, *TAXA, "Copepoda", "Detritus")
    found = read_folders(tmp_path, "Last")
    assert found.classes == (*("Calanoida", "Chaetoceros", "Copepoda", "Cyclopoida", "Detritus", "Thalassiosira"),)
    assert {image.group for image in found.images} == {None}
    assert found.warnings == ()


def test_the_first_folder_is_the_class_when_told_so(tmp_path: Path) -> None:
    folders_of(tmp_path, *TAXA)
    found = read_folders(tmp_path, "First")
    assert found.classes == ("Bacillariophyta", "Copepoda")
    assert {image.group for image in found.images} == {"Chaetoceros", "Thalassiosira", "Calanoida", "Cyclopoida"}
    assert found.warnings == ()


def test_folders_above_a_class_that_lies_in_several_are_groups(tmp_path: Path) -> None:
    folders_of(tmp_path, "pier/cod", "pier/eel", "reef/cod", "reef/ray")
    found = read_folders(tmp_path, "Last")
    assert {image.path: (image.label, image.group) for image in found.images} == {
        "pier/cod/a.png": ("cod", "pier"),
        "pier/eel/a.png": ("eel", "pier"),
        "reef/cod/a.png": ("cod", "reef"),
        "reef/ray/a.png": ("ray", "reef"),
    }
    assert found.warnings == (
        (
            "1 classes lie below more than one folder: cod; therefore the folders above the classes are read as groups: pier, "
            "reef"
        ),
    )


@pytest.mark.parametrize(
    "folders",
    [
        ("cod/station-4", "cod/station-5", "eel/station-6", "eel/station-7"),
        ("cod/HE542", "eel/PS121", "eel/2019-05-03"),
        ("cod/pier", "eel"),
    ],
    ids=["numbered", "codes and dates", "only below one class"],
)
def test_folders_that_look_like_groups_are_groups_and_said(tmp_path: Path, folders: tuple[str, ...]) -> None:
    folders_of(tmp_path, *folders)
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.classes == ("cod", "eel")
    (warning,) = found.warnings
    assert warning.startswith("the classes are the upper folders (cod, eel), and ")
    assert "set classFolder to First if that is right" in warning


def test_a_class_folder_for_a_format_without_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    document(tmp_path / "annotations.json", coco({"a.png": [[0, 0, 5, 5]]}))
    tree = tree_of(tmp_path)
    with pytest.raises(RefusedError, match="classFolder is Last, but the source is in the format Coco") as caught:
        registry.read(
            registry.choose("Coco", tree, Task.DETECTION), tree, lambda _: (40, 30), Asked(Task.DETECTION, "Last")
        )
    assert caught.value.failure.field == "classFolder"


# --- why it is none


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("overview.jpg", r"1 images lie in no class folder: overview\.jpg; move them"),
        ("cod/notes.json", r"cod/notes\.json may hold annotations: set format to ImageFolder"),
    ],
)
def test_what_keeps_a_source_from_being_recognised_is_named(tmp_path: Path, extra: str, words: str) -> None:
    folders_of(tmp_path, "cod", "eel")
    if extra.endswith("jpg"):
        photo(tmp_path / extra)
    else:
        (tmp_path / extra).write_text("{}")
    with pytest.raises(RefusedError, match=words) as caught:
        read(tmp_path, Task.CLASSIFICATION)
    assert caught.value.failure.reason is Reason.FORMAT_NOT_RECOGNISED


def test_one_folder_around_all_is_named(tmp_path: Path) -> None:
    folders_of(tmp_path, "fish/cod", "fish/eel")
    assert "all images lie in the one folder fish: use it as the source" in _refusal(tmp_path, "Auto").message


def test_a_class_folder_without_an_image_that_can_be_read_is_named(tmp_path: Path) -> None:
    folders_of(tmp_path, "cod", "eel")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/notes.txt").write_text("none seen")
    found = read(tmp_path, Task.CLASSIFICATION)
    assert found.warnings == ("1 folders contain no readable image, and are not classes: ray",)


@pytest.mark.parametrize("name", ["labels.json", "class_to_idx.json"])
@pytest.mark.parametrize("content", [{"0": "cod", "1": "eel"}, {"cod": 0, "eel": 1}, ["cod", "eel"]], ids=str)
def test_an_index_of_the_class_folders_is_no_annotation_file(tmp_path: Path, name: str, content: object) -> None:
    for folder in ("cod", "eel"):
        photo(tmp_path / folder / "a.png")
    document(tmp_path / name, content)
    assert read(tmp_path, Task.CLASSIFICATION).classes == ("cod", "eel")


@pytest.mark.parametrize(
    "content", [{"a.png": "cod", "b.png": "eel"}, {"a": "cod", "b": "eel"}, {"0": "cod", "1": "ray"}], ids=str
)
def test_a_file_that_may_say_more_than_the_class_folders_leaves_the_choice(tmp_path: Path, content: object) -> None:
    for folder in ("cod", "eel"):
        photo(tmp_path / folder / "a.png")
    document(tmp_path / "labels.json", content)
    with pytest.raises(RefusedError, match=r"labels\.json may hold annotations: set format to ImageFolder if only"):
        read(tmp_path, Task.CLASSIFICATION)
