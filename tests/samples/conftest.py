"""Input: a drawn wheel with the classes and counts of the real one (sample_wheels). Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sample_wheels import make_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole wheel: 105 crops in six classes."""
    return make_wheel(tmp_path_factory.mktemp("wheel") / "planktonclas-0.2.4-py3-none-any.whl")
