"""Every file of a source is in the version, was read for annotations, or is excluded for one reason. With real sources."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dataset_versions
from image_sources import coco, document, photo, text, tree_of
from pelagos_contract.dataset import PreparationResult
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_pipelines.annotations.model import Exclusion
from pelagos_pipelines.preparation import ledger, versions
from pelagos_pipelines.steps.prepare import prepare

DROP: dict[str, Any] = {"cleaning": {"unreadableTypes": "Drop"}}


def run(root: Path, task: str = "Classification", report: str = "report", **asked: Any) -> PreparationResult:
    request = {"source": {"volume": {"path": "sea"}}, "task": task} | asked
    prepare(json.dumps(request), str(root / "data"), str(root / "store"), str(root / report))
    return PreparationResult.model_validate_json((root / report / "result.json").read_bytes())


def excluded(result: PreparationResult) -> dict[str, str]:
    content = (Path(result.uri) / versions.EXCLUDED).read_text(encoding="utf-8").splitlines()
    return {entry["path"]: entry["reason"] for entry in map(json.loads, content)}


def by_folders(source: Path) -> str:
    for number in range(8):
        photo(source / ("cod", "eel")[number % 2] / f"{number}.png", seed=number)
    photo(source / "cod" / "small.png", 8, 8)
    return "Classification"


def as_coco(source: Path) -> str:
    boxes: dict[str, list[list[float]]] = {f"{number}.png": [[1, 1, 9, 9]] for number in range(8)}
    for number, name in enumerate(boxes):
        photo(source / "images" / name, seed=number)
    photo(source / "images" / "unlisted.png", seed=50)
    document(source / "annotations.json", coco(boxes))
    return "Detection"


def as_yolo(source: Path) -> str:
    text(source / "data.yaml", "names: [cod]\ntrain: images/train\nval: val.txt\n")
    for number in range(8):
        photo(source / "images" / "train" / f"{number}.png", seed=number)
        text(source / "labels" / "train" / f"{number}.txt", "0 0.5 0.5 0.5 0.5")
    photo(source / "images" / "train" / "unlabelled.png", seed=51)
    photo(source / "images" / "9.png", seed=52)
    text(source / "labels" / "9.txt", "0 0.5 0.5 0.5 0.5")
    text(source / "val.txt", "images/9.png\n")
    photo(source / "runs" / "train" / "results.png", seed=53)
    text(source / "runs" / "detect" / "labels" / "0.txt", "0 0.5 0.5 0.5 0.5")
    return "Detection"


@pytest.mark.parametrize("make", [by_folders, as_coco, as_yolo])
def test_what_is_used_read_and_excluded_adds_up_to_what_lies_in_the_source(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    source = tmp_path / "data" / "sea"
    task = make(source)
    folder = next(path.parent for path in source.rglob("0.png"))
    for name in (".DS_Store", ".cache/a.png", "__MACOSX/b.png", "notes.md", "3.png~"):
        text(folder / name, "")
    os.mkfifo(folder / "pipe")
    (folder / "link.png").symlink_to("0.png")

    result = run(tmp_path, task, **DROP)

    found = excluded(result)
    in_version = {image.path for image in versions.read(result.uri).collection.images}
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if not path.is_dir()}
    read = files - found.keys() - in_version
    assert not found.keys() & in_version
    assert found.keys() <= files
    assert result.files.model_dump(exclude_none=True) == {
        "found": len(files),
        "images": len(in_version),
        "annotations": len(read),
        "excluded": len(found),
    }
    assert read == {
        path for path in files if Path(path).name in {"annotations.json", "data.yaml", "val.txt"} or _is_label(path)
    }
    assert {found[f"{folder.relative_to(source)}/{name}"] for name in (".DS_Store", ".cache/a.png", "3.png~")} == {
        "Hidden"
    }
    assert found[f"{folder.relative_to(source)}/notes.md"] == "NotAnImage"
    assert found[f"{folder.relative_to(source)}/pipe"] == "NotAFile"
    assert sum(one.files for one in result.excluded) == len(found)


def _is_label(path: str) -> bool:
    return path.startswith("labels/")


def test_every_line_says_why_and_a_duplicate_of_what(tmp_path: Path) -> None:
    source = tmp_path / "data" / "sea"
    by_folders(source)
    photo(source / "cod" / "copy.png", seed=0)
    broken = photo(source / "cod" / "broken.png", seed=70)
    broken.write_bytes(broken.read_bytes()[:300])
    text(source / "cod" / "scan.gif", "")

    result = run(tmp_path, **DROP)

    lines = (Path(result.uri) / versions.EXCLUDED).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "cod/broken.png", "reason": "Corrupt"},
        {"path": "cod/copy.png", "reason": "Duplicate", "repeats": "cod/0.png"},
        {"path": "cod/scan.gif", "reason": "UnreadableType"},
        {"path": "cod/small.png", "reason": "TooSmall"},
    ]
    assert [(one.reason, one.files, one.first) for one in result.excluded] == [
        ("Corrupt", 1, ["cod/broken.png"]),
        ("TooSmall", 1, ["cod/small.png"]),
        ("Duplicate", 1, ["cod/copy.png"]),
        ("UnreadableType", 1, ["cod/scan.gif"]),
    ]
    assert (
        "1 images are not JPEG, PNG, TIFF, BMP, WebP or JPEG 2000 by their names or content, and were dropped: cod/scan.gif"
        in result.warnings
    )


def test_an_image_of_another_kind_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    source = tmp_path / "data" / "sea"
    by_folders(source)
    shown = Image.open(photo(source / "cod" / "plain.png", seed=60))
    for kind in ("GIF", "PPM", "TGA"):
        shown.save(source / "cod" / f"{kind}.jpg", kind)

    with pytest.raises(RefusedError, match=r"2 images are not JPEG, PNG, .* by their names or content"):
        run(tmp_path)

    left_out = excluded(run(tmp_path, **DROP))
    assert sorted(path for path, why in left_out.items() if why == "UnreadableType") == [
        f"cod/{kind}.jpg" for kind in ("GIF", "PPM")
    ]


def test_images_of_other_kinds_refuse_the_dataset_by_name_unless_they_are_to_be_dropped(tmp_path: Path) -> None:
    source = tmp_path / "data" / "sea"
    by_folders(source)
    kinds = ("x.pgm", "x.avif", "x.NEF", "x.dcm", "x.tga", "x.svg", "x.exr", "x.heif")
    for name in kinds:
        text(source / "cod" / name, name)
    photo(source / "cod" / "plain.png", seed=60).rename(source / "cod" / "without_suffix")
    photo(source / "cod" / "large.jpg", seed=61).rename(source / "cod" / "x.jpg_large")

    with pytest.raises(RefusedError):
        run(tmp_path)

    failure = Failure.model_validate_json((tmp_path / "report" / "failure.json").read_bytes())
    assert (failure.reason, failure.field) == (Reason.FORMAT_INVALID, "cleaning.unreadableTypes")
    assert "10 images are not JPEG, PNG, TIFF, BMP, WebP or JPEG 2000 by their names or content" in failure.message
    result = run(tmp_path, **DROP)
    assert sorted(path for path, why in excluded(result).items() if why == "UnreadableType") == sorted(
        f"cod/{name}" for name in (*kinds, "without_suffix", "x.jpg_large")
    )
    assert result.quality.found == 19


def test_jpeg_and_png_are_read_under_their_other_suffixes(tmp_path: Path) -> None:
    source = tmp_path / "data" / "sea"
    by_folders(source)
    for number, name in enumerate(("a.jfif", "b.JPE", "c.jif", "d.mpo")):
        photo(source / "eel" / f"{number}.jpg", seed=90 + number).rename(source / "eel" / name)
    photo(source / "eel" / "still.png", seed=99).rename(source / "eel" / "e.apng")
    frames = [Image.new("RGB", (40, 30), (shade, 0, 60)) for shade in (40, 90)]
    frames[0].save(source / "eel" / "moving.png", save_all=True, append_images=frames[1:])
    frames[1].save(source / "eel" / "two.mpo", "MPO", save_all=True, append_images=frames[:1])

    result = run(tmp_path)

    assert excluded(result) == {"cod/small.png": "TooSmall"}
    assert result.images == 15
    assert any("1 PNG files are animated" in warning and "eel/moving.png" in warning for warning in result.warnings)


def test_notes_and_hidden_files_make_no_other_version_but_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "data" / "sea"
    by_folders(source)
    first = run(tmp_path)
    text(source / "README.md", "")
    text(source / "cod" / ".DS_Store", "")

    again = run(tmp_path, report="second")

    assert again.version == first.version
    assert excluded(again) == {"README.md": "NotAnImage", "cod/.DS_Store": "Hidden", "cod/small.png": "TooSmall"}
    assert again.files.found == first.files.found + 2


def test_an_image_more_that_is_left_out_makes_another_version(tmp_path: Path) -> None:
    source = tmp_path / "data" / "sea"
    as_coco(source)
    first = run(tmp_path, "Detection")
    photo(source / "images" / "another.png", seed=77)

    assert run(tmp_path, "Detection", report="second").version != first.version


@pytest.mark.parametrize(
    "content",
    [b"", b'{"path":"x","reason":"Corrupt"}\n', b"{", b"[]\n", None],
    ids=["", "other", "half", "list", "gone"],
)
def test_a_list_that_was_altered_makes_the_version_unreadable(tmp_path: Path, content: bytes | None) -> None:
    by_folders(tmp_path / "data" / "sea")
    result = run(tmp_path)
    file = Path(result.uri) / versions.EXCLUDED
    file.unlink() if content is None else file.write_bytes(content)

    with pytest.raises(RefusedError) as caught:
        versions.read(result.uri)

    assert caught.value.failure.reason is Reason.DATASET_NOT_READABLE
    assert excluded(run(tmp_path)) == {"cod/small.png": "TooSmall"}


def test_a_file_that_nobody_accounts_for_is_an_error_of_ours(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png", seed=1)
    tree = tree_of(tmp_path)

    with pytest.raises(ValueError, match=r"1 images are neither in the version nor excluded: b\.png"):
        ledger.balance(tree, ["a.png"], (), ())
    with pytest.raises(ValueError, match=r"1 files are counted twice: b\.png"):
        ledger.balance(tree, ["a.png", "b.png"], (), [Exclusion("b.png", ExclusionReason.CORRUPT)])


def test_versions_of_before_have_no_list_and_are_read_as_they_are(tmp_path: Path) -> None:
    version = dataset_versions.write(tmp_path / "store", dataset_versions.detection(tmp_path / "source"))
    collection = version.collection

    folder = dataset_versions.before_exclusions(version)

    assert versions.read(folder).collection == collection
