"""Requests to a model, as programs of users send them: tritonclient, on a connection that stays open."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http


def asking(kind: str, address: str, service: str, image: bytes, headers: Mapping[str, str]) -> Callable[[], Any]:
    """A function that sends the image to a service by ``http`` or ``grpc``, and returns the prediction. Addresses have no scheme.

    It raises an exception when there is no answer, or one that reports an error.
    """
    library = tritonclient.http if kind == "http" else tritonclient.grpc
    client = library.InferenceServerClient(address)
    given = library.InferInput("image", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[image]], dtype=np.object_))

    def ask() -> Any:
        return json.loads(client.infer(service, [given], headers=dict(headers)).as_numpy("prediction")[0, 0])

    return ask
