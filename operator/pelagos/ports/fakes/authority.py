"""Keys in memory, and reports that are sealed as steps do it. For tests of reconcilers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pelagos.ports.authority import Authority, NoKeyError
from pelagos_contract.sealing import REPORT, STEP_KEY, Sealer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos.ports.pipelines import RunRequest


class KeysFake:
    """Implements Keys over ``known``, with the key that seals first. Empty: there is no key."""

    def __init__(self, *known: bytes) -> None:
        self.known: tuple[bytes, ...] = known or (b"a key of a test, long as any key.",)

    def read(self) -> tuple[bytes, ...]:
        """The keys. Raises NoKeyError when there are none."""
        if not self.known:
            raise NoKeyError("authority", "there is no key")
        return self.known


def reported(
    authority: Authority, request: RunRequest, content: Mapping[str, Any], purpose: str = REPORT
) -> dict[str, Any]:
    """``content`` as a step of the requested attempt would report it, with its seal."""
    environment = authority.step_environment(request.namespace, request.name, request.attempt)
    return Sealer(bytes.fromhex(environment[STEP_KEY]), request.name, request.attempt).seal(content, purpose)
