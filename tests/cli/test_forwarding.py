"""A model server inside a cluster is reached through kubectl; every other address is used as it is.

A script replaces kubectl here and fails with its messages; the tests on a real cluster forward a real port.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from pelagos.cli import forwarding
from pelagos.cli.access import Chosen

INSIDE = "detector.bay.svc:9000"
CURRENT = Chosen("/config")


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of kubectl that writes its arguments and process id to files beside itself."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    program = tmp_path / "kubectl"
    program.write_text('#!/bin/sh\necho "$$ $KUBECONFIG $@" >"$(dirname "$0")/called"\n. "$(dirname "$0")/behaviour"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "localhost:8001", "example.svc:9000", "[::1]:9000"])
def test_an_address_outside_of_a_cluster_is_used_as_it_is(kubectl: Path, address: str) -> None:
    with forwarding.reachable(address, CURRENT) as found:
        assert found == address
    assert not (kubectl / "called").exists()


def test_the_port_is_forwarded_for_as_long_as_it_is_needed(kubectl: Path) -> None:
    (kubectl / "behaviour").write_text('echo "Forwarding from 127.0.0.1:34567 -> 9000"\nexec sleep 60\n')

    with forwarding.reachable(INSIDE, Chosen(str(kubectl / "config"), "far")) as found:
        process, config, *arguments = (kubectl / "called").read_text().split()
        assert found == "127.0.0.1:34567"
        assert arguments == ["--context", "far", "--namespace", "bay", "port-forward", "service/detector", ":9000"]
        assert config == str(kubectl / "config")
        assert Path(f"/proc/{process}").exists()

    assert not Path(f"/proc/{process}").exists()


def test_a_refusal_is_told_in_the_words_of_kubectl_with_the_command_to_try(kubectl: Path) -> None:
    (kubectl / "behaviour").write_text('echo "Error from server (Forbidden): pods is forbidden" >&2\nexit 1\n')

    with pytest.raises(forwarding.ForwardingError) as caught, forwarding.reachable(INSIDE, CURRENT):
        pass

    assert "pods is forbidden" in str(caught.value)
    assert str(caught.value).endswith("Try: kubectl --namespace bay port-forward service/detector 9000")


def test_a_kubectl_that_does_not_end_is_killed(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "_GRACE", 0.2)
    (kubectl / "behaviour").write_text(
        "trap '' TERM\necho 'Forwarding from 127.0.0.1:34567 -> 9000'\nwhile true; do sleep 0.1; done\n"
    )
    begun = time.monotonic()

    with forwarding.reachable(INSIDE, CURRENT):
        process = (kubectl / "called").read_text().split()[0]

    assert time.monotonic() - begun < 60
    assert not Path(f"/proc/{process}").exists()
