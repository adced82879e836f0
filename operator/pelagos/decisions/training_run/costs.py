"""The cost of a training, as its steps measured it. Status never states it more exactly than it is known."""

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
    """Publishes the cost, even if the training was refused in the end. None if its steps, of an earlier release, report none."""
    told = (seen.report.result or seen.report.failure or {}).get("cost")
    if told is None:
        return None
    try:
        return Passed(status=TrainingRunStatus(cost=status_of(Cost.model_validate(told))))
    except ValidationError:  # From another release. Costs are only shown, so this is not an error.
        return None


def status_of(cost: Cost) -> CostStatus:
    """The cost in its form in status, rounded to two digits. If something was not measured, figures are "at least"."""
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
    """The number in a figure in status, in the figure's own unit; None when it is unknown, or not a figure of this form."""
    found = _AMOUNT.fullmatch(words) if isinstance(words, str) else None
    return float(found[1]) if found else None
