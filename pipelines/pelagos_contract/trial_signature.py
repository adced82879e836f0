"""The signature by which the hub vouches for the user and the entitlements in the Trials that it creates.

Anyone who may create a Trial can put any name into ``spec.user``. Trials of the hub carry an HMAC-SHA256 in an annotation, under
a key that only hub and operator have. Without a valid signature, nothing in a Trial about its user is trusted. The signature
covers namespace, name and the whole spec, so it is not valid for another Trial. It also covers the time, so it is only valid for
a Trial created at about that time, and not for a later object with the same name. The hub calls ``sign`` and writes the result
into the annotation; the operator calls ``holds``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

ANNOTATION = "pelagos.dev/hub-signature"
SECRET, SECRET_KEY = "pelagos-hub", "signing-key"
"""Name of the Secret in the operator's namespace that has the key on a cluster, and the entry in it."""
FEWEST_BYTES, MOST_BYTES = 32, 4096
"""Accepted lengths of a key."""
WINDOW = 300
"""Largest difference in seconds between the signed time and the creation time that the API server recorded."""
_FORM = re.compile(r"v1:([0-9]{1,12}):([0-9a-f]{64})")


def read_key(file: Path) -> bytes | None:
    """Read the key from a file; None when it does not exist. Raises OSError, and ValueError for a key of invalid length."""
    try:
        with file.open("rb") as stream:
            key = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    if not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"the key {file} has {len(key)} bytes; allowed are {FEWEST_BYTES} to {MOST_BYTES}")
    return key


def sign(key: bytes, *, namespace: str, name: str, spec: Mapping[str, Any], seconds: int) -> str:
    """The annotation for a Trial that is created at the Unix time ``seconds``; ``spec`` is as sent to the API server."""
    return f"v1:{seconds}:{_mac(key, namespace, name, spec, seconds)}"


def holds(
    key: bytes, signature: object, *, namespace: str, name: str, spec: Mapping[str, Any], created: datetime
) -> bool:
    """Whether ``signature`` is valid for this Trial, which was created at ``created`` (metadata.creationTimestamp)."""
    found = _FORM.fullmatch(signature) if isinstance(signature, str) else None
    if found is None:
        return False
    seconds = int(found[1])
    is_equal = hmac.compare_digest(found[2], _mac(key, namespace, name, spec, seconds))
    return is_equal and abs(seconds - created.timestamp()) <= WINDOW


def _mac(key: bytes, namespace: str, name: str, spec: Mapping[str, Any], seconds: int) -> str:
    claim = {"namespace": namespace, "name": name, "spec": _stored(spec), "seconds": seconds}
    text = json.dumps(claim, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.digest(key, f"pelagos.dev/trial\0{text}".encode(), hashlib.sha256).hex()


def _stored(value: Any) -> Any:
    """The value as the API server stores it: without fields that are null."""
    if isinstance(value, Mapping):
        return {name: _stored(item) for name, item in value.items() if item is not None}
    return [_stored(item) for item in value] if isinstance(value, list | tuple) else value
