"""The folder for Unix sockets: short, closed to others, and owned by this user."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from pelagos.engines.processes import sockets
from pelagos.ports.errors import OutageError


def test_it_is_in_the_home_and_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A relative path, since that of a test's own folder may already be too long.
    monkeypatch.chdir(tmp_path)
    home = Path("home")
    home.mkdir()
    (home / "run").mkdir(mode=0o755)
    found = sockets.folder(home)
    assert found == home / "run"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    sockets.tidy(home)
    assert not found.exists()


def test_where_the_home_is_deep_it_is_elsewhere_and_a_socket_fits(tmp_path: Path) -> None:
    for length in range(60, 120):
        home = Path("/" + "x" * (length - 1))
        found = sockets._place(home)
        assert len(os.fsencode(found / ("0" * 12) / "metrics")) <= 107
        assert (found == home / "run") is (length <= 79)
    deep = tmp_path / ("deep" * 30)
    with socket.socket(socket.AF_UNIX) as listener:
        path = sockets.folder(deep) / ("0" * 15)
        listener.bind(str(path))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.unlink()
    sockets.tidy(deep)
    assert not path.parent.exists()


def test_what_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    place = sockets._place(deep)
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(OutageError, match="is not a folder of this user; remove it"):
            sockets.folder(deep)
    finally:
        place.unlink()


def test_connections_are_counted_by_the_socket_of_the_server(tmp_path: Path) -> None:
    folder = sockets.folder(tmp_path / ("deep" * 30))
    path = folder / "server"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert sockets.connections(path) == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            with listener.accept()[0]:
                assert sockets.connections(path) == 1
        assert sockets.connections(path) == 0
    path.unlink()
    folder.rmdir()
