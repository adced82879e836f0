"""Clients of a model service: threads that send JPEGs by gRPC, one request after the other. For serving.py."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput


@dataclass(frozen=True)
class Answers:
    """What was answered. ``seconds`` of each call; ``wall``, ``cpu`` and ``client`` (processor time here) in seconds, for all."""

    seconds: list[float]
    wall: float
    cpu: float
    client: float
    images: int
    boxes: int

    def percentile(self, percent: int) -> float:
        """Of the latency, in milliseconds."""
        return float(np.percentile(self.seconds, percent)) * 1000

    def costing(self, cpu: float) -> Answers:
        """With the processor time of the server."""
        return dataclasses.replace(self, cpu=cpu)


def ask(address: str, model: str, images: Sequence[bytes], at_once: int, number: int) -> Answers:
    """Send ``number`` images, ``at_once`` of them at any time; raises what the client raises."""
    share = number // at_once
    with ThreadPoolExecutor(at_once) as pool:
        wall, cpu = time.monotonic(), time.process_time()
        parts = list(pool.map(partial(_one_client, address, model, images, share), range(at_once)))
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    seconds = [second for part, _ in parts for second in part]
    boxes = sum(found for _, found in parts)
    return Answers(seconds, wall, cpu=0.0, client=cpu, images=share * at_once, boxes=boxes)


def _one_client(address: str, model: str, images: Sequence[bytes], number: int, offset: int) -> tuple[list[float], int]:
    seconds, boxes = [], 0
    with InferenceServerClient(address) as client:
        client.is_server_live()  # opens the connection
        for index in range(number):
            began = time.monotonic()
            tensor = InferInput("image", [1, 1], "BYTES")
            image = images[(index + offset * number) % len(images)]
            tensor.set_data_from_numpy(np.array([[image]], dtype=np.object_))
            result = client.infer(model, [tensor], outputs=[InferRequestedOutput("prediction")])
            boxes += len(json.loads(result.as_numpy("prediction").item())["detections"])
            seconds.append(time.monotonic() - began)
    return seconds, boxes
