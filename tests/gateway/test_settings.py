"""Contradictory settings are refused with a message, before anything listens."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from pelagos_gateway.settings import Settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"open": True, "address": "0.0.0.0"}, "only admitted on loopback. Listen on 127.0.0.1"),
        ({"oidc_issuer": "https://aai.example"}, "PELAGOS_GATEWAY_OIDC_AUDIENCE is empty"),
        ({"oidc_issuer": "aai.example", "oidc_audience": "x"}, "oidc_issuer"),
        ({"access": "Everybody"}, "'Nobody', 'Authenticated' or 'Entitled'"),
        ({"hosts": "models.example; rm"}, "hosts"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="validation error") as caught:
        Settings(**given)
    assert words in str(caught.value)


def test_hosts_are_checked_where_a_browser_could_be_led_to() -> None:
    assert Settings().allowed_hosts == ("127.0.0.1", "localhost", "[::1]")
    assert Settings(hosts="models.example").allowed_hosts[-1] == "models.example"
    assert Settings(address="0.0.0.0").allowed_hosts == ()
    assert "models.example" in Settings(address="0.0.0.0", hosts="models.example").allowed_hosts


def test_the_program_says_what_is_missing_and_ends() -> None:
    command = [sys.executable, "-m", "pelagos_gateway"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PELAGOS_", "KUBERNETES_"))}
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "PELAGOS_KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr
