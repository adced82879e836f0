"""What is in the memory of operator_program.py, which no test imports: it keeps its process from the official client."""

from __future__ import annotations

from typing import Any

PACKAGE: dict[str, Any] = {"onnxSha256": "a" * 64}
URI = "fake://objects/models/{namespace}/plankton"
AT_ONCE = 50
