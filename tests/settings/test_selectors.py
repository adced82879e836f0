"""A label selector that the API server would refuse is refused when the operator starts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pelagos.settings import Settings


@pytest.mark.parametrize(
    "selector",
    [
        "",
        "pelagos.dev/shard=north",
        "share==north,tier!=test",
        "share in (north, south), !paused",
        "shard notin (north),tier",
        "share=",
    ],
)
def test_what_kubectl_takes_is_taken(monkeypatch: pytest.MonkeyPatch, selector: str) -> None:
    monkeypatch.setenv("PELAGOS_WATCH_SELECTOR", selector)
    assert Settings().watch_selector == selector


@pytest.mark.parametrize("selector", ["share=(north)", "share in north", "=north", "shard=north,,tier", "share > 3"])
def test_what_is_no_selector_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, selector: str) -> None:
    monkeypatch.setenv("PELAGOS_WATCH_SELECTOR", selector)
    with pytest.raises(ValidationError, match="watch_selector"):
        Settings()
