"""Inference requests and responses over HTTP with the binary tensor extension of the KServe v2 protocol. Pure functions.

Used by both planes: by the operator and the command line through ingresses, by an asynchronous invocation within its container.
Source: docs/protocol/extension_binary_data.md of https://github.com/triton-inference-server/server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header with the number of bytes of a body that are JSON."""
_LENGTH_BYTES = 4
"""Bytes of the little-endian length that precedes each element of a BYTES tensor."""


def request(image: bytes, parameters: Mapping[str, Any]) -> tuple[int, bytes]:
    """The length of the JSON header in bytes, and the whole body: that header and the image as the only element of a tensor."""
    tensor = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": _LENGTH_BYTES + len(image)},
    }
    outputs = [{"name": "prediction", "parameters": {"binary_data": True}}]
    asked: dict[str, Any] = {"inputs": [tensor], "outputs": outputs}
    if parameters:
        asked["parameters"] = dict(parameters)
    header = json.dumps(asked, separators=(",", ":")).encode()
    return len(header), header + len(image).to_bytes(_LENGTH_BYTES, "little") + image


def prediction(content: bytes, length: str) -> bytes:
    """The content of the output ``prediction`` in a response.

    ``length`` is that of its JSON header, empty when the whole response is JSON. Raises ValueError that says what is wrong.
    """
    if length and not (length.isdecimal() and int(length) <= len(content)):
        raise ValueError("the answer cannot be read: the length of its header is wrong")
    end = int(length) if length else len(content)
    try:
        outputs = json.loads(content[:end])["outputs"]
        at = end
        for output in outputs:
            size = (output.get("parameters") or {}).get("binary_data_size")
            if output["name"] == "prediction":
                return _element(content[at : at + size]) if size is not None else str(output["data"][0]).encode()
            at += size or 0
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the answer cannot be read: {type(error).__name__}") from error
    raise ValueError("the answer has no prediction")


def _element(tensor: bytes) -> bytes:
    size = int.from_bytes(tensor[:_LENGTH_BYTES], "little")
    if len(tensor) != _LENGTH_BYTES + size:
        raise ValueError("not one element")
    return tensor[_LENGTH_BYTES:]
