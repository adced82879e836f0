"""Quantities of Kubernetes as numbers: ``1024Mi`` and ``1Gi`` are the same. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([mkMGTPE]|[KMGTPE]i)?")
_FACTORS: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{name: Decimal(1000) ** power for power, name in enumerate("kMGTPE", 1)},
    **{f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", 1)},
}


def quantity(text: Any) -> Decimal | None:
    """The number that a Kubernetes quantity stands for; None for what is none."""
    match = _QUANTITY.fullmatch(str(text))
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None
