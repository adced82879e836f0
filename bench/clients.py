"""Clients of a model service: threads that each send JPEGs, one request after the other. For serving.py and gateway.py."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput


@dataclass(frozen=True)
class Answers:
    """Results of requests. ``seconds`` of each call; total seconds ``wall``, ``cpu`` (servers) and ``client`` (this process)."""

    seconds: list[float]
    wall: float
    cpu: float
    client: float
    images: int
    boxes: int

    def percentile(self, percent: int) -> float:
        """This percentile of the latency, in milliseconds."""
        return float(np.percentile(self.seconds, percent)) * 1000

    def costing(self, cpu: float) -> Answers:
        """A copy with the processor time of the server, in seconds."""
        return dataclasses.replace(self, cpu=cpu)


@dataclass(frozen=True)
class Asked:
    """A model to call: its address and name, the protocol (grpc or http), and further headers."""

    address: str
    model: str
    protocol: str = "grpc"
    headers: Mapping[str, str] | None = None


def ask(asked: Asked, images: Sequence[bytes], at_once: int, number: int) -> Answers:
    """Send ``number`` images with ``at_once`` requests in parallel. Raises the client's exceptions."""
    share = number // at_once
    with ThreadPoolExecutor(at_once) as pool:
        wall, cpu = time.monotonic(), time.process_time()
        parts = list(pool.map(partial(_one_client, asked, images, share), range(at_once)))
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    seconds = [second for part, _ in parts for second in part]
    boxes = sum(found for _, found in parts)
    return Answers(seconds, wall, cpu=0.0, client=cpu, images=share * at_once, boxes=boxes)


def _one_client(asked: Asked, images: Sequence[bytes], number: int, offset: int) -> tuple[list[float], int]:
    seconds, boxes = [], 0
    with _by_http(asked) if asked.protocol == "http" else _by_grpc(asked) as predict:
        for index in range(number):
            began = time.monotonic()
            found = predict(images[(index + offset * number) % len(images)])
            boxes += len(json.loads(found)["detections"])
            seconds.append(time.monotonic() - began)
    return seconds, boxes


@contextlib.contextmanager
def _by_grpc(asked: Asked) -> Iterator[Callable[[bytes], str]]:
    with InferenceServerClient(asked.address) as client:

        def predict(image: bytes) -> str:
            tensor = InferInput("image", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[image]], dtype=np.object_))
            wanted = [InferRequestedOutput("prediction")]
            result = client.infer(asked.model, [tensor], outputs=wanted, headers=asked.headers)
            return str(result.as_numpy("prediction").item().decode())

        client.is_model_ready(asked.model, headers=asked.headers)  # opens the connection
        yield predict


@contextlib.contextmanager
def _by_http(asked: Asked) -> Iterator[Callable[[bytes], str]]:
    """Yield a function that sends an image as tritonclient does, after short JSON, and returns the JSON rendering."""
    host, _, base = asked.address.partition("/")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def predict(image: bytes) -> str:
            tensor = struct.pack("<I", len(image)) + image
            size = {"binary_data_size": len(tensor)}
            given = [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": size}]
            said = json.dumps({"inputs": given, "outputs": [{"name": "prediction"}]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(said)), **(asked.headers or {})}
            path = f"{f'/{base}' if base else ''}/v2/models/{asked.model}/infer"
            connection.request("POST", path, said + tensor, headers)
            answer = json.loads(connection.getresponse().read())
            return str(answer["outputs"][0]["data"][0])

        yield predict
