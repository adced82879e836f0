"""The guides for contributors show the modules that tests run, and name existing files."""

from __future__ import annotations

import re

import pytest

from generators import examples

GUIDES = {name: (examples.ROOT / name).read_text(encoding="utf-8") for name in examples.pages()}
PLACES = ("", "pipelines", "pipelines/pelagos_pipelines", "pipelines/pelagos_pipelines/annotations", "operator/pelagos")


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_shows_code_as_it_is(name: str) -> None:
    assert GUIDES[name] == examples.pages()[name], "run `make generate`"
    assert "```python\n" in GUIDES[name]


@pytest.mark.parametrize("name", GUIDES)
def test_files_that_a_guide_names_are_there(name: str) -> None:
    prose = re.sub(r"```.*?```", "", GUIDES[name], flags=re.DOTALL)
    named = re.findall(r"`((?:[\w.]+/)+(?:\w+\.(?:py|yaml))?)`", prose)
    named = [path for path in named if "NAME" not in path and "SYSTEM" not in path]

    assert named
    assert [path for path in named if not any((examples.ROOT / at / path).exists() for at in PLACES)] == []
