"""Sends a synthetic inference to a service and judges the answer. Called by all serving engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pelagos.engines.triton import inference, outputs
from pelagos.engines.triton.package import Known
from pelagos.engines.triton.tasks import TASKS
from pelagos.ports.serving import ProbeResult
from pelagos_contract.text import shown

if TYPE_CHECKING:
    from pathlib import Path

    from pelagos.engines.triton.http_inference import Endpoint
    from pelagos.ports.serving import DesiredService

    Found = Mapping[str, Any]

TIMEOUT = 10.0


async def probe(address: str | Endpoint, want: DesiredService, known: Known, timeout: float = TIMEOUT) -> ProbeResult:
    """Send the package's probe image as clients do, by gRPC or HTTP, and compare the answer with the known one.

    Never raises because of the server: its failures are in the result.
    """
    begun = monotonic()
    asked = known.outputs is not None
    if isinstance(address, str):
        infer = partial(inference.infer, address)
    else:
        # Imported only for HTTP: most servers are asked by gRPC, and code that only compares answers needs no HTTP client.
        from pelagos.engines.triton import http_inference

        infer = partial(http_inference.infer, address)
    try:
        answer, latency = await infer(want.model_name, known.image, timeout, raw=asked)
    except inference.InferenceError as error:
        return ProbeResult(correct=False, message=str(error), latency=monotonic() - begun)
    # In a thread: comparing the masks of hundreds of objects takes seconds.
    difference = await asyncio.to_thread(compare, known.expected, answer, known.thresholds, want)
    if known.outputs is not None:  # distinguishes even models that detect nothing with confidence
        gpu = want.placement.gpus > 0
        difference = outputs.compare(known.outputs, answer, want.onnx_sha256, gpu=gpu) or difference
    return ProbeResult(correct=difference is None, message=difference or "", latency=latency)


def compare(expected: Found, answer: Found, package: Mapping[str, Any], want: DesiredService) -> str | None:
    """The problem with an answer; None when it is right.

    ``package`` has the thresholds that ``expected`` was made with, ``want`` those of the service. Where they differ, only what
    both must report is compared.
    """
    for key in ("task", "width", "height"):
        if expected.get(key) != answer.get(key):
            return f"{key}: expected {expected.get(key)}, got {answer.get(key)}"
    try:
        return TASKS.named(expected["task"]).compare(expected, answer, package, want)
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # a server's answer may have any shape
        return f"the answer does not fit {expected['task']}: {type(error).__name__}: {shown(str(error))}"


def read(package: Path) -> Known:
    """The known answer of a package in a folder of this machine. Raises OSError or ValueError."""
    description = json.loads((package / "package.json").read_text(encoding="utf-8"))
    expected = json.loads((package / "probe.json").read_text(encoding="utf-8"))
    image = (package / "probe.png").read_bytes()
    return Known(image, expected, description.get("thresholds", {}), description.get("probe"))
