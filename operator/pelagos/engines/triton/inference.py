"""One inference by gRPC in the service contract of model packages. Called by the synthetic probe and by ``pelagos predict``.

tritonclient is imported on first use only: gRPC and numpy would cost an idle operator tens of megabytes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from time import monotonic
from typing import Any


class InferenceError(Exception):
    """There was no answer, or it was an error."""


async def infer(
    address: str, model: str, image: bytes, timeout: float, *, raw: bool = False, confidence: float | None = None
) -> tuple[dict[str, Any], float]:
    """The ``prediction`` for one encoded image, and the seconds that it took on an open connection.

    With ``raw`` it also has what the network gives before any threshold; ``confidence`` goes before the service's.
    """
    # The first import takes a second, in which the event loop must go on.
    await asyncio.to_thread(importlib.import_module, "tritonclient.grpc.aio")
    import numpy as np
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    # Fractions as text: not every release of the client sends them.
    asked: dict[str, Any] = {"raw": True} if raw else {}
    if confidence is not None:
        asked["confidence"] = str(confidence)
    tensor = InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image]], dtype=np.object_))
    try:
        async with asyncio.timeout(timeout), InferenceServerClient(address) as client:
            await client.is_server_live()  # opens the connection
            begun = monotonic()
            result = await client.infer(model, [tensor], parameters=asked or None)
            latency = monotonic() - begun
    except TimeoutError as error:
        raise InferenceError(f"no answer within {timeout:g} s") from error
    except InferenceServerException as error:
        raise InferenceError(f"the inference failed: {error.message() or error.status()}") from error
    values = result.as_numpy("prediction")
    if values is None or values.size != 1:
        raise InferenceError("the answer holds no prediction")
    try:
        prediction = json.loads(values.reshape(-1)[0])
    except (ValueError, RecursionError) as error:
        raise InferenceError(f"the prediction is not JSON: {error}") from error
    if not isinstance(prediction, dict):
        raise InferenceError("the prediction is no JSON object")
    if why := prediction.get("error"):
        raise InferenceError(f"the image was refused: {why}")
    return prediction, latency
