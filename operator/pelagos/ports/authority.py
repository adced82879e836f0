"""Authority: what this installation vouches for. Whatever lies outside of Kubernetes is output, believed only under a seal.

Used by the reconcilers (what they adopt and delete), and by the pipeline engines, which give every run the key that its reports
are sealed with. How a seal is computed stands in ``pelagos_contract.sealing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pelagos.ports.errors import RejectedError
from pelagos_contract import sealing
from pelagos_contract.sealing import Sealer

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoKeyError(RejectedError):
    """There is no key to seal with; nothing outside can be adopted, and nothing new begun."""


class Keys(Protocol):
    """Where keys are kept. May raise OutageError or RejectedError."""

    def read(self) -> tuple[bytes, ...]:
        """The key that seals, and after it those that are good for reading. Raises NoKeyError when there is none to seal with."""


class Authority:
    """Seals, and verifies seals. Every method may raise NoKeyError."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def require(self) -> None:
        """Raise NoKeyError when there is no key."""
        self._keys.read()

    def seal(self, purpose: str, claim: Mapping[str, Any]) -> str:
        """The seal of a claim, under the key that seals now."""
        return sealing.seal(self._keys.read()[0], purpose, claim)

    def holds(self, purpose: str, claim: Mapping[str, Any], seal: object) -> bool:
        """Whether ``seal`` is that of the claim, under any key."""
        return any(sealing.is_seal(seal, key, purpose, claim) for key in self._keys.read())

    def namespace_key(self, namespace: str) -> str:
        """What pods of a namespace get: good for the reports of its runs, and for nothing else."""
        return sealing.namespace_key(self._keys.read()[0], namespace).hex()

    def step_environment(self, namespace: str, run: str, attempt: int) -> dict[str, str]:
        """What the processes of one attempt get: good for the reports of this run, and for nothing else."""
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
        """A report without its seal; None, and why, when it is not what a step of this attempt wrote. None is any attempt."""
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
                "its seal is not one of this run: it was altered, is of another run, or was sealed with another key",
            )
        if attempt is not None and sealed.get("attempt") != attempt:
            return None, f"it is of attempt {sealed.get('attempt')}, and the run is at attempt {attempt}"
        return content, ""


def _run_key(key: bytes, namespace: str, run: str) -> bytes:
    return sealing.run_key(sealing.namespace_key(key, namespace), run)
