"""Identity by content: digests of inputs, and the names of everything outside that are derived from them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pelagos.ports.pipelines import RunName


def digest(value: Any) -> str:
    """``sha256:`` and the hex SHA-256 of the canonical JSON of ``value``, which is the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def run_name(kind: str, uid: str, inputs_digest: str) -> RunName:
    """Name of the one pipeline run for these inputs of this resource. Short enough for a Kubernetes label value."""
    return RunName(f"{kind}-{uid}-{inputs_digest.removeprefix('sha256:')[:12]}")
