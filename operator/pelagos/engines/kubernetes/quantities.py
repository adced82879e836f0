"""Kubernetes quantities as numbers: ``1024Mi`` and ``1Gi`` are equal. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from pelagos.ports.errors import RejectedError
from pelagos.ports.placement import Placement

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([mkMGTPE]|[KMGTPE]i)?")
_FACTORS: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{name: Decimal(1000) ** power for power, name in enumerate("kMGTPE", 1)},
    **{f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", 1)},
}


def quantity(text: Any) -> Decimal | None:
    """The value of a Kubernetes quantity, in base units (bytes, cores); None when ``text`` is not a quantity."""
    match = _QUANTITY.fullmatch(str(text))
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None


def memory(placement: Placement, default: str, system: str) -> tuple[str, str]:
    """Memory request and limit; ``default`` where the placement has none. Raises RejectedError, which names the field."""
    request = placement.memory or default
    limit = placement.memory_limit or request
    for field, value in (("memory", request), ("limits.memory", limit)):
        if quantity(value) is None:
            raise RejectedError(system, f"spec.resources.{field}: {value} is not a quantity; write for example 4Gi")
    if number_of(limit) < number_of(request):
        message = (
            f"spec.resources.limits.memory is {limit}, below spec.resources.memory ({request}), which is requested"
        )
        raise RejectedError(system, f"{message}; raise the limit, or leave it out")
    return request, limit


def number_of(text: str) -> Decimal:
    """The value of a text that is known to be a quantity; see `quantity`."""
    found = quantity(text)
    assert found is not None
    return found
