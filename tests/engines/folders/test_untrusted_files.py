"""Files as strangers leave them on the data volume and in the store: no pass blocks on, quotes, or forever retries them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.folders.volumes import FolderVolumes
from pelagos.engines.storage import reports
from pelagos.ports.errors import RejectedError
from pelagos_contract import beneath

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-root:x:0:0"
NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as another account: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other accounts can reach, which pytest's own is not."""
    ThreadPoolExecutor(1).shutdown()  # loads modules that the other account may not read
    folder = Path(tempfile.mkdtemp(prefix="pelagos-"))
    folder.chmod(0o755)
    (folder / "fish/cod").mkdir(parents=True)
    (folder / "fish/cod/1.png").touch()
    (folder / "result.json").write_text("{}")
    try:
        yield folder
    finally:
        for parent, _, _ in os.walk(folder):
            Path(parent).chmod(0o700)
        shutil.rmtree(folder)


def deepen(folder: Path, depth: int) -> None:
    """Nest folders more deeply than a path can express."""
    current = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=current)
        following = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)


@pytest.mark.parametrize("closed", ["fish", "fish/cod"])
async def test_a_folder_that_may_not_be_read_is_rejected_by_name(public: Path, closed: str) -> None:
    (public / closed).chmod(0)
    with as_nobody(), pytest.raises(RejectedError, match=f"{closed.rpartition('/')[2]}.*operator's account"):
        await FolderVolumes(public).fingerprint("fish")


@pytest.mark.parametrize("name", ["lost+found", ".Trash"])
async def test_what_pipelines_leave_out_needs_no_right(public: Path, name: str) -> None:
    (public / "fish" / name).mkdir(mode=0)
    with as_nobody():
        assert await FolderVolumes(public).fingerprint("fish") is not None


async def test_a_right_to_read_that_is_given_later_is_noticed(public: Path) -> None:
    (public / "fish/cod/1.png").chmod(0)
    with as_nobody():
        before = await FolderVolumes(public).fingerprint("fish")
    (public / "fish/cod/1.png").chmod(0o644)
    with as_nobody():
        assert await FolderVolumes(public).fingerprint("fish") != before


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda words: json.dumps({"canary": words}).encode()))
)
def test_whatever_is_called_a_report_is_an_object_or_rejected(content: bytes) -> None:
    try:
        document = reports.parsed("objects", "result.json", content)
    except RejectedError as error:
        message = str(error)
    else:
        message = ""
        json.dumps(document, allow_nan=False).encode()

    assert "canary" not in message


async def test_circles_of_links_are_noted_and_one_at_the_start_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish/a").symlink_to("b")
    (tmp_path / "fish/b").symlink_to("a")

    found = await FolderVolumes(tmp_path).fingerprint("fish")

    assert found is not None
    assert found.files == 2
    assert await FolderVolumes(tmp_path).fingerprint("fish/a") is None


@pytest.mark.parametrize("path", ["x" * 300, "/".join(["x" * 200] * 30), "fish/1.png/below"])
async def test_a_path_at_which_nothing_can_be_is_nothing(tmp_path: Path, path: str) -> None:
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish/1.png").touch()

    assert await FolderVolumes(tmp_path).fingerprint(path) is None


async def test_folders_without_end_are_rejected_by_name_and_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "store/fish").mkdir(parents=True)
    deepen(tmp_path / "store/fish", 1_200)

    with pytest.raises(RejectedError, match=r"more than 64 deep; move their files up .*'d/d/d"):
        await FolderVolumes(tmp_path / "store").fingerprint("fish")
    await FolderObjects(tmp_path / "store").delete("fish")

    assert list((tmp_path / "store").iterdir()) == []


async def test_pipes_are_noted_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "fish").mkdir()
    os.mkfifo(tmp_path / "fish/1.png")
    os.mkfifo(tmp_path / "result.json")

    found = await FolderVolumes(tmp_path).fingerprint("fish")

    assert found is not None
    assert found.files == 1
    with pytest.raises(RejectedError, match="not a regular file"):
        await FolderObjects(tmp_path).read_json("result.json")


async def test_a_report_that_may_not_be_read_is_rejected(public: Path) -> None:
    (public / "result.json").chmod(0)
    with as_nobody(), pytest.raises(RejectedError, match="operator's account"):
        await FolderObjects(public).read_json("result.json")


@pytest.mark.parametrize("swapped", ["reports/result.json", "reports"])
async def test_a_report_swapped_for_a_link_is_never_read(tmp_path: Path, swapped: str) -> None:
    store, secret = tmp_path / "store", tmp_path / "secret"
    for folder, content in ((store / "reports", "{}"), (secret, f'{{"{CANARY}": 1}}')):
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(content)
    done = threading.Event()
    target, aside = store / swapped, tmp_path / "aside"

    def swap() -> None:
        while not done.is_set():
            target.rename(aside)
            target.symlink_to(secret if swapped == "reports" else secret / "result.json")
            target.unlink()
            aside.rename(target)

    thread = threading.Thread(target=swap)
    thread.start()
    seen, refused = [], []
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            seen.append(await FolderObjects(store).read_json("reports/result.json"))
        except RejectedError as error:
            refused.append(str(error))
    done.set()
    thread.join()

    assert {str(document) for document in seen} <= {"{}", "None"}
    assert refused
    assert not any(CANARY in words for words in refused)


@pytest.mark.parametrize(
    "content",
    [
        CANARY,
        f'{{"a": {CANARY}}}',
        '{"a": ' * 50_000,
        "[" * 50_000 + "]" * 50_000,
        '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "\\ud800"}',
        f'["{CANARY}"]',
        "[" + "0," * 600_000 + "0]",
        b'{"a": "\xff"}',
        b"\x00",
        b"",
    ],
    ids=lambda content: ascii(content[:20]),
)
async def test_what_is_no_report_is_rejected_without_a_word_of_it(tmp_path: Path, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "result.json").write_bytes(raw)

    with pytest.raises(RejectedError, match=r"result\.json") as caught:
        await FolderObjects(tmp_path).read_json("result.json")

    assert "canary" not in str(caught.value)


async def test_a_report_larger_than_any_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    os.truncate(tmp_path / "result.json", 15 * 1024**4)

    with pytest.raises(RejectedError, match=f"larger than {reports.LARGEST_JSON} bytes"):
        await FolderObjects(tmp_path).read_json("result.json")


def test_deleting_follows_no_link_that_is_put_there_meanwhile(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "precious").mkdir(parents=True)
    outside.chmod(0o755)
    store = tmp_path / "store"
    store.mkdir()
    root = os.open(store, os.O_RDONLY)
    for _ in range(200):
        (store / "x/inner").mkdir(parents=True)
        thread = threading.Thread(target=_replace, args=(store / "x/inner", outside))
        thread.start()
        beneath.remove(root, "x")
        thread.join()
        with suppress(OSError):
            (store / "x/inner").unlink()
        beneath.remove(root, "x")
    os.close(root)

    assert (outside / "precious").is_dir()
    assert outside.stat().st_mode & 0o777 == 0o755


def _replace(folder: Path, other: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
        folder.symlink_to(other)
