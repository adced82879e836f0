"""Extension modules are loaded only when they are named; one that cannot be used says why, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from pelagos_contract import extensions, sources
from pelagos_contract.base import Strict
from pelagos_contract.extensions import ExtensionError, Plane
from pelagos_contract.sources import SourceDescription

Written = Callable[[str, str], None]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Modules that are installed for the duration of the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(extensions, "_loaded", set())
    names: list[str] = []

    def write(name: str, text: str) -> None:
        names.append(name)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_what_is_installed_and_not_named_is_not_loaded(written: Written) -> None:
    written("lurking", "def register(): ...")

    extensions.load("", Plane.CONTROL)

    assert "lurking" not in sys.modules


def test_a_module_registers_once_what_its_plane_needs(written: Written) -> None:
    written(
        "acme",
        "called = []\n"
        "def register(): called.append('both')\n"
        "def register_control_plane(): called.append('control')\n"
        "def register_data_plane(): called.append('data')\n",
    )

    extensions.load("acme", Plane.DATA)
    extensions.load("acme", Plane.DATA)

    assert sys.modules["acme"].called == ["both", "data"]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("VALUE = 1", r"names 'acme', which has no function register\(\)"),
        ("def register(): raise KeyError('chalk')", "names 'acme', which could not register: KeyError: 'chalk'"),
        ("import chalk_of_acme", "has no module 'chalk_of_acme': install the same package there that the operator has"),
    ],
)
def test_one_that_cannot_be_used_is_refused_with_the_reason(written: Written, module: str, words: str) -> None:
    written("acme", module)

    with pytest.raises(ExtensionError, match=words):
        extensions.load("acme", Plane.CONTROL)


@pytest.mark.parametrize("named", ["acme;rm", "acme,,other", "../acme", "acme other", ",acme", "1acme"])
def test_what_is_no_list_of_modules_is_refused_before_anything_is_loaded(named: str) -> None:
    with pytest.raises(ExtensionError, match="names of Python modules, separated by commas"):
        extensions.load(named, Plane.CONTROL)


class Pinned(Strict):
    record: Annotated[str, Field(description="Number of the record.")]


class Bare(Strict):
    record: str


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (SourceDescription("volume", Pinned, "A place."), "a source 'volume' already exists"),
        (SourceDescription("zenodo", Pinned, ""), "the source 'zenodo' has no description; users see it"),
        (SourceDescription("zenodo", Bare, "A place."), "no description of 'record'"),
        (SourceDescription("zenodo", Pinned, "A place.", path="file"), "has no field 'file', which is to be its path"),
    ],
)
def test_a_source_that_cannot_be_in_a_spec_is_refused_and_leaves_nothing(
    described: SourceDescription, words: str
) -> None:
    before = sources.SOURCES.names

    with pytest.raises(ValueError, match=words):
        sources.register(described)

    assert sources.SOURCES.names == before
