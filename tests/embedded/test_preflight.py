"""Every obstacle to starting Pelagos is reported with the next step."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pelagos.cli import installed
from pelagos.embedded import addresses, preflight
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos_contract import disk


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"file/home cannot be used: Not a directory.*Set PELAGOS_HOME"):
        preflight.check_home(Layout.of(tmp_path / "file" / "home"))


def test_a_home_that_nobody_may_write_is_named() -> None:
    with pytest.raises(StartError, match=r"The folder /proc/pelagos cannot be used: .*Set PELAGOS_HOME"):
        preflight.check_home(Layout.of(Path("/proc/pelagos")))


def test_a_home_that_was_open_to_others_is_closed_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    for mode in (0o755, 0o777, 0o711, 0o700):
        home = tmp_path / f"home-{mode:o}"
        home.mkdir()
        home.chmod(mode)
        (home / "kept").write_text("kept")
        preflight.check_home(Layout.of(home))
        assert home.stat().st_mode & 0o7777 == 0o700
        assert (home / "kept").read_text() == "kept"


def test_the_folders_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        preflight.check_home(Layout.of(tmp_path / "home"))
        disk.write_atomically(tmp_path / "home" / "state.json", "{}", mode=disk.PRIVATE)
    finally:
        os.umask(before)
    found = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
    assert len(found) > 5
    assert [path for path in found if path.stat().st_mode & 0o077] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="no root")
def test_a_home_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    os.chown(home, 12345, 12345)
    with pytest.raises(StartError, match=r"home cannot be used: it belongs to somebody else"):
        preflight.check_home(Layout.of(home))
    assert home.stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="no root")
def test_a_link_that_somebody_else_has_made_leads_to_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for home in (tmp_path / "link", tmp_path / "link" / "home"):
        monkeypatch.setenv("PELAGOS_HOME", str(home))
        assert installed.settings().home == Path(os.path.realpath(home))
        os.lchown(tmp_path / "link", 12345, 12345)
        with pytest.raises(StartError, match=r"the link .*/link, which belongs to another user.*Set PELAGOS_HOME"):
            installed.settings()
        os.lchown(tmp_path / "link", 0, 0)


def test_a_full_disk_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "NEEDED_BYTES", 10**18)
    with pytest.raises(StartError, match=r"Only \d+ MB are free .* on another disk"):
        preflight.check_home(layout)


def test_missing_environments_are_named(tmp_path: Path) -> None:
    python = tmp_path / "pipelines" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    python.chmod(0o755)
    with pytest.raises(StartError, match=r"missing or broken in .*: tracking, triton\. Run `make install`"):
        preflight.check_environments(tmp_path)


def test_ports_are_kept_while_they_are_free(tmp_path: Path) -> None:
    first = addresses.choose(tmp_path, ["a", "b"], {})
    assert addresses.choose(tmp_path, ["a", "b"], first) == first
    assert len(set(first.values())) == 2
    with socket.socket() as other:
        other.bind((addresses.HOST, first["a"]))
        other.listen()
        second = addresses.choose(tmp_path, ["a", "b"], first)
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]


@pytest.mark.parametrize("nonsense", [0, -1, 70000])
def test_nonsense_in_kept_ports_is_ignored(tmp_path: Path, nonsense: int) -> None:
    assert 1024 < addresses.choose(tmp_path, ["a"], {"a": nonsense})["a"] < 65536
