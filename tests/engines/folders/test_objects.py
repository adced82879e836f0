"""Objects in a folder: links do not lead out of it, and objects that pipelines protected can be deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pelagos.engines.folders.objects import FolderObjects
from pelagos.ports.errors import OutageError, RejectedError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "objects").mkdir()
    return tmp_path / "objects"


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def test_a_link_out_of_the_store_is_neither_read_nor_followed_when_deleting(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/result.json").write_text("{}")
    (root / "reports").symlink_to(tmp_path / "outside")
    objects = FolderObjects(root)

    with pytest.raises(RejectedError, match="out of the store"):
        await objects.read_json("reports/result.json")
    with pytest.raises(RejectedError, match="out of the store"):
        await objects.delete("reports/result.json")
    await objects.delete("reports")

    assert not (root / "reports").is_symlink()
    assert (tmp_path / "outside/result.json").exists()


async def test_a_link_is_neither_listed_through_nor_written_through(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "records").symlink_to(tmp_path / "outside")
    (root / "file").write_text("{}")
    objects = FolderObjects(root)

    with pytest.raises(RejectedError, match="out of the store"):
        await objects.names("records")
    with pytest.raises(RejectedError, match="out of the store"):
        await objects.write_json("records/a.json", {})
    with pytest.raises(RejectedError, match="there is a file where a folder should be"):
        await objects.write_json("file/a.json", {})

    assert names(tmp_path / "outside") == []


async def test_a_document_that_cannot_be_written_leaves_nothing_behind(root: Path) -> None:
    (root / "records/a.json").mkdir(parents=True)

    with pytest.raises(OutageError):
        await FolderObjects(root).write_json("records/a.json", {"images": 3})

    assert names(root / "records") == ["a.json"]


async def test_deleting_a_folder_keeps_what_links_in_it_name(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/image.png").touch()
    (root / "store").mkdir()
    (root / "store/link").symlink_to(tmp_path / "outside")

    await FolderObjects(root).delete("store")

    assert names(root) == []
    assert (tmp_path / "outside/image.png").exists()


async def test_write_protected_folders_are_deleted(root: Path) -> None:
    (root / "store/versions").mkdir(parents=True)
    (root / "store/versions/manifest.json").touch(mode=0o400)
    (root / "store/versions").chmod(0o500)

    await FolderObjects(root).delete("store")

    assert names(root) == []


async def test_a_deletion_that_was_cut_short_is_finished_by_the_next(root: Path) -> None:
    (root / ".deleted-1-store/versions").mkdir(parents=True)

    await FolderObjects(root).delete("another")

    assert names(root) == []


async def test_a_root_that_is_itself_a_link_is_used_as_it_is_named(root: Path, tmp_path: Path) -> None:
    (root / "result.json").write_text("{}")
    (tmp_path / "link").symlink_to(root)
    objects = FolderObjects(tmp_path / "link")

    assert objects.uri("result.json") == str(tmp_path / "link/result.json")
    assert await objects.read_json("result.json") == {}
