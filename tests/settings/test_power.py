"""The assumed electric power is a setting of the operator, and every step gets it."""

from __future__ import annotations

import pytest

from pelagos.engines.kubeflow import engine as kubeflow
from pelagos.settings import Settings
from pelagos_contract import cost


def test_steps_get_it_by_environment_and_understand_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELAGOS_POWER_WATTS_PER_CORE", "6.5")
    told = dict(kubeflow.pod_defaults(Settings()).environment)

    assert cost.setting(told, cost.WATTS_PER_CORE) == 6.5
    assert cost.setting(told, cost.GRAMS_PER_KWH) == 475


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "much", "1e9"])
@pytest.mark.parametrize("name", ["power_watts_per_core", "power_grams_per_kwh"])
def test_an_amount_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PELAGOS_{name.upper()}", value)
    with pytest.raises(ValueError, match=name):
        Settings()
