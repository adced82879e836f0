"""Programs that a few tests on a real cluster need are built while the others run; missing requirements are reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.harness import later, machine


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, on a machine that cannot download modules."""
    for name in ("XDG_CACHE_HOME", "GOMODCACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("GOPROXY", "off")
    machine.built_in.cache_clear()
    yield tmp_path / "XDG_CACHE_HOME"
    machine.built_in.cache_clear()


def test_what_is_missing_for_a_program_is_said_where_it_is_needed(cache: Path, tmp_path: Path) -> None:
    building = later.Later(tmp_path / "log")
    building.begin({"kserve"})

    with pytest.raises(AssertionError, match=r"(?s)kserve is not there; build it: .*build\.sh .*/kserve manager\n.+"):
        building.program("kserve")
    assert not list(cache.rglob("manager"))


def test_what_nobody_chose_is_not_built(cache: Path, tmp_path: Path) -> None:
    building = later.Later(tmp_path / "log")
    building.begin(set())

    with pytest.raises(AssertionError, match="kserve is not there"):
        building.program("kserve")
    assert not (tmp_path / "log").exists()
    assert not cache.exists()


def test_what_is_there_already_is_not_built_again(cache: Path, tmp_path: Path) -> None:
    folder = machine.built_in(machine.ROOT / "tools/upstream/kserve")
    folder.mkdir(parents=True)
    (folder / "manager").touch(mode=0o755)
    building = later.Later(tmp_path / "log")
    building.begin({"kserve"})

    assert building.program("kserve") == folder / "manager"
    assert not (tmp_path / "log").exists()


def test_a_build_that_is_not_done_ends_with_the_tests(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "build.sh"
    slow.write_text('#!/bin/sh\n[ "$1" = --where ] && exec echo "$XDG_CACHE_HOME/kserve"\nexec sleep 600\n')
    slow.chmod(0o755)
    monkeypatch.setattr(machine, "BUILD", slow)
    building = later.Later(tmp_path / "log")
    building.begin({"kserve"})
    building.stop()

    with pytest.raises(AssertionError, match="kserve is not there"):
        building.program("kserve")
