"""Requests and answers of a model by HTTP: the extension for binary tensors of the KServe v2 protocol. Pure.

Both planes ask servers so: the operator and people through ingresses, an asynchronous invocation the server in its own container.
Source: docs/protocol/extension_binary_data.md of https://github.com/triton-inference-server/server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that tells how much of a body is JSON."""
_LENGTH_BYTES = 4
"""Before each element of a tensor of texts, little-endian."""


def request(image: bytes, parameters: Mapping[str, Any]) -> tuple[int, bytes]:
    """The bytes of the JSON header, and the whole body: the header, and the image as the one element of a tensor."""
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
    """What the output ``prediction`` holds in an answer; ``length`` is that of its JSON header, empty when it is all JSON.

    Raises ValueError, with what is wrong in words.
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
    raise ValueError("the answer holds no prediction")


def _element(tensor: bytes) -> bytes:
    size = int.from_bytes(tensor[:_LENGTH_BYTES], "little")
    if len(tensor) != _LENGTH_BYTES + size:
        raise ValueError("not one element")
    return tensor[_LENGTH_BYTES:]
