"""The hub as a program: wrong settings, idle connections, an API server that does not exist."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from hub_sites import Site
from pelagos.embedded import addresses
from pelagos_hub.connections import Impatient

SOURCES = Path(__file__).parents[2]


def started(folder: Path, **settings: str) -> subprocess.Popen[str]:
    """Start the hub with an API server's address where nobody answers."""
    kubeconfig = folder / "kubeconfig"
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "sea", "user": "me"}}],
        "clusters": [{"name": "sea", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": {"token": "CANARY"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(content), encoding="utf-8")
    sources = os.pathsep.join(str(SOURCES / name) for name in ("hub", "operator", "pipelines"))
    given = {"PYTHONPATH": sources, "PELAGOS_KUBECONFIG": str(kubeconfig)}
    given |= {f"PELAGOS_HUB_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "pelagos_hub"]
    return subprocess.Popen(command, env={**os.environ, **given}, cwd=folder, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "https://example.org/hub"}, "without a path"),
        ({"kubeconfig": "ignored", "oidc_issuer": "https://a.example", "oidc_client_id": "x",
          "oidc_client_secret_file": "/no/such/file"}, "/no/such/file"),
    ],
    ids=["address", "secret"],
)  # fmt: skip
def test_settings_that_cannot_be_meant_end_it_with_words(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    process = started(tmp_path, **settings)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "The hub cannot start" in told
    assert words in told
    assert "Traceback" not in told


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A hub whose API server does not answer, with its address and that of its metrics."""
    ports = addresses.choose(tmp_path, ("hub", "metrics"), {})
    url = f"http://127.0.0.1:{ports['hub']}"
    process = started(tmp_path, url=url, port=str(ports["hub"]), metrics_port=str(ports["metrics"]))
    yield process, url, f"http://127.0.0.1:{ports['metrics']}"
    process.kill()
    process.communicate()


def fetched(address: str) -> tuple[int, str]:
    """Wait until somebody listens at the address; returns status and body."""
    while True:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            time.sleep(0.05)


@pytest.mark.timeout(90)
def test_without_an_api_server_it_serves_is_not_ready_and_ends_when_it_is_told(
    alone: tuple[subprocess.Popen[str], str, str],
) -> None:
    process, url, metrics = alone

    status, page = fetched(f"{url}/")
    assert status == 200
    assert "has not answered yet" in page
    status, told = fetched(f"{metrics}/readyz")
    assert status == 503
    assert "127.0.0.1:9" in told
    assert fetched(f"{metrics}/healthz") == (200, "ok\n")
    assert 'pelagos_hub_cluster_silence_seconds{kind="Trial"} -1.0' in fetched(f"{metrics}/metrics")[1]
    assert fetched(f"{url}/metrics")[0] == 404

    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "CANARY" not in log


async def test_a_connection_on_which_nobody_asks_anything_is_ended() -> None:
    class Hasty(Impatient):
        # Longer than a busy machine lets pass between a connection and the request that follows at once.
        seconds = 0.3

    config = uvicorn.Config(Site().app, port=0, http=Hasty, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        silent, told = await asyncio.open_connection("127.0.0.1", port)
        assert await silent.read() == b""
        told.close()
        slow, told = await asyncio.open_connection("127.0.0.1", port)
        told.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8088\r\n")
        assert await slow.read() == b""
        told.close()
        asked, told = await asyncio.open_connection("127.0.0.1", port)
        told.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: close\r\n\r\n")
        assert (await asked.read()).startswith(b"HTTP/1.1 200 ")
        told.close()
        # A client that has asked once, and then sends half of a request head.
        second, told = await asyncio.open_connection("127.0.0.1", port)
        told.write(b"GET /robots.txt HTTP/1.1\r\nHost: 127.0.0.1:8088\r\n\r\n")
        answered = await second.readuntil(b"sitemap.xml\n")
        told.write(b"GET / HTTP/1.1\r\nX")
        assert (answered.startswith(b"HTTP/1.1 200 "), await second.read()) == (True, b"")
        told.close()
    server.should_exit = True
    await running


async def test_a_connection_on_which_nobody_takes_the_answer_is_ended() -> None:
    class Hasty(Impatient):
        stalled = 0.05

    ended = asyncio.Event()

    async def large(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
        ended.set()

    config = uvicorn.Config(large, port=0, http=Hasty, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        _, told = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        told.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        # Output for a closed connection is dropped, so that the application ends.
        await ended.wait()
        assert not server.server_state.connections
        told.transport.abort()
    server.should_exit = True
    await running
