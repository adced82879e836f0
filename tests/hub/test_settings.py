"""Contradictory settings end the hub before it listens, with a message."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pelagos_hub.settings import Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "models.example.org"}, "is not an address"),
        ({"url": "https://example.org/hub"}, "without a path"),
        ({"oidc_issuer": "https://login.example.org"}, "go together"),
        ({"oidc_client_id": "hub"}, "go together"),
        ({"oidc_issuer": "http://login.example.org", "oidc_client_id": "hub"}, "without https"),
        ({"trial_duration": "2h"}, "trial_duration"),
        ({"attested_entitlements": "x " * 17}, "17 entitlements; allowed: 16"),
        ({"sessions": 1}, "greater than or equal to 10"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(**settings)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://models.example.org", "https://models.example.org"),
        ("https://models.example.org:443/", "https://models.example.org"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8088", "http://[::1]:8088"),
        ("https://MODELS.example.org:8443", "https://models.example.org:8443"),
    ],
)
def test_the_origin_is_as_browsers_write_it(url: str, origin: str) -> None:
    assert Settings(url=url).origin == origin
