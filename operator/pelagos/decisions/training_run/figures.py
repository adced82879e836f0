"""Figures of a training, and how they are written in status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.api.training_run import TrainingRunStatus
from pelagos_contract.metrics import of_test
from pelagos_contract.tasks import TASKS


def figure(value: float) -> str:
    """A metric with the precision that matters."""
    return f"{value:.4f}"


def known(report: Mapping[str, Any]) -> Mapping[str, float]:
    """The figures of a result, or of a failure after the evaluation.

    JSON has no NaN: the data plane writes null for a figure that could not be computed.
    """
    return {name: value for name, value in (report.get("metrics") or {}).items() if value is not None}


def status_of(report: Mapping[str, Any]) -> TrainingRunStatus:
    """What status says of them; those of single classes are in MLflow."""
    metrics = known(report)
    return TrainingRunStatus(
        metrics={name: figure(value) for name, value in metrics.items() if name.count("/") == 1},
        primary_metric=primary_metric(metrics),
        warnings=report.get("warnings") or None,
    )


def primary_metric(metrics: Mapping[str, float]) -> str:
    """The one figure that a table has room for."""
    primary_metrics = (task.primary_metric for task in TASKS.values() if of_test(task.primary_metric) in metrics)
    name = next(primary_metrics, None)
    return f"{name} {metrics[of_test(name)]:.3f}" if name else "no figure"
