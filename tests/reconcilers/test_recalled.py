"""The fields that passes read back from their own status are all in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pelagos import reconcilers

SOURCES = sorted(Path(reconcilers.__path__[0]).glob("*.py"))
WHOLE = {
    "recalled.py": "the place",
    "driver.py": "what the status was before it is reported anew",
    "loop.py": "whether there is one at all",
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_other_module_looks_into_the_status_of_its_own_resource(source: Path) -> None:
    assert ("resource.status" in source.read_text(encoding="utf-8")) <= (source.name in WHOLE)
