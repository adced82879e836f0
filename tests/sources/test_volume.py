"""A folder on the data volume: everything below it is read, and nothing leads out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image_sources import photo, text
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.sources import Source, VolumeSource
from pelagos_pipelines.sources import registry, volume


def refusal(path: str, data_root: Path) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        volume.collect(VolumeSource(path=path), data_root)
    return caught.value


def test_all_files_are_listed_by_path_and_hidden_ones_are_excluded_by_name(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "b" / "2.png")
    photo(tmp_path / "data" / "a" / "1.JPG")
    text(tmp_path / "data" / "notes.txt", "")
    photo(tmp_path / "data" / ".cache" / "3.png")
    text(tmp_path / "data" / "a" / ".DS_Store", "")
    photo(tmp_path / "data" / "__MACOSX" / "4.png")

    tree = registry.obtain(Source(volume=VolumeSource(path="data")), str(tmp_path), tmp_path / "scratch")

    assert tree.files == ("a/1.JPG", "b/2.png", "notes.txt")
    assert tree.images == ("a/1.JPG", "b/2.png")
    assert {one.path: one.reason for one in tree.excluded} == dict.fromkeys(
        (".cache/3.png", "__MACOSX/4.png", "a/.DS_Store"), ExclusionReason.HIDDEN
    )


@pytest.mark.parametrize(
    "folder",
    ["$Recycle.Bin", "$RECYCLE.BIN", "@Recycle", "#snapshot", "RECYCLER", "FOUND.000", "__macosx", "LOST.DIR", "venv"],
)
def test_folders_of_tools_are_excluded_however_they_are_spelt(tmp_path: Path, folder: str) -> None:
    photo(tmp_path / "data" / "trash" / "1.jpg")
    photo(tmp_path / "data" / folder / "2.jpg")

    tree = volume.collect(VolumeSource(path="data"), tmp_path)

    assert tree.files == ("trash/1.jpg",)
    assert [(one.path, one.reason) for one in tree.excluded] == [(f"{folder}/2.jpg", ExclusionReason.HIDDEN)]


def test_empty_folders_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "cod" / "1.jpg")
    (tmp_path / "data" / "dab").mkdir()
    (tmp_path / "data" / "perch" / "a").mkdir(parents=True)
    text(tmp_path / "data" / "ray" / ".gitkeep", "")
    (tmp_path / "data" / ".cache" / "b").mkdir(parents=True)

    tree = volume.collect(VolumeSource(path="data"), tmp_path)

    assert tree.warnings == ("3 folders are empty: dab, perch/a, ray",)


@pytest.mark.parametrize(
    "path", ["missing", "../outside", "data/../../outside", "/etc", "data/1.png", "data\0", "x" * 1000]
)
def test_only_folders_below_the_data_root_are_found(tmp_path: Path, path: str) -> None:
    photo(tmp_path / "volume" / "data" / "1.png")
    photo(tmp_path / "outside" / "secret.png")

    refused = refusal(path, tmp_path / "volume")

    assert refused.failure.reason is Reason.SOURCE_NOT_FOUND
    assert refused.failure.field == "source.volume.path"
    assert "is neither a folder nor an archive" in refused.failure.message
    assert str(tmp_path) not in refused.failure.message


def test_a_path_may_go_up_and_down_again(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "1.png")

    assert volume.collect(VolumeSource(path="data/../data/."), tmp_path).files == ("1.png",)


def test_a_link_at_the_root_that_leads_out_is_not_found(tmp_path: Path) -> None:
    photo(tmp_path / "outside" / "secret.png")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "data").symlink_to(tmp_path / "outside")

    assert refusal("data", tmp_path / "volume").failure.reason is Reason.SOURCE_NOT_FOUND


@pytest.mark.parametrize("target", ["../../outside/secret.png", "../../outside", "nothing", "/etc/passwd"])
def test_links_that_lead_out_of_the_source_are_named(tmp_path: Path, target: str) -> None:
    photo(tmp_path / "outside" / "secret.png")
    photo(tmp_path / "volume" / "data" / "1.png")
    (tmp_path / "volume" / "data" / "link.png").symlink_to(target)

    refused = refusal("data", tmp_path / "volume")

    assert refused.failure.reason is Reason.FORMAT_INVALID
    assert "link.png" in refused.failure.message


def test_a_link_to_a_file_of_the_source_is_a_file(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "1.png")
    (tmp_path / "data" / "2.png").symlink_to("1.png")

    assert volume.collect(VolumeSource(path="data"), tmp_path).files == ("1.png", "2.png")


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "1.png")
    (tmp_path / "data" / "again").symlink_to(".")

    assert "again" in refusal("data", tmp_path).failure.message


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "1.png")
    os.mkfifo(tmp_path / "data" / "2.png")

    assert volume.collect(VolumeSource(path="data"), tmp_path).files == ("1.png",)


def test_a_folder_without_images_is_empty(tmp_path: Path) -> None:
    text(tmp_path / "data" / "readme.txt", "soon")

    refused = refusal("data", tmp_path)

    assert refused.failure.reason is Reason.SOURCE_EMPTY
    assert refused.failure.message == (
        "'data' holds 1 files and none of them is an image (.jpg, .png, .tif, .bmp, .webp, .jp2); add images"
    )


def test_at_most_five_links_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "1.png")
    for number in range(8):
        (tmp_path / "data" / f"link{number}.png").symlink_to("/etc/passwd")

    message = refusal("data", tmp_path).failure.message

    assert "link4.png and 3 more" in message
    assert "link5" not in message


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "1.png").rename(os.fsdecode(os.fsencode(tmp_path / "data") + b"/\xff.png"))

    refused = refusal("data", tmp_path)

    assert refused.failure.reason is Reason.FORMAT_INVALID
    assert "udcff.png" in refused.failure.message


def test_a_folder_whose_images_are_all_hidden_says_so(tmp_path: Path) -> None:
    photo(tmp_path / "data" / ".cod" / "1.png")

    message = refusal("data", tmp_path).failure.message

    assert message.startswith(
        "'data' holds 0 files beside 1 that are hidden or in folders of tools and none of them is an"
    )
