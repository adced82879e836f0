"""The cost of a training: time, processors, accelerators, energy and CO2 equivalent. Measured by steps, shown by the operator.

An unknown figure is None with an explanation in words, never 0.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict

PREFIX = "PELAGOS_POWER_"
"""Prefix of the environment variables that pass the settings below to steps."""
WATTS_PER_CORE, GRAMS_PER_KWH = f"{PREFIX}WATTS_PER_CORE", f"{PREFIX}GRAMS_PER_KWH"
USUAL_WATTS_PER_CORE = 12.0
"""Default power of a busy core of an unknown processor: Lannelongue, Grealey and Inouye, Green Algorithms, Advanced Science 2021,
doi:10.1002/advs.202100707."""
USUAL_GRAMS_PER_KWH = 475.0
"""Default CO2 emission of a kilowatt-hour, the world mean of 2018: International Energy Agency, Global Energy and CO2 Status
Report 2019."""
MOST_WATTS, MOST_GRAMS = 1_000.0, 5_000.0
"""Upper bounds of the settings: larger values are mistakes."""
JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0
UNKNOWN = "unknown"
_LARGEST = 1e15
Amount = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]


class Cost(Strict):
    """The resources that the steps of a training used, in all its attempts together.

    ``energy_method`` says how ``kilowatt_hours`` was determined, ``missing`` lists in sentences what the figures do not include.
    """

    seconds: Amount
    cpu_seconds: Amount
    gpu_seconds: Amount | None = None
    kilowatt_hours: Amount | None = None
    energy_method: Annotated[str, Field(max_length=1000)]
    grams: Amount | None = None
    grams_per_kwh: Amount
    attempts: Annotated[int, Field(ge=1, le=10**6)] = 1
    missing: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=10)] = []

    def figures(self) -> dict[str, float]:
        """The known figures, by their names as metrics of the tracked run."""
        named = {
            "cost/seconds": self.seconds,
            "cost/cpu_hours": self.cpu_seconds / SECONDS_PER_HOUR,
            "cost/gpu_hours": None if self.gpu_seconds is None else self.gpu_seconds / SECONDS_PER_HOUR,
            "cost/energy_kwh": self.kilowatt_hours,
            "cost/co2_grams": self.grams,
        }
        return {name: value for name, value in named.items() if value is not None}


def setting(environment: Mapping[str, str], name: str) -> float:
    """A setting from the environment of a step, in watts or grams. Invalid values are refused where they are set; here they
    fall back to the default."""
    usual, most = {
        WATTS_PER_CORE: (USUAL_WATTS_PER_CORE, MOST_WATTS),
        GRAMS_PER_KWH: (USUAL_GRAMS_PER_KWH, MOST_GRAMS),
    }[name]
    try:
        found = float(environment.get(name, ""))
    except ValueError:
        return usual
    return found if 0 <= found <= most else usual


def settings() -> tuple[float, float]:
    """Watts of a busy core, and grams of CO2 equivalent per kilowatt-hour, from the environment of this process."""
    return setting(os.environ, WATTS_PER_CORE), setting(os.environ, GRAMS_PER_KWH)


def rounded(value: float) -> str:
    """The value with two significant digits, which is as precise as such estimates are, and without an exponent."""
    if value == 0:
        return "0"
    shortened, exponent = f"{value:.1e}".split("e")
    return f"{float(shortened) * 10.0 ** int(exponent):.{max(1 - int(exponent), 0)}f}"
