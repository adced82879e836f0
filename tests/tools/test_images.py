"""Container images start from bases that cannot change, as far as their digests are known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "images"
BY_TAG_ALONE = {"nvcr.io/nvidia/tritonserver:25.07-py3"}
"""Their digests could not be looked up; a build prints the digest that it used."""


@pytest.mark.parametrize("file", sorted(IMAGES.glob("*/Dockerfile")), ids=lambda file: file.parent.name)
def test_a_base_is_pinned_by_its_digest(file: Path) -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert base in BY_TAG_ALONE or re.fullmatch(r"\S+:[\w.-]+@sha256:[0-9a-f]{64}", base)


@pytest.mark.parametrize("file", sorted(IMAGES.glob("*/Dockerfile")), ids=lambda file: file.parent.name)
def test_nothing_begins_from_an_image_that_is_no_build_argument(file: Path) -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?", file.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for _, name in stages}
    assert [base for base, _ in stages if not base.startswith("${") and base not in named and "${" not in base] == []
