"""Authority: what this installation vouches for. Anything outside Kubernetes is output, and trusted only under a seal.

Used by the reconcilers, to decide what to adopt and delete, and by the pipeline engines, which give every run the key that its
reports are sealed with. ``pelagos_contract.sealing`` computes seals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pelagos.ports.errors import RejectedError
from pelagos_contract import sealing
from pelagos_contract.sealing import Sealer

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoKeyError(RejectedError):
    """There is no key to seal with. Nothing outside can be adopted, and nothing new begun."""


class Keys(Protocol):
    """The store of the keys. Methods may raise OutageError or RejectedError."""

    def read(self) -> tuple[bytes, ...]:
        """The key that seals, followed by earlier ones whose seals still count. Raises NoKeyError without one to seal with."""


class Authority:
    """Makes seals and verifies them. Every method may raise NoKeyError."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def require(self) -> None:
        """Raise NoKeyError when there is no key."""
        self._keys.read()

    def seal(self, purpose: str, claim: Mapping[str, Any]) -> str:
        """The seal of a claim under the present key. ``purpose`` keeps it from counting as a seal of another sort of claim."""
        return sealing.seal(self._keys.read()[0], purpose, claim)

    def holds(self, purpose: str, claim: Mapping[str, Any], seal: object) -> bool:
        """Whether ``seal`` is that of the claim under any of the keys. Accepts a ``seal`` of any type."""
        return any(sealing.is_seal(seal, key, purpose, claim) for key in self._keys.read())

    def namespace_key(self, namespace: str) -> str:
        """The key for pods of a namespace, in hex. It can only seal reports of the namespace's runs."""
        return sealing.namespace_key(self._keys.read()[0], namespace).hex()

    def step_environment(self, namespace: str, run: str, attempt: int) -> dict[str, str]:
        """Environment variables for the processes of one attempt, with a key that can only seal reports of this run."""
        key = _run_key(self._keys.read()[0], namespace, run)
        return {sealing.STEP_KEY: key.hex()} | sealing.step_identity(run, attempt)

    def unseal(
        self,
        namespace: str,
        run: str,
        attempt: int | None,
        report: Mapping[str, Any],
        purpose: str = sealing.REPORT,
    ) -> tuple[Mapping[str, Any] | None, str]:
        """The report without its seal; or None and the cause, when no step of this attempt wrote it.

        With ``attempt`` None, a report of any attempt of the run counts.
        """
        known = self._keys.read()
        sealed = report.get(sealing.SEAL)
        if not isinstance(sealed, dict):
            return None, "it carries no seal"
        sealers = (Sealer(_run_key(key, namespace, run), run, attempt or 0) for key in known)
        read = (sealer.unseal(report, purpose) for sealer in sealers)
        content = next((content for content in read if content is not None), None)
        if content is None:
            return (
                None,
                "its seal does not belong to this run: it was altered, belongs to another run, or was sealed with another key",
            )
        if attempt is not None and sealed.get("attempt") != attempt:
            return None, f"it belongs to attempt {sealed.get('attempt')}, and the run is at attempt {attempt}"
        return content, ""


def _run_key(key: bytes, namespace: str, run: str) -> bytes:
    return sealing.run_key(sealing.namespace_key(key, namespace), run)
