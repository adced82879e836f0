"""The step prepare: a source in, exactly one of result.json and failure.json out. Started again, it does nothing twice."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from image_sources import coco, document, photo
from pelagos_contract import history, progress
from pelagos_contract.dataset import PreparationRequest, PreparationResult
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_pipelines.preparation import splitting, versions
from pelagos_pipelines.preparation.judging import making
from pelagos_pipelines.samples import wheel as wheels
from pelagos_pipelines.samples import writing
from pelagos_pipelines.steps import prepare as step
from sample_wheels import make_wheel


class Place:
    """A data volume, a store and report folders, all in one folder."""

    def __init__(self, root: Path) -> None:
        self.data, self.store, self.reports = root / "data", root / "store", root / "reports"
        for label in ("cod", "eel"):
            for number in range(3):
                photo(self.data / "fish" / label / f"{number}.png", seed=ord(label[0]) * 10 + number)

    def request(self, **changes: Any) -> str:
        whole = {"source": {"volume": {"path": "fish"}}, "task": "Classification", **changes}
        return json.dumps(whole)

    def prepare(self, report: str = "r1", **changes: Any) -> PreparationResult:
        step.prepare(self.request(**changes), str(self.data), str(self.store), str(self.reports / report))
        return self.result(report)

    def result(self, report: str = "r1") -> PreparationResult:
        return PreparationResult.model_validate_json((self.reports / report / "result.json").read_bytes())

    def failure(self, report: str = "r1") -> Failure:
        return Failure.model_validate_json((self.reports / report / "failure.json").read_bytes())

    def reported(self, report: str = "r1") -> list[str]:
        names = (path.name for path in (self.reports / report).iterdir() if not path.name.startswith("."))
        return sorted(name for name in names if name != progress.DOCUMENT)

    def times(self) -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in self.store.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_result_describes_the_version(place: Place) -> None:
    photo(place.data / "fish" / "eel" / "copy.png", seed=ord("e") * 10)
    (place.data / "fish" / "eel" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    photo(place.data / "fish" / "eel" / "tiny.png", 8, 8)

    result = place.prepare(split={"ratios": {"train": 60, "validation": 20, "test": 20}})

    assert place.reported() == ["result.json"]
    assert result.uri == str((place.store / "versions" / result.version.removeprefix("sha256:")).resolve())
    assert (result.images, result.annotations) == (6, 6)
    assert [(c.name, c.images, c.annotations) for c in result.classes] == [("cod", 3, 3), ("eel", 3, 3)]
    assert {split: count.images for split, count in result.splits.items()} == {"train": 2, "validation": 2, "test": 2}
    quality = result.quality.model_dump()
    assert quality == {
        "found": 9,
        "corrupt": 1,
        "duplicates": 1,
        "near_duplicates": 0,
        "too_small": 1,
        "leakage": 0,
    }
    assert len(versions.read(result.uri).collection.images) == 6


def test_a_report_stands_in_the_version_and_the_result_says_where_and_what_of_slices(place: Place) -> None:
    result = place.prepare(split={"ratios": {"train": 60, "validation": 20, "test": 20}})

    assert result.report == f"{result.uri}/report/report.html"
    assert "Samples of cod" in Path(result.report).read_text(encoding="utf-8")
    assert result.slices == []  # no groups, and only one size


def test_what_leaks_between_provided_splits_is_told_with_the_version(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for split, station, number in (
        ("train", "north", 0),
        ("train", "south", 1),
        ("val", "east", 2),
        ("test", "north", 3),
    ):
        photo(place.data / "dives" / split / "cod" / station / f"dive_{number}.png", seed=number + 1)
    photo(place.data / "dives" / "test" / "cod" / "west" / "again.png", seed=3)
    photo(place.data / "dives" / "train" / "eel" / "reef" / "one.png", seed=9)

    result = place.prepare(
        source={"volume": {"path": "dives"}},
        classFolder="First",
        split={"policy": "Provided"},
        cleaning={"duplicates": {"action": "Keep"}},
    )

    assert result.leakage is not None
    assert (result.leakage.evaluated, result.leakage.leaked, result.leakage.shared_groups) == (3, 2, 1)
    assert [(one.kind, one.split, one.other, one.images) for one in result.leakage.found] == [
        ("SharedGroup", "test", "train", 1),
        ("Duplicate", "test", "validation", 1),
    ]
    assert result.report is not None
    assert {file.name for file in Path(result.report).parent.glob("leak-*")} == {
        "leak-SharedGroup-00.png",
        "leak-Duplicate-00.png",
    }


def test_a_version_does_not_fail_for_its_report(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(making, "make", fail)

    result = place.prepare(split={"ratios": {"train": 60, "validation": 20, "test": 20}})

    assert (result.report, result.images) == (None, 6)


def test_a_class_that_cleaning_empties_is_no_class_and_is_named(place: Place) -> None:
    for number in range(2):
        photo(place.data / "fish" / "dab" / f"{number}.png", 60, 12, seed=number)
    (place.data / "fish" / "dab" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    result = place.prepare(split={"ratios": {"train": 60, "validation": 20, "test": 20}})

    assert [(c.name, c.images) for c in result.classes] == [("cod", 3), ("eel", 3)]
    collection = versions.read(result.uri).collection
    assert collection.classes == ("cod", "eel")
    assert {image.label for image in collection.images} == {"cod", "eel"}
    assert result.warnings[-1] == (
        "1 classes lost all their images in cleaning and are no classes of the version: dab (2 below"
        " cleaning.minSide, 1 unreadable)"
    )


def test_the_last_class_that_is_left_is_said_to_be_the_only_one(place: Place) -> None:
    for number in range(3):
        photo(place.data / "fish" / "eel" / f"{number}.png", 60, 12, seed=number)

    result = place.prepare(split={"ratios": {"train": 60, "validation": 20, "test": 20}})

    assert [c.name for c in result.classes] == ["cod"]
    assert result.warnings[1] == "cod is the only class that is left: a model has nothing to tell apart"


def test_the_version_depends_on_content_and_recipe_alone(place: Place, tmp_path: Path) -> None:
    elsewhere = Place(tmp_path / "another" / "machine")
    (elsewhere.data / "fish").rename(elsewhere.data / "moved")

    first = place.prepare()
    other = elsewhere.prepare(source={"volume": {"path": "moved"}})

    assert first.version == other.version
    assert place.prepare("r2", split={"seed": 1}).version != first.version


def test_started_again_it_returns_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.prepare()
    before = place.times()
    monkeypatch.setattr(step, "_prepare", lambda *_: pytest.fail("prepared again"))

    place.prepare()

    assert place.times() == before


def test_a_version_that_was_deleted_is_made_again(place: Place) -> None:
    version = place.prepare()
    (Path(version.uri) / "annotations.json").unlink()

    assert place.prepare() == version
    assert versions.read(version.uri).digest in version.version


def test_another_request_is_not_answered_by_an_old_result(place: Place) -> None:
    first = place.prepare()

    assert place.prepare(split={"seed": 7}).version != first.version


def test_a_new_retry_value_looks_at_the_source_again(place: Place) -> None:
    """The operator's fingerprint misses some changes. People who know about one set pelagos.dev/retry."""
    first = place.prepare()
    file = place.data / "fish" / "cod" / "0.png"
    times = file.stat()
    photo(file, seed=77)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert place.prepare() == first

    again = place.prepare(retry="2")

    assert again.version != first.version
    assert place.prepare(retry="3") == again


