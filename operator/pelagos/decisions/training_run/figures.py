"""Figures of a training, and how they are written in status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.api.training_run import Interval, SeedStatus, TrainingRunStatus
from pelagos_contract.metrics import of_test
from pelagos_contract.progress import SeedState
from pelagos_contract.tasks import TASKS


def figure(value: float) -> str:
    """A metric with the precision that matters."""
    return f"{value:.4f}"


def known(report: Mapping[str, Any]) -> Mapping[str, float]:
    """The figures of a result, or of a failure after the evaluation.

    JSON has no NaN: the data plane writes null for a figure that could not be computed.
    """
    return {name: value for name, value in (report.get("metrics") or {}).items() if value is not None}


def interval(report: Mapping[str, Any], name: str) -> Interval | None:
    """Between which values a figure lies; None where nobody computed that."""
    found, level = (report.get("intervals") or {}).get(name), (report.get("resampling") or {}).get("level")
    if not found or level is None or found.get("low") is None or found.get("high") is None:
        return None
    return Interval(low=figure(found["low"]), high=figure(found["high"]), level=f"{level:g}")


def percent(level: str) -> str:
    """A confidence in words."""
    return f"{float(level) * 100:g} %"


def status_of(report: Mapping[str, Any]) -> TrainingRunStatus:
    """What status says of them; those of single classes are in MLflow."""
    return TrainingRunStatus(
        metrics=_overall(known(report)),
        deviations=_overall(report.get("deviations") or {}) or None,
        primary_metric=primary_metric(report),
        warnings=report.get("warnings") or None,
        seeds=_seeds(report) or None,
    )


def primary_metric(report: Mapping[str, Any]) -> str:
    """The one figure that a table has room for; of several seeds with its standard deviation."""
    metrics, deviations = known(report), report.get("deviations") or {}
    primary_metrics = (task.primary_metric for task in TASKS.values() if of_test(task.primary_metric) in metrics)
    name = next(primary_metrics, None)
    if name is None:
        return "no figure"
    deviation = deviations.get(of_test(name))
    return f"{name} {metrics[of_test(name)]:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")


def _overall(metrics: Mapping[str, float]) -> dict[str, str]:
    """Without those of single classes."""
    return {name: figure(value) for name, value in metrics.items() if name.count("/") == 1}


def _seeds(report: Mapping[str, Any]) -> list[SeedStatus]:
    """Of a run that has ended, each of its trainings."""
    return [
        SeedStatus(
            seed=each["seed"],
            state=SeedState.EVALUATED.value,
            epoch=each["epochs"],
            fitness=figure(each["fitness"]) if each.get("fitness") is not None else None,
            metrics=_overall(known(each)),
            chosen=True if each["seed"] == report.get("seed") else None,
        )
        for each in report.get("seeds") or ()
    ]
