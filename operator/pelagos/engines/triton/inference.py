"""One inference by gRPC, by the service contract of model packages. Called by the synthetic probe and by ``pelagos predict``.

tritonclient is imported at first use: gRPC and numpy would cost an idle operator tens of megabytes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
from time import monotonic
from typing import Any


class InferenceError(Exception):
    """There was no answer, or it reported an error."""


class NoNumberError(ValueError):
    """A value that is not a finite number; the message is its text."""


async def infer(
    address: str, model: str, image: bytes, timeout: float, *, raw: bool = False, confidence: float | None = None
) -> tuple[dict[str, Any], float]:
    """The ``prediction`` for one encoded image, and the seconds that it took on an open connection.

    With ``raw`` it also has the network's outputs before any threshold; ``confidence`` overrides that of the service. Raises
    InferenceError.
    """
    # In a thread, because the first import takes a second, which would block the event loop.
    await asyncio.to_thread(importlib.import_module, "tritonclient.grpc.aio")
    import numpy as np
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    # Fractions are sent as text, because not every release of the client can send them as numbers.
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
        raise InferenceError("the answer has no prediction")
    return answered(values.reshape(-1)[0]), latency


def answered(content: bytes) -> dict[str, Any]:
    """The prediction in a server's answer. Raises InferenceError, also for NaN or infinity in place of a number."""
    try:
        prediction = json.loads(content, parse_float=_number, parse_constant=_number)
    except NoNumberError as error:
        raise InferenceError(
            f"the prediction has {error} where a number belongs: the model's weights or its input are damaged"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InferenceError(f"the prediction is not JSON: {error}") from error
    if not isinstance(prediction, dict):
        raise InferenceError("the prediction is not a JSON object")
    if why := prediction.get("error"):
        raise InferenceError(f"the image was refused: {why}")
    return prediction


def _number(text: str) -> float:
    """A finite number. JSON has neither NaN nor Infinity, but Python's parser accepts both, and reads 1e999 as infinity."""
    found = float(text)
    if not math.isfinite(found):
        raise NoNumberError(text[:20])
    return found