def test_a_label_edited_within_the_same_second_and_size_is_another_version(place: Place) -> None:
    """The fingerprint includes the content of label files, so the operator asks again, with another report folder."""
    photo(place.data / "boxes" / "images" / "a.png", seed=1)
    photo(place.data / "boxes" / "images" / "b.png", seed=2)
    document(place.data / "boxes" / "annotations.json", coco({"a.png": [[1, 1, 5, 5]], "b.png": [[1, 1, 5, 5]]}))
    file = place.data / "boxes" / "annotations.json"
    ratios = {"ratios": {"train": 50, "validation": 50, "test": 0}}
    wanted: dict[str, Any] = {"source": {"volume": {"path": "boxes"}}, "task": "Detection", "split": ratios}
    first, times = place.prepare("r1", **wanted), file.stat()

    file.write_text(file.read_text().replace("[1, 1, 5, 5]", "[1, 1, 5, 6]", 1))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert file.stat().st_size == times.st_size
    assert place.prepare("r2", **wanted).version != first.version


def test_a_refusal_leaves_a_failure_and_no_result(place: Place) -> None:
    with pytest.raises(RefusedError):
        place.prepare(source={"volume": {"path": "birds"}})

    assert place.reported() == ["failure.json"]
    assert place.failure().reason is Reason.SOURCE_NOT_FOUND
    assert place.failure().field == "source.volume.path"


