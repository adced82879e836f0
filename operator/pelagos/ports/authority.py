"""Authority: what this installation vouches for. Whatever lies outside of Kubernetes is output, believed only under a seal.

A seal is an HMAC-SHA256 over a purpose and the canonical JSON of a claim. Used by the reconcilers (what they adopt and delete),
and by the pipeline engines, which give every run the key that its reports are sealed with. The data plane computes the same in
``pelagos_pipelines/sealing.py``; a test holds both to one form.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Protocol

from pelagos.ports.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

SEAL = "seal"
"""Member of a report that holds its seal."""
STEP_KEY = "PELAGOS_STEP_KEY"
STEP_NAMESPACE_KEY = "PELAGOS_STEP_NAMESPACE_KEY"
"""Environment of a step: the key of its run or, on a cluster, that of its namespace, from which it makes the other."""
STEP_RUN = "PELAGOS_STEP_RUN"
STEP_ATTEMPT = "PELAGOS_STEP_ATTEMPT"
_FORM = "v1:"
_REPORT = "report"


class NoKeyError(RejectedError):
    """There is no key to seal with; nothing outside can be adopted, and nothing new begun."""


class Keys(Protocol):
    """Where keys are kept. May raise OutageError or RejectedError."""

    def read(self) -> tuple[bytes, ...]:
        """The key that seals, and after it those that are good for reading. Raises NoKeyError when there is none to seal with."""


class Authority:
    """Seals, and tells whether a seal is one of ours. Every method may raise NoKeyError."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def require(self) -> None:
        """Raise NoKeyError when there is no key."""
        self._keys.read()

    def seal(self, purpose: str, claim: Mapping[str, Any]) -> str:
        """The seal of a claim, under the key that seals now."""
        return _seal(self._keys.read()[0], purpose, claim)

    def holds(self, purpose: str, claim: Mapping[str, Any], seal: object) -> bool:
        """Whether ``seal`` is that of the claim, under any key."""
        return any(_is_seal(seal, key, purpose, claim) for key in self._keys.read())

    def namespace_key(self, namespace: str) -> str:
        """What pods of a namespace get: good for the reports of its runs, and for nothing else."""
        return _namespace_key(self._keys.read()[0], namespace).hex()

    def step_environment(self, namespace: str, run: str, attempt: int) -> dict[str, str]:
        """What the processes of one attempt get: good for the reports of this run, and for nothing else."""
        key = _run_key(_namespace_key(self._keys.read()[0], namespace), run)
        return {STEP_KEY: key.hex()} | step_identity(run, attempt)

    def unseal(
        self, namespace: str, run: str, attempt: int | None, report: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any] | None, str]:
        """A report without its seal; None, and why, when it is not what a step of this attempt wrote. None is any attempt."""
        known = self._keys.read()
        sealed = report.get(SEAL)
        if not isinstance(sealed, dict):
            return None, "it carries no seal"
        content = {name: value for name, value in report.items() if name != SEAL}
        claim = {"run": run, "attempt": sealed.get("attempt"), "report": content}
        keys = [_run_key(_namespace_key(key, namespace), run) for key in known]
        if not any(_is_seal(sealed.get("mac"), key, _REPORT, claim) for key in keys):
            return (
                None,
                "its seal is not one of this run: it was altered, is of another run, or was sealed with another key",
            )
        if attempt is not None and sealed.get("attempt") != attempt:
            return None, f"it is of attempt {sealed.get('attempt')}, and the run is at attempt {attempt}"
        return content, ""


def step_identity(run: str, attempt: int) -> dict[str, str]:
    """What a step must know of itself to seal."""
    return {STEP_RUN: run, STEP_ATTEMPT: str(attempt)}


def sealed_report(key: bytes, run: str, attempt: int, content: Mapping[str, Any]) -> dict[str, Any]:
    """A report as a step with this run's key writes it. For fake servers of the data plane."""
    claim = {"run": run, "attempt": attempt, "report": dict(content)}
    return {**content, SEAL: {"attempt": attempt, "mac": _seal(key, _REPORT, claim)}}


def _namespace_key(key: bytes, namespace: str) -> bytes:
    return _derived(key, f"namespace\0{namespace}")


def _run_key(key: bytes, run: str) -> bytes:
    return _derived(key, f"run\0{run}")


def _derived(key: bytes, what: str) -> bytes:
    return hmac.digest(key, f"pelagos.dev/key\0{what}".encode(), hashlib.sha256)


def _seal(key: bytes, purpose: str, claim: Mapping[str, Any]) -> str:
    text = json.dumps(claim, sort_keys=True, separators=(",", ":"))
    return _FORM + hmac.digest(key, f"pelagos.dev/seal\0{purpose}\0{text}".encode(), hashlib.sha256).hex()


def _is_seal(seal: object, key: bytes, purpose: str, claim: Mapping[str, Any]) -> bool:
    if not isinstance(seal, str) or not seal.isascii():
        return False
    return hmac.compare_digest(seal, _seal(key, purpose, claim))
