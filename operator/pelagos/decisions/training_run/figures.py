"""Figures of a training, and their form in status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.api.gates import Interval
from pelagos.api.training_run import (
    LeaveOneOutStatus,
    LeftOutStatus,
    ResamplingStatus,
    SeedStatus,
    SliceStatus,
    TrainingRunStatus,
    WorstSlice,
)
from pelagos.decisions import bounds
from pelagos_contract import metrics as names
from pelagos_contract.metrics import TEST, of_test
from pelagos_contract.progress import SeedState
from pelagos_contract.tasks import TASKS
from pelagos_contract.text import shown

_SMALL = 0.001
"""Below this, four decimal places would leave one significant digit or none."""


def figure(value: float) -> str:
    """A metric with four decimal places."""
    return f"{value:.4f}"


def judged(value: float) -> str:
    """A figure to compare with a bound: with three significant digits if it is small."""
    return figure(value) if not value or abs(value) >= _SMALL else f"{value:.3g}"


def signed(value: float) -> str:
    """A difference with its sign and four decimal places."""
    return f"{value:+.4f}"


def known(report: Mapping[str, Any]) -> Mapping[str, float]:
    """The figures of a result, or of a failure after the evaluation, that could be computed.

    JSON has no NaN, so the data plane writes null for the others.
    """
    return {name: value for name, value in (report.get("metrics") or {}).items() if value is not None}


def interval(report: Mapping[str, Any], name: str) -> Interval | None:
    """The confidence interval of a figure; None when it was not computed."""
    found, level = (report.get("intervals") or {}).get(name), (report.get("resampling") or {}).get("level")
    if not found or level is None or found.get("low") is None or found.get("high") is None:
        return None
    return Interval(low=figure(found["low"]), high=figure(found["high"]), level=f"{level:g}")


def percent(level: str) -> str:
    """A confidence level, such as ``0.95``, in percent."""
    return f"{float(level) * 100:g} %"


def status_of(report: Mapping[str, Any]) -> TrainingRunStatus:
    """The figures in status. Those of single classes, and of all slices except the worst, are only in MLflow."""
    slices = _slices(report)
    resampling = report.get("resampling")
    return TrainingRunStatus(
        metrics=_overall(known(report)) | _worst(report),
        intervals=_intervals(report) or None,
        resampling=None if resampling is None else _resampling(resampling),
        slices=slices or None,
        worst_slice=next((words for one in slices if (words := _worded(one)) is not None), None),
        deviations=_overall(report.get("deviations") or {}) or None,
        primary_metric=primary_metric(report),
        warnings=report.get("warnings") or None,
        seeds=_seeds(report) or None,
        leave_one_out=_left_out(report),
    )


def primary_metric(report: Mapping[str, Any]) -> str:
    """The one figure that a table has room for, with its standard deviation over seeds or else its interval, if known."""
    metrics, deviations = known(report), report.get("deviations") or {}
    primary_metrics = (task.primary_metric for task in TASKS.values() if of_test(task.primary_metric) in metrics)
    name = next(primary_metrics, None)
    if name is None:
        return "no figure"
    deviation, ends = deviations.get(of_test(name)), interval(report, of_test(name))
    told = f"{name} {metrics[of_test(name)]:.3f}"
    if deviation is not None:
        return f"{told} ± {deviation:.3f}"
    return told if ends is None else f"{told} ({_ends(ends)})"


def _overall(metrics: Mapping[str, float]) -> dict[str, str]:
    """The figures that are not about a single class."""
    return {name: figure(value) for name, value in metrics.items() if name.count("/") == 1}


def _ends(ends: Interval) -> str:
    return f"{float(ends.low):.3f}–{float(ends.high):.3f}"


def _intervals(report: Mapping[str, Any]) -> dict[str, Interval]:
    """The intervals that are known, by the name of the figure."""
    each = {name: interval(report, name) for name in report.get("intervals") or () if name.startswith(TEST)}
    return {name: one for name, one in each.items() if one is not None}


def _resampling(told: Mapping[str, Any]) -> ResamplingStatus:
    return ResamplingStatus(by=told["by"], groups=told["groups"], samples=told["samples"], why=told.get("why"))


def _worst(report: Mapping[str, Any]) -> dict[str, str]:
    """The metric of the worst slice of each field."""
    told = (names.of_worst(one["field"], one["metric"]) for one in report.get("slices") or ())
    return {name: figure(value) for name in told if (value := known(report).get(name)) is not None}


def _slices(report: Mapping[str, Any]) -> list[SliceStatus]:
    found = []
    for told in report.get("slices") or ():
        known_ones = [one for one in told["slices"] if one.get("value") is not None]
        unknown = next((one["images"] for one in told["slices"] if one.get("value") is None), None)
        worst = next((one for one in known_ones if one["value"] == told.get("worst")), None)
        found.append(
            SliceStatus(
                field=told["field"],
                slices=len(known_ones),
                unknown=unknown,
                worst=None if worst is None else _worst_slice(report, told, worst),
            )
        )
    return found


def _worst_slice(report: Mapping[str, Any], told: Mapping[str, Any], one: Mapping[str, Any]) -> WorstSlice | None:
    name = names.of_slice(told["field"], one["value"], told["metric"])
    value = known(report).get(name)
    if value is None:
        return None
    return WorstSlice(
        value=bounds.short(shown(one["value"])),
        metric=told["metric"],
        figure=figure(value),
        interval=interval(report, name),
        images=one["images"],
        objects=one["objects"],
    )


def _worded(one: SliceStatus) -> str | None:
    worst = one.worst
    if worst is None:
        return None
    ends = "" if worst.interval is None else f" ({_ends(worst.interval)})"
    return f"{one.field} {worst.value}: {worst.metric} {float(worst.figure):.3f}{ends}, n = {worst.images}"


def _left_out(report: Mapping[str, Any]) -> LeaveOneOutStatus | None:
    """The models that were each trained without one group, of a run that has ended; None when there are none."""
    told = report.get("leaveOneOut")
    if not told:
        return None
    metrics, deviations, field, metric = known(report), report.get("deviations") or {}, told["field"], told["metric"]
    mean = metrics.get(main := names.of_left_out(field, metric))
    groups = [
        LeftOutStatus(
            value=each["value"],
            state=SeedState.EVALUATED.value,
            epoch=each["epochs"],
            images=each["images"],
            metric=None
            if (value := metrics.get(names.of_left_out(field, metric, each["value"]))) is None
            else figure(value),
        )
        for each in told["groups"]
    ]
    return LeaveOneOutStatus(
        field=field,
        metric=metric,
        mean=None if mean is None else figure(mean),
        deviation=figure(deviations[main]) if main in deviations else None,
        unknown=told.get("unknown") or None,
        groups=groups,
    )


def _seeds(report: Mapping[str, Any]) -> list[SeedStatus]:
    """The trainings of a run that has ended, one for each seed; empty with a single seed."""
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