def test_a_refusal_after_a_result_replaces_it_and_the_other_way_round(place: Place) -> None:
    place.prepare()
    with pytest.raises(RefusedError):
        place.prepare(source={"volume": {"path": "birds"}})
    assert place.reported() == ["failure.json"]

    place.prepare()

    assert place.reported() == ["result.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_as_such(place: Place, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        if file.is_relative_to(place.store / "versions"):
            raise OSError(number, os.strerror(number), str(file))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RefusedError) as caught:
        place.prepare()

    assert caught.value.failure.reason is Reason.DISK_FULL
    assert place.failure().message.startswith(("no space is left on the volume /", "the disk quota of user "))
    assert list((place.store / "versions").glob("[0-9a-f]*")) == []


def test_a_bug_or_an_outage_leaves_no_report(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control plane then tries again instead of blaming the user."""
    monkeypatch.setattr(splitting, "divide", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        place.prepare()

    assert not (place.reports / "r1").exists() or place.reported() == []


def test_a_request_of_an_operator_of_another_version_is_refused_in_words(place: Place) -> None:
    with pytest.raises(RefusedError, match="does not understand its request"):
        place.prepare(sauce={})

    assert place.failure().reason is Reason.REQUEST_NOT_UNDERSTOOD
    assert "(sauce: Extra inputs are not permitted)" in place.failure().message
    assert "PELAGOS_TRAINER_IMAGE" in place.failure().message


def test_two_at_once_into_one_store_agree(place: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(place.prepare, ("a", "b", "c", "d")))

    assert len({result.version for result in results}) == 1
    assert len(list((place.store / "versions").iterdir())) == 1


def test_after_a_kill_in_the_middle_the_next_attempt_finishes(place: Place) -> None:
    code = (
        "import os, sys; from pelagos_pipelines.preparation import versions;"
        "versions._write_folder = lambda *_: os._exit(9);"
        "from pelagos_pipelines.steps.prepare import prepare; prepare(*sys.argv[1:])"
    )
    arguments = [place.request(), str(place.data), str(place.store), str(place.reports / "r1")]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert killed.returncode == 9

    result = place.prepare()

    assert len(list((place.store / "versions").iterdir())) == 1
    assert versions.read(result.uri).folder.exists()


def test_detection_counts_boxes_and_the_images_that_show_them(tmp_path: Path) -> None:
    place = Place(tmp_path)
    boxes = {f"{n}.png": [[1.0, 1.0, 9.0, 9.0], [11.0, 1.0, 9.0, 9.0]] for n in range(4)} | {"empty.png": []}
    for number, name in enumerate(boxes):
        photo(place.data / "sea" / name, seed=number)
    document(place.data / "sea" / "annotations.json", coco(boxes))

    result = place.prepare(source={"volume": {"path": "sea"}}, task="Detection")

    assert (result.images, result.annotations) == (5, 8)
    assert [(c.name, c.images, c.annotations) for c in result.classes] == [("cod", 4, 8)]


def test_composed_frames_are_split_as_their_organisms_were(tmp_path: Path) -> None:
    """What the samples promise: by group, the three groups become the three splits by their sizes alone."""
    place = Place(tmp_path)
    wheel = make_wheel(tmp_path / "planktonclas.whl")
    content, folder = wheels.read(wheel), place.data / "samples"
    writing.write(
        content, folder, {"train": 20, "validation": 4, "test": 4}, {"train": 1, "validation": 1, "test": 1}, 1
    )

    result = place.prepare(
        source={"volume": {"path": "samples/phytoplankton-frames"}},
        task="Detection",
        split={"policy": "Grouped", "ratios": {"train": 72, "validation": 14, "test": 14}, "seed": 42},
    )

    splits = Counter((image.group, image.split) for image in versions.read(result.uri).collection.images)
    assert splits[("organisms-train", "train")] == 20
    assert len(splits) == 3
    assert result.quality.leakage == 0


def test_importing_it_loads_no_framework() -> None:
    """200 small preparations may start at once on two cores."""
    code = "import sys, pelagos_pipelines.steps.prepare; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"torch", "torchvision", "cv2", "ultralytics", "mlflow", "kfp", "onnxruntime", "matplotlib"} & set(
        loaded
    )


def test_every_default_of_a_request_is_in_the_recipe(place: Place) -> None:
    """A version must say how it was made even when defaults change later."""
    result = place.prepare()

    recipe = json.loads((Path(result.uri) / "manifest.json").read_bytes())["recipe"]
    request = PreparationRequest.model_validate_json(place.request())
    # Defaults of later fields are recorded elsewhere, so that digests of earlier versions do not change.
    told = history.of_subject("Dataset").completed(recipe, PreparationRequest)
    assert told["cleaning"] == request.cleaning.model_dump(mode="json", by_alias=True)
    assert told["split"] == request.split.model_dump(mode="json", by_alias=True)
    assert recipe["format"] == "ImageFolder"
    assert "fish" not in json.dumps(recipe)


def test_classes_are_selected_and_named_before_cleaning_and_the_version_tells_how(place: Place) -> None:
    photo(place.data / "fish" / "ray" / "a.png", seed=1)
    asked = {"merge": {"fish": ["cod", "eel"]}, "exclude": ["ray"]}

    result = place.prepare(labels=asked)

    assert [(c.name, c.images) for c in result.classes] == [("fish", 6)]
    assert [(each.reason, each.files, each.first) for each in result.excluded] == [("ExcludedClass", 1, ["ray/a.png"])]
    assert result.files.found == 7
    assert "fish is made of cod (3), eel (3)" in result.warnings
    manifest = json.loads((Path(result.uri) / "manifest.json").read_bytes())
    assert (manifest["classes"], manifest["recipe"]["labels"]) == (["fish"], asked)


def test_labels_that_change_nothing_make_no_other_version(place: Place) -> None:
    assert place.prepare("r1").version == place.prepare("r2", labels={"emptied": "Drop", "include": []}).version


def test_images_that_lose_their_annotations_at_the_edge_are_accounted_for(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for seed, name in enumerate("abcd"):
        photo(place.data / "tiles" / f"{name}.png", seed=seed)
    boxes: dict[str, list[list[float]]] = {
        "a.png": [[30, 20, 20, 20]],
        "b.png": [[1, 1, 9, 9]],
        "c.png": [[90, 1, 9, 9]],
        "d.png": [[2, 2, 9, 9]],
    }
    document(place.data / "tiles" / "annotations.json", coco(boxes))

    source = {"volume": {"path": "tiles"}}
    result = place.prepare(source=source, task="Detection", cleaning={"outside": "Clip"})

    assert (result.images, result.annotations) == (3, 3)
    assert [(each.reason, each.first) for each in result.excluded] == [("OutsideImage", ["c.png"])]
    assert [(each.reason, each.annotations) for each in result.altered] == [("Cut", 1), ("Outside", 1)]
    assert result.files.found == result.files.images + result.files.annotations + result.files.excluded == 5
