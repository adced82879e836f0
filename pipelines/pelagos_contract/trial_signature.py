"""The signature by which the hub vouches for the Trials that it makes: for whom they are, and what that person may.

Whoever may create a Trial can write anybody into ``spec.user``. What the hub makes carries an HMAC-SHA256 in an annotation, under
a key that the hub and the operator alone have; of Trials without it, or with one that does not hold, no word about the user is
believed. It covers namespace, name and the whole spec, so that it is good for no other Trial, and a moment, so that it is good
for one that is made now: an object of the same name that is made again later has no use of it.

The hub calls ``sign`` and puts the answer into the annotation; the operator asks ``holds``.
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
"""Secret in the operator's namespace, and its key, where the key is on a cluster."""
FEWEST_BYTES, MOST_BYTES = 32, 4096
"""Of a key; others are refused."""
WINDOW = 300
"""Seconds that may lie between the moment that is signed and the one at which the API server took the object."""
_FORM = re.compile(r"v1:([0-9]{1,12}):([0-9a-f]{64})")


def read_key(file: Path) -> bytes | None:
    """The key in a file, as it is there now; None when there is none. Raises OSError, and ValueError for one of a bad length."""
    try:
        with file.open("rb") as stream:
            key = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    if not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"the key {file} has {len(key)} bytes; allowed are {FEWEST_BYTES} to {MOST_BYTES}")
    return key


def sign(key: bytes, *, namespace: str, name: str, spec: Mapping[str, Any], seconds: int) -> str:
    """The value of the annotation for a Trial that is made at ``seconds`` since 1970; spec is as it is sent to the API server."""
    return f"v1:{seconds}:{_mac(key, namespace, name, spec, seconds)}"


def holds(
    key: bytes, signature: object, *, namespace: str, name: str, spec: Mapping[str, Any], created: datetime
) -> bool:
    """Whether ``signature`` is that of this Trial, which the API server took at ``created`` (metadata.creationTimestamp)."""
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
    """As the API server keeps it: a field that is null is none."""
    if isinstance(value, Mapping):
        return {name: _stored(item) for name, item in value.items() if item is not None}
    return [_stored(item) for item in value] if isinstance(value, list | tuple) else value
