"""The guarantees for the operator, in every store of users' data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from pelagos.engines.folders.volumes import FolderVolumes
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.volumes import S3Volumes
from pelagos.ports.errors import RejectedError
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.volumes import Fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from object_storage import ObjectStorage
    from pelagos.ports.volumes import Volumes


class Volume(Protocol):
    """A volume and the ways in which a user changes it."""

    volumes: Volumes

    def write(self, path: str, text: str = "") -> None: ...
    def remove(self, path: str) -> None: ...


class FakeVolume:
    """The shipped fake."""

    def __init__(self) -> None:
        self._fake = VolumesFake()
        self.volumes: Volumes = self._fake

    def write(self, path: str, text: str = "") -> None:
        self._fake.put(path, text)

    def remove(self, path: str) -> None:
        del self._fake.files[path]


class FolderVolume:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.volumes: Volumes = FolderVolumes(root)

    def write(self, path: str, text: str = "") -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def remove(self, path: str) -> None:
        (self._root / path).unlink()


class BucketVolume:
    """A prefix of a bucket."""

    def __init__(self, storage: ObjectStorage, bucket: str) -> None:
        self._storage, self._bucket = storage, bucket
        self.volumes: Volumes = S3Volumes(f"s3://{bucket}/data", Service(storage.url))

    def write(self, path: str, text: str = "") -> None:
        self._storage.put(self._bucket, f"data/{path}", text)

    def remove(self, path: str) -> None:
        self._storage.remove(self._bucket, f"data/{path}")


def make_volume(request: pytest.FixtureRequest, folder: Path) -> Volume:
    if request.param == "s3":
        return BucketVolume(request.getfixturevalue("object_storage"), request.getfixturevalue("bucket"))
    return FakeVolume() if request.param == "fake" else FolderVolume(folder)


@pytest.fixture(params=["fake", "folder", "s3"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Volume:
    made = make_volume(request, tmp_path)
    for number in (1, 2):
        made.write(f"samples/a/{number}.png", "image")
    made.write("other/3.png", "image")
    return made


async def look(volume: Volume, path: str = "samples") -> Fingerprint:
    fingerprint = await volume.volumes.fingerprint(path)
    assert fingerprint is not None
    return fingerprint


async def test_an_absent_path_is_none(volume: Volume) -> None:
    assert await volume.volumes.fingerprint("absent") is None
    assert await volume.volumes.fingerprint("samples/a/1.png/b") is None


async def test_files_below_a_folder_are_counted(volume: Volume) -> None:
    assert (await look(volume)).files == 2
    assert (await look(volume, "samples/a")).files == 2
    assert (await look(volume, "samples/a/1.png")).files == 1
    assert (await look(volume, ".")).files == 3


async def test_the_same_content_has_the_same_digest(volume: Volume) -> None:
    before = await look(volume)
    volume.write("other/4.png")

    assert await look(volume) == before
    assert before.digest.startswith("sha256:")


async def test_adding_removing_and_rewriting_a_file_change_the_digest(volume: Volume) -> None:
    digests = [(await look(volume)).digest]
    volume.write("samples/a/3.png", "image")
    digests.append((await look(volume)).digest)
    volume.write("samples/a/3.png", "another image")
    digests.append((await look(volume)).digest)
    volume.remove("samples/a/1.png")
    digests.append((await look(volume)).digest)

    assert len(set(digests)) == 4


async def test_renaming_a_file_changes_the_digest(volume: Volume) -> None:
    before = await look(volume)
    volume.remove("samples/a/2.png")
    volume.write("samples/a/4.png", "image")

    after = await look(volume)

    assert after.files == before.files
    assert after.digest != before.digest


async def test_a_rewritten_single_file_has_another_digest(volume: Volume) -> None:
    before = await look(volume, "samples/a/1.png")
    volume.write("samples/a/1.png", "another image")

    assert await look(volume, "samples/a/1.png") != before


@pytest.mark.parametrize("path", ["..", "../x", "samples/../../x", "/etc"])
async def test_a_path_out_of_the_volume_is_rejected(volume: Volume, path: str) -> None:
    with pytest.raises(RejectedError, match="inside of the data volume"):
        await volume.volumes.fingerprint(path)
