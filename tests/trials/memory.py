"""The memory of operator_program.py. No test imports it: it keeps the program's process from loading the official client."""

from __future__ import annotations

from typing import Any

PACKAGE: dict[str, Any] = {"onnxSha256": "a" * 64}
URI = "fake://objects/models/{namespace}/plankton"
AT_ONCE = 50
