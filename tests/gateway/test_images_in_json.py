"""Images in base64 within JSON, which the servers behind do not accept themselves."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest
from tritonclient import utils

from gateway.sites import Site, until
from pelagos_gateway import converting
from pelagos_gateway.converting import RefusedError
from pelagos_gateway.table import Place

INFER = "/reef/detector/v2/models/detector/infer"


def request(*images: bytes, **fields: Any) -> dict[str, Any]:
    data = [base64.b64encode(image).decode() for image in images]
    return {"inputs": [{"name": "image", "shape": [len(data), 1], "datatype": "BYTES", "data": data, **fields}]}


def converted(body: Any) -> tuple[dict[str, Any], bytes]:
    content, length = converting.convert(json.dumps(body).encode())
    return json.loads(content[:length]), content[length:]


def test_images_become_what_clients_with_binary_data_send() -> None:
    images = [b"\xff\xd8first", b"", b"second" * 1000]
    header, tensor = converted(request(*images) | {"id": "7", "parameters": {"confidence": 0.5}})
    assert utils.deserialize_bytes_tensor(tensor).tolist() == images
    assert header == {
        "id": "7",
        "parameters": {"confidence": 0.5},
        "inputs": [
            {
                "name": "image",
                "shape": [3, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(tensor)},
            }
        ],
    }


def test_images_may_lie_in_the_shape_that_is_stated() -> None:
    body = request(parameters={"content_type": "base64"})
    body["inputs"][0] |= {"data": [["eA=="], ["eQ=="]], "shape": [2, 1]}
    header, tensor = converted(body)
    assert tensor == struct.pack("<I", 1) + b"x" + struct.pack("<I", 1) + b"y"
    assert header["inputs"][0]["parameters"] == {"binary_data_size": 10}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("no JSON", "the body is not readable JSON"),
        ("[" * 40_000, "the body is not readable JSON"),
        ('{"inputs": [{"shape": NaN}]}', "NaN is not a number in JSON"),
        ("[]", 'must be an object with a list "inputs"'),
        ("{}", 'must be an object with a list "inputs"'),
        ('{"inputs": []}', "inputs has 0 elements; 1 to 16 are allowed"),
        (json.dumps({"inputs": [{}] * 17}), "inputs has 17 elements"),
        (json.dumps(request(data="eA==")), "inputs[0].data must be a list"),
        (json.dumps(request(data=[1])), "inputs[0].data holds int; only texts are allowed"),
        (json.dumps(request(data=["?"])), "inputs[0].data is not base64"),
        (json.dumps(request(data=["eA==\n"])), "inputs[0].data is not base64"),
        (json.dumps(request(data=[[["eA=="]]])), "inputs[0].data holds list"),
        (json.dumps(request(data=[""] * 1025)), "inputs[0].data has 1025 elements; at most 1024"),
        (json.dumps(request(b"x", parameters=[1])), "inputs[0].parameters must be an object"),
        (json.dumps(request(b"x", parameters={"content_type": "text"})), "content_type is 'text'; allowed is 'base64'"),
        ('{"inputs": [' + "[]," * 50_000 + "1]}", "commas and brackets; at most 50000 are accepted"),
        (json.dumps(request(b"x") | {"id": "x" * 10_000}), "without its images the JSON has"),
        (json.dumps({"inputs": [{"datatype": "FP32", "data": [0.5] * 5000}]}), "without its images the JSON has"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(body: str, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        converting.convert(body.encode())
    assert words in str(caught.value)


async def test_they_reach_the_service_as_binary_data(open_site: Site) -> None:
    upstream = await open_site.serve("reef", "detector")
    image = bytes(range(256)) * 4096
    answer = await open_site.ask("POST", INFER, json.dumps(request(image)).encode(), Content_Type="application/json")
    assert (answer.status, answer.body) == (200, b'{"model_name": "detector", "outputs": []}')
    ((path, body, headers),) = upstream.reached
    assert path == "/v2/models/detector/infer"
    length = int(headers["inference-header-content-length"])
    assert length < 9999
    assert body[length:] == struct.pack("<I", len(image)) + image


async def test_refusals_and_tokens_are_as_for_other_requests(site: Site) -> None:
    upstream = await site.serve("reef", "detector")
    body = json.dumps(request(b"x")).encode()
    assert (await site.ask("POST", INFER, body)).status == 401
    token = await site.trial("reef", "mine", "detector")
    answer = await site.ask("POST", INFER, b"{}", token)
    assert (answer.status, answer.error) == (400, 'the body must be an object with a list "inputs"')
    assert (await site.ask("POST", INFER, body, token, pelagos_cluster="pelagos-authority")).status == 200
    assert len(upstream.reached) == 1


async def test_a_service_that_does_not_answer_is_said_to_be_away(open_site: Site) -> None:
    upstream = await open_site.serve("reef", "detector")
    await upstream.stop()
    answer = await open_site.ask("POST", INFER, json.dumps(request(b"x")).encode())
    assert (answer.status, answer.error) == (503, "The service does not answer: try again")
    await upstream.start()


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(open_site: Site) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = await open_site.serve("reef", "detector")
    endpoints = upstream.status()["endpoints"] | {"http": f"http://127.0.0.1:{port}"}
    await open_site.api.put("modelservices", "reef", "detector", status={"endpoints": endpoints})
    place = Place(f"http://127.0.0.1:{port}")
    await until(lambda: open_site.gateway._places.get("reef.detector-http") == place)
    try:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await open_site.ask("POST", INFER, json.dumps(request(b"x")).encode())
    finally:
        server.close()
