"""The gateway with a real volume that is full: it keeps serving, reports the problem once, and recovers when there is space."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from gateway.sites import Site, free_ports, running, until, until_true
from pelagos_gateway import __main__ as program
from pelagos_gateway import app
from pelagos_gateway.metrics import METRICS
from small_volumes import fill, small

__all__ = ["small"]

READY = "/reef/detector/v2/health/ready"
OTHER = {"http": "http://127.0.0.1:4000", "grpc": "127.0.0.1:5000"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_AGAIN_SECONDS", 0.2)


def complaints(log: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in log.records if entry.levelname == "ERROR"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_stale() -> bool:
    return METRICS.registry.get_sample_value("pelagos_gateway_stale", {"kind": "configuration"}) == 1


async def answers(site: Site, path: str) -> bool:
    try:
        return (await site.ask("GET", path)).status == 200
    except OSError:
        return False


async def test_what_was_served_is_served_on_and_new_services_when_there_is_space(
    environments: Path, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = small / "envoy"
    async with running(environments, open=True, folder=folder) as site:
        await site.serve("reef", "detector")
        before = contents(folder)
        fill(small)
        await site.api.put("modelservices", "reef", "other", status={"endpoints": OTHER})
        await until(is_stale)
        assert contents(folder) == before
        assert await answers(site, READY)
        # After several attempts, it has reported the problem only once.
        for name in ("another", "one-more"):
            await site.api.put("modelservices", "reef", name, status={"endpoints": OTHER})
        await until(lambda: len(site.gateway._judge.table.services) == 4)
        (said,) = complaints(caplog)
        assert said.startswith(
            "Envoy's configuration could not be written, and it keeps the previous one: no space is left"
        )
        assert f"on the volume {small} to write {folder}/" in said
        assert "\n" not in said
        # An Envoy that is killed in the meantime starts with the existing files.
        envoy = site.gateway.envoy
        assert envoy is not None
        assert envoy.pid is not None
        os.kill(envoy.pid, signal.SIGKILL)
        await until_true(lambda: answers(site, READY))
        assert contents(folder) == before
        (small / "what others keep there").unlink()
        await until(lambda: not is_stale())
        await until_true(lambda: site.knows("reef.one-more-grpc"))
        assert all(json.loads(content) for content in contents(folder).values())
        assert await answers(site, READY)


async def test_a_gateway_that_starts_on_a_full_disk_serves_when_there_is_space(
    environments: Path, small: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = small / "envoy"
    folder.mkdir()
    fill(small)
    async with running(environments, waits=False, open=True, folder=folder) as site:
        await until(is_stale)
        assert [name for name, content in contents(folder).items() if content] == []
        (small / "what others keep there").unlink()
        await until_true(site.gateway._files.is_ready)
        await site.serve("reef", "detector")
        assert await answers(site, READY)
    assert len(complaints(caplog)) == 1


def test_a_gateway_without_a_place_for_its_sockets_says_so_in_one_line(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "me", "user": {"token": "x"}}],
            }
        )
    )
    for number in range(60):
        try:
            (small / f"{number}").touch()
        except OSError:
            break
    http, rpc, metrics = free_ports(3)
    given = {
        "FOLDER": small / "envoy",
        "SOCKETS": small / "run",
        "HTTP_PORT": http,
        "GRPC_PORT": rpc,
        "METRICS_PORT": metrics,
    }
    for name, value in given.items():
        monkeypatch.setenv(f"PELAGOS_GATEWAY_{name}", str(value))
    monkeypatch.setenv("PELAGOS_KUBECONFIG", str(kubeconfig))
    assert program.main() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"The gateway cannot run: [Errno 28] No space left on device: '{small / 'run'}'"
