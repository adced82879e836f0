"""What a training took, as its steps measured it, and how that is written in status: never more exactly than it is known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pelagos.api.training_run import CostStatus, TrainingRunStatus
from pelagos.decisions.chains import Passed
from pelagos_contract.cost import SECONDS_PER_HOUR, UNKNOWN, Cost, rounded

if TYPE_CHECKING:
    from pelagos.decisions.training_run.observed import Observed

_AMOUNT = re.compile(r"(?:about |at least )?([0-9]+(?:\.[0-9]+)?)(?: (?:kWh|g))?")


def known(seen: Observed) -> Passed | None:
    """Also of a training that was refused: it was computed all the same. One of a release of before says nothing of it."""
    told = (seen.report.result or seen.report.failure or {}).get("cost")
    if told is None:
        return None
    try:
        return Passed(status=TrainingRunStatus(cost=status_of(Cost.model_validate(told))))
    except ValidationError:  # of another release; it is for show
        return None


def status_of(cost: Cost) -> CostStatus:
    """In two digits; where something is missing, the figures are the least that it can be."""
    about = "at least" if cost.missing else "about"
    return CostStatus(
        duration_seconds=_amount(cost.seconds, about),
        cpu_hours=_amount(cost.cpu_seconds / SECONDS_PER_HOUR, about),
        gpu_hours=_amount(None if cost.gpu_seconds is None else cost.gpu_seconds / SECONDS_PER_HOUR, about),
        energy=_amount(cost.kilowatt_hours, about, "kWh"),
        energy_method=cost.energy_method,
        co2=_amount(cost.grams, about, "g"),
        intensity=f"{cost.grams_per_kwh:g} g/kWh",
        attempts=cost.attempts,
        missing=cost.missing or None,
    )


def _amount(value: float | None, about: str, unit: str = "") -> str:
    if value is None:
        return UNKNOWN
    words = f"{rounded(value)} {unit}".rstrip()
    return words if value == 0 and about == "about" else f"{about} {words}"


def amount(words: object) -> float | None:
    """The number in a figure of status, in its own unit; None where it is unknown, or no figure of ours."""
    found = _AMOUNT.fullmatch(words) if isinstance(words, str) else None
    return float(found[1]) if found else None
