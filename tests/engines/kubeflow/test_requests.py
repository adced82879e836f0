"""Failures between the operator and the server are outages or refusals, with a message that names the hint."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from kfp_fake_server.by_hand import ByHand
from kfp_fake_server.server import FakeServer
from kubeflow_worlds import NAME, Cluster, make_request
from pelagos.engines.kubeflow import rest as kubeflow_rest
from pelagos.engines.kubeflow.rest import AbsentError, KubeflowRest
from pelagos.ports.errors import OutageError, RejectedError


async def test_a_token_is_read_anew_when_it_was_renewed(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    cluster.server.faults.tokens = ["first"]
    engine = cluster.new_engine(token_file=token)
    await engine.submit(make_request())

    cluster.server.faults.tokens = ["second"]
    token.write_text("second\n")

    assert await engine.find(NAME) is not None


async def test_a_token_that_expires_in_the_middle_is_tried_once_more(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    cluster.server.faults.tokens = ["first"]
    cluster.server.faults.requests_until_expiry = 2
    engine = cluster.new_engine(token_file=token)

    with pytest.raises(OutageError, match=r"401.*Check that the token in .*token is renewed"):
        await engine.submit(make_request())

    refused = len(cluster.server.requests)
    with pytest.raises(OutageError, match="401"):
        await engine.submit(make_request())
    assert len(cluster.server.requests) == refused + 2

    cluster.server.faults.tokens = ["second"]
    token.write_text("second")
    await engine.submit(make_request())
    assert len(cluster.runs()) == 1


async def test_without_a_token_the_hint_is_a_setting(cluster: Cluster) -> None:
    cluster.server.faults.tokens = ["some"]

    with pytest.raises(OutageError, match="PELAGOS_KUBEFLOW_TOKEN_FILE"):
        await cluster.engine.find(NAME)


async def test_a_token_file_that_is_not_there_is_an_outage(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(OutageError, match="absent"):
        await cluster.new_engine(token_file=tmp_path / "absent").find(NAME)


async def test_tokens_are_in_no_message(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-canary")
    cluster.server.faults.tokens = ["other"]

    with pytest.raises(OutageError) as caught:
        await cluster.new_engine(token_file=token).find(NAME)

    assert "secret-canary" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
async def test_a_server_that_cannot_now_is_an_outage_and_does_no_harm(cluster: Cluster, status: int) -> None:
    await cluster.engine.submit(make_request())
    cluster.server.faults.errors = [status]

    with pytest.raises(OutageError, match=f"HTTP {status}"):
        await cluster.engine.find(NAME)

    assert await cluster.engine.find(NAME) is not None


async def test_a_server_that_asks_to_be_left_alone_is_left_alone(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    cluster.server.faults.errors, cluster.server.faults.retry_after = [503], 1
    with pytest.raises(OutageError, match="503"):
        await cluster.engine.find(NAME)
    asked = len(cluster.server.requests)

    with pytest.raises(OutageError, match="asked for a pause"):
        await cluster.engine.find(NAME)
    assert len(cluster.server.requests) == asked

    await asyncio.sleep(1.05)
    assert await cluster.engine.find(NAME) is not None


async def test_a_server_cannot_ask_to_be_left_alone_for_ever(cluster: Cluster) -> None:
    rest = KubeflowRest(cluster.server.url)
    cluster.server.faults.errors, cluster.server.faults.retry_after = [503], 999_999
    with pytest.raises(OutageError, match="503"):
        await rest.is_healthy()

    assert rest._held_until <= time.monotonic() + kubeflow_rest.LONGEST_HOLD


@pytest.mark.parametrize("fault", ["login_page", "redirect", "garbage"])
async def test_what_is_no_answer_of_the_server_is_not_taken_for_an_empty_one(cluster: Cluster, fault: str) -> None:
    await cluster.engine.submit(make_request())
    setattr(cluster.server.faults, fault, True)
    engine = cluster.new_engine()

    with pytest.raises(OutageError, match="login page"):
        await engine.submit(make_request())

    setattr(cluster.server.faults, fault, False)
    await engine.submit(make_request())
    assert len(cluster.runs()) == 1


async def test_a_server_that_does_not_answer_is_an_outage_in_time(cluster: Cluster) -> None:
    cluster.server.faults.seconds = 5.0
    rest = KubeflowRest(cluster.server.url, timeout=0.2)

    begun = time.monotonic()
    with pytest.raises(OutageError):
        await rest.is_healthy()

    assert time.monotonic() - begun < cluster.server.faults.seconds


async def test_an_answer_that_drips_is_an_outage_in_time() -> None:
    closed = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()
            closed.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        rest = KubeflowRest(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.5)

        begun = time.monotonic()
        with pytest.raises(OutageError, match="did not end"):
            await rest.is_healthy()

        assert time.monotonic() - begun < 30
        await asyncio.wait_for(closed.wait(), 30)


async def test_loading_the_client_is_no_part_of_the_time_that_the_server_is_given(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = KubeflowRest(cluster.server.url, timeout=2.0)
    connect = rest._connect

    def slowly() -> None:
        time.sleep(2.2)
        connect()

    monkeypatch.setattr(rest, "_connect", slowly)

    assert await rest.is_healthy() == {"multi_user": False, "pipeline_store": "database"}


async def test_no_server_at_all_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(OutageError, match=f"127.0.0.1:{port}.*refused"):
        await KubeflowRest(f"http://127.0.0.1:{port}").is_healthy()


async def test_a_server_that_does_not_speak_tls_is_an_outage(cluster: Cluster) -> None:
    with pytest.raises(OutageError):
        await KubeflowRest(cluster.server.url.replace("http://", "https://")).is_healthy()


async def test_a_refusal_is_told_in_the_servers_words(cluster: Cluster) -> None:
    with pytest.raises(RejectedError, match=r"HTTP 400 .*parameters \['colour'\] are not inputs of the pipeline"):
        await cluster.engine.submit(make_request(parameters={"colour": "blue"}))


async def test_what_the_server_does_not_know_is_absent(cluster: Cluster) -> None:
    with pytest.raises(AbsentError, match="404"):
        await KubeflowRest(cluster.server.url).get_run("3c9a8f4e-0000-4000-8000-00000000dead")


async def test_many_looks_at_once_use_few_connections(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    cluster.server.faults.seconds = 0.05

    begun = time.monotonic()
    await asyncio.gather(*(cluster.engine.find(NAME) for _ in range(40)))

    waves = 40 / kubeflow_rest.CONCURRENCY
    assert time.monotonic() - begun >= 0.05 * waves


async def test_a_certificate_authority_of_ones_own_is_trusted(tmp_path: Path) -> None:
    key, certificate = _make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = FakeServer(ByHand())
    url = (await server.start(tls=context)).replace("127.0.0.1", "localhost")

    assert await KubeflowRest(url, ca_file=certificate).is_healthy() == {
        "multi_user": False,
        "pipeline_store": "database",
    }
    with pytest.raises(OutageError, match="certificate verify failed"):
        await KubeflowRest(url).is_healthy()
    await server.stop()


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate
