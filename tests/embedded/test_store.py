"""A home continues with the control plane that wrote its resources; another one takes over only where it can read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedded.test_binaries import ARCHIVE, MODULES, make_programs, make_release
from pelagos.embedded import store
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(layout: Layout, version: str = "") -> Layout:
    """A home with resources; without a version, one from before Pelagos recorded it."""
    layout.store.mkdir()
    if version:
        layout.store_writer.write_text(version + "\n")
    return layout


def test_a_new_home_takes_the_newest_and_records_it(layout: Layout) -> None:
    make_release("1.20.2")
    make_release(MODULES)
    found = store.require(layout)
    assert (store.writer(layout), found.version) == ("", MODULES)

    store.record(layout, found)
    layout.store.mkdir()  # as etcd creates it
    assert store.writer(layout) == MODULES


def test_a_home_stays_with_what_wrote_it(layout: Layout) -> None:
    make_release("1.20.2")
    make_release(MODULES)
    found = store.require(written(layout, "1.20.2"))
    assert found.version == "1.20.2"
    words = store.kept(layout, found)
    assert f"were written by Kubernetes 1.20.2, which is still used for them; {MODULES} is also installed" in words
    assert f"move {layout.etcd} away" in words


def test_nothing_is_said_where_nothing_newer_is_installed(layout: Layout) -> None:
    make_release(MODULES)
    assert store.kept(written(layout, MODULES), store.require(layout)) == ""


def test_the_next_minor_version_takes_over_and_is_recorded(layout: Layout) -> None:
    make_release(MODULES)
    found = store.require(written(layout, ARCHIVE))
    assert found.version == MODULES
    store.record(layout, found)
    assert store.writer(layout) == MODULES


def test_a_home_that_nothing_installed_can_read_is_not_touched(layout: Layout) -> None:
    make_release(MODULES)
    assert store.choose(written(layout, "1.20.2")) is None
    with pytest.raises(
        StartError, match=r"were written by Kubernetes 1\.20\.2.* install --version 1\.20\.2.*move .* away"
    ):
        store.require(layout)
    assert layout.store_writer.read_text() == "1.20.2\n"


@pytest.mark.parametrize("record", ["", "nonsense", "\x1b[31m" * 1000])
def test_a_home_without_a_record_was_written_by_what_was_there_then(layout: Layout, record: str) -> None:
    make_release(MODULES)
    make_release("1.20.2")
    assert store.require(written(layout, record)).version == "1.20.2"
    make_release("1.30.0")
    assert store.require(layout).version == "1.30.0"


def test_a_home_from_before_the_records_is_recorded_at_its_next_start(layout: Layout) -> None:
    make_release("1.20.2")
    store.record(written(layout), store.require(layout))
    assert layout.store_writer.read_text() == "1.20.2\n"


def test_given_programs_that_cannot_read_the_home_are_refused(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs(tmp_path / "assets", version="1.37.2")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    assert store.choose(layout) is not None
    written(layout, "1.36.2")
    assert store.choose(layout) is not None
    layout.store_writer.write_text("1.20.2")
    with pytest.raises(StartError, match=r"Kubernetes 1\.37\.2 in KUBEBUILDER_ASSETS cannot use them"):
        store.choose(layout)


@pytest.mark.parametrize(
    ("before", "after", "possible"),
    [
        ("1.37.2", "1.37.2", True),
        ("1.37.2", "1.37.1", True),
        ("1.36.2", "1.37.2", True),
        ("1.35.9", "1.37.2", False),
        ("1.37.2", "1.36.2", False),
        ("1.37.2", "2.37.2", False),
        ("1.37.2", "", False),
    ],
)
def test_which_version_can_follow_which(before: str, after: str, possible: bool) -> None:
    assert store.follows(before, after) is possible
