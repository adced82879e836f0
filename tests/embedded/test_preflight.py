"""What keeps Pelagos from starting is said with the next step."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pelagos.embedded import addresses, preflight
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"file/home cannot be used: Not a directory.*Set PELAGOS_HOME"):
        preflight.check_home(Layout.of(tmp_path / "file" / "home"))


def test_a_home_that_nobody_may_write_is_named() -> None:
    with pytest.raises(StartError, match=r"The folder /proc/pelagos cannot be used: .*Set PELAGOS_HOME"):
        preflight.check_home(Layout.of(Path("/proc/pelagos")))


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
