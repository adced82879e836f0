"""Seals: documents that a step writes for the operator, or for a later step of its run, carry an HMAC under the run's key.

A seal is an HMAC-SHA256 over a purpose and the canonical JSON of a claim. The operator's ``ports.authority`` computes seals and
keys with the functions here. A step receives the key in its environment. Others may be able to write to the storage of reports
and workspaces; without the key they can destroy documents but not forge them. A step without a key, started by a person or a
test, writes unsealed documents and trusts what it finds; the operator does not accept these as results.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos_contract import disk

log = logging.getLogger(__name__)

SEAL = "seal"
"""The member of a sealed document that holds its seal."""
STEP_KEY = "PELAGOS_STEP_KEY"
STEP_NAMESPACE_KEY = "PELAGOS_STEP_NAMESPACE_KEY"
"""Environment variables of a step: the key of its run or, on a cluster, that of its namespace, from which it derives the
former."""
STEP_RUN = "PELAGOS_STEP_RUN"
STEP_ATTEMPT = "PELAGOS_STEP_ATTEMPT"
_REMEMBERED = 7
REPORT, STATE, FILE, PROGRESS = "report", "state", "file", "progress"
"""Purposes of seals: a seal is valid for its own purpose only."""
_FORM = "v1:"


def namespace_key(key: bytes, namespace: str) -> bytes:
    """Derive a namespace's key from an installation's. Pods of the namespace get it; it only seals reports of its runs."""
    return _derived(key, f"namespace\0{namespace}")


def run_key(key: bytes, run: str) -> bytes:
    """Derive a run's key, for the processes of that run, from a namespace's."""
    return _derived(key, f"run\0{run}")


def seal(key: bytes, purpose: str, claim: Mapping[str, Any]) -> str:
    """Compute the seal of a claim."""
    text = json.dumps(claim, sort_keys=True, separators=(",", ":"))
    return _FORM + hmac.digest(key, f"pelagos.dev/seal\0{purpose}\0{text}".encode(), hashlib.sha256).hex()


def is_seal(found: object, key: bytes, purpose: str, claim: Mapping[str, Any]) -> bool:
    """Whether ``found`` is the valid seal of the claim under the key."""
    if not isinstance(found, str) or not found.isascii():
        return False
    try:
        return hmac.compare_digest(found, seal(key, purpose, claim))
    except (
        ValueError,
        RecursionError,
    ):  # A document that could be parsed may still be nested too deeply to be serialized at this depth of the stack.
        return False


def document(path: Path) -> Any:
    """The JSON in a file that others may have written; None when it cannot be read or parsed."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def step_identity(run: str, attempt: int) -> dict[str, str]:
    """The environment that identifies a step for sealing, beside a key."""
    return {STEP_RUN: run, STEP_ATTEMPT: str(attempt)}


@dataclass(frozen=True)
class Sealer:
    """The key of one run, and the attempt that this process belongs to."""

    key: bytes
    run: str
    attempt: int

    def seal(self, content: Mapping[str, Any], purpose: str, **more: str) -> dict[str, Any]:
        """The document with its seal; ``more`` is also part of the claim, and the reader must pass the same."""
        mac = seal(self.key, purpose, self._claim(purpose, content, self.attempt, more))
        return {**content, SEAL: {"attempt": self.attempt, "mac": mac}}

    def unseal(self, found: Any, purpose: str, **more: str) -> dict[str, Any] | None:
        """The content of a document; None when no attempt of this run sealed it."""
        sealed = found.get(SEAL) if isinstance(found, dict) else None
        if not isinstance(sealed, dict):
            return None
        content = {name: value for name, value in found.items() if name != SEAL}
        claim = self._claim(purpose, content, sealed.get("attempt"), more)
        return content if is_seal(sealed.get("mac"), self.key, purpose, claim) else None

    def _claim(self, purpose: str, content: Mapping[str, Any], attempt: object, more: dict[str, str]) -> dict[str, Any]:
        return {"run": self.run, "attempt": attempt, purpose: dict(content)} | more


def sealer() -> Sealer | None:
    """The sealer of this process; None without a key."""
    run, key, of_namespace = (os.environ.get(name, "") for name in (STEP_RUN, STEP_KEY, STEP_NAMESPACE_KEY))
    if not run or not (key or of_namespace):
        return None
    secret = bytes.fromhex(key) if key else run_key(bytes.fromhex(of_namespace), run)
    return Sealer(secret, run, int(os.environ.get(STEP_ATTEMPT, "1")))


def sealed(content: dict[str, Any], purpose: str = REPORT, **more: str) -> dict[str, Any]:
    """The document, sealed if this process has a key."""
    own = sealer()
    return content if own is None else own.seal(content, purpose, **more)


def opened(found: Any, purpose: str = REPORT, **more: str) -> dict[str, Any] | None:
    """The content of a document that this process can trust; None otherwise. Without a key every JSON object is trusted."""
    own = sealer()
    if own is not None:
        return own.unseal(found, purpose, **more)
    return {name: value for name, value in found.items() if name != SEAL} if isinstance(found, dict) else None


def is_of_this_attempt(found: dict[str, Any]) -> bool:
    """Whether an opened document was sealed by the attempt of this process; always true without a key."""
    own = sealer()
    return own is None or found[SEAL]["attempt"] == own.attempt


def vouch(path: Path, digest: str) -> None:
    """Record that ``path`` may have this SHA-256, beside its recent ones. Call it before the file is replaced."""
    own = sealer()
    if own is None:
        return
    # The seal is written first; on object storage the file may be some epochs behind it.
    earlier = [known for known in _vouched(own, path) if known != digest][:_REMEMBERED]
    vouched = own.seal({"sha256": [digest, *earlier]}, FILE, name=path.name)
    disk.write_atomically(_beside(path), json.dumps(vouched) + "\n")


def is_genuine(path: Path) -> bool:
    """Whether this run wrote the file; without a key that cannot be checked, and the file is accepted."""
    own = sealer()
    if own is None:
        return True
    if digest_of(path) in _vouched(own, path):
        return True
    log.warning("%s is not as a step of this run left it, and is not used", path)
    return False


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _vouched(own: Sealer, path: Path) -> list[str]:
    content = own.unseal(document(_beside(path)), FILE, name=path.name)
    return list(content["sha256"]) if content else []


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.seal")


def _derived(key: bytes, what: str) -> bytes:
    return hmac.digest(key, f"pelagos.dev/key\0{what}".encode(), hashlib.sha256)
