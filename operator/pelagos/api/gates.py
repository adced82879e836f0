"""The gates of a TrainingRun, which a model must pass to be registered: their rules across fields, and their status."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from pelagos.api.meta import Rule
from pelagos_contract.base import Strict
from pelagos_contract.capture import SliceField
from pelagos_contract.metrics import EXPORTED, TEST, of_slice, of_test, of_worst, whole
from pelagos_contract.tasks import TASKS
from pelagos_contract.values import Decimal


def _judged() -> str:
    named = {
        task.verb: ", ".join(of_test(metric) for metric in (*task.metrics, *task.overall, *task.calibrated))
        for task in TASKS.values()
    }
    return "; ".join(f"for models that {verb} {names}" for verb, names in named.items())


class ChampionGate(Strict):
    """A registered model that must not be better, on the same test images."""

    model: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][-A-Za-z0-9_. ]*$",
            max_length=200,
            description="Registered model. Default: that of spec.register.",
        ),
    ] = None
    alias: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z][-A-Za-z0-9_]*$",
            max_length=100,
            description="The version with this alias, whichever that is. Default: that of spec.register, or champion.",
        ),
    ] = None
    version: Annotated[
        int | None, Field(ge=1, le=2147483647, description="This version, instead of one with an alias.")
    ] = None
    require: Annotated[
        Literal["NotWorse", "Better"] | None,
        Field(
            description="NotWorse: the model is not worse by more than tolerance. Better: the model is better by more than "
            "chance. Default: NotWorse."
        ),
    ] = None
    tolerance: Annotated[
        Decimal | None,
        Field(
            description="By how much the metric may be worse with NotWorse; to be chosen before looking at results. "
            "Default: 0.01."
        ),
    ] = None
    evidence: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="SHA-256 of the evidence that pelagos evaluate kept for that version, if its training kept none or "
            "it was tested on other images. Default: the evidence that its training kept.",
        ),
    ] = None


class SliceGate(Strict):
    """A part of the test split."""

    field: Annotated[SliceField, Field(description="A field of spec.evaluation.slices.")]
    value: Annotated[
        str | None,
        Field(min_length=1, max_length=1024, description="Its value. Default: the worst of all known values."),
    ] = None


class Gate(Strict):
    """A bound on a metric of the test split, as a whole or of one class; or of the export."""

    metric: Annotated[
        str,
        Field(
            pattern=r"^[^\s].*$",
            max_length=250,
            description="A metric of the test split by its short name, as in F1, or by its full name, as in "
            f"status.metrics: {_judged()}; and for all models {', '.join(EXPORTED)}. The full name may contain "
            "a class, too, as in test/recall/copepod, where characters other than letters, digits, spaces and "
            "_ - . are written as their UTF-8 bytes, each as a colon and two hexadecimal digits: "
            "test/recall/a:2Fb for the class a/b.",
            examples=[next(iter(TASKS.values())).primary_metric],
        ),
    ]
    class_: Annotated[
        str | None,
        Field(
            alias="class",
            min_length=1,
            max_length=1024,
            description="The class whose figure is judged, named as in the Dataset. Default: the metric of all classes.",
        ),
    ] = None
    slice: Annotated[
        SliceGate | None,
        Field(description="The part of the test split whose figure is judged, or the worst part. Default: all of it."),
    ] = None
    minimum: Annotated[
        Decimal | None,
        Field(description="Smallest value that passes. Set exactly one of minimum, maximum and champion."),
    ] = None
    maximum: Annotated[
        Decimal | None,
        Field(
            description="Largest value that passes: for losses, calibration errors and differences, where smaller is "
            "better."
        ),
    ] = None
    champion: Annotated[
        ChampionGate | None,
        Field(
            description="A registered model that is the bound, instead of minimum or maximum. The first model of a name "
            "has no champion, and passes."
        ),
    ] = None
    seeds: Annotated[
        Literal["Mean", "Worst"] | None,
        Field(
            description="What is judged when there are several seeds: their mean, or the worst of them, which with maximum "
            "is the largest. Default: Mean."
        ),
    ] = None

    @property
    def name(self) -> str:
        """The full name of the metric, as a training reports it."""
        if self.slice is None:
            return whole(self.metric, self.class_)
        metric, field, value = self.metric.removeprefix(TEST), self.slice.field, self.slice.value
        return of_worst(field, metric) if value is None else of_slice(field, value, metric)


_WHOLE_SPLIT = "(test/)?[^/]+"


def _of_whole_split(name: str, apart: Sequence[str], message: str) -> Rule:
    """The rule that gates with the field ``name`` use a metric of the whole test split, and have none of the fields ``apart``."""

    def has(gate: Gate, field: str) -> bool:
        return getattr(gate, "class_" if field == "class" else field) is not None

    conditions = [*(f"!has(gate.{field})" for field in apart), f"gate.metric.matches('^{_WHOLE_SPLIT}$')"]
    return Rule(
        cel=f"self.gates.all(gate, !has(gate.{name}) || ({' && '.join(conditions)}))",
        message=f"spec.gates: {message}",
        field="spec.gates",
        holds=lambda spec: all(
            not has(gate, name)
            or (not any(has(gate, field) for field in apart) and re.fullmatch(_WHOLE_SPLIT, gate.metric) is not None)
            for gate in spec.gates
        ),
    )


RULES = (
    Rule(
        cel="self.gates.all(gate, [has(gate.minimum), has(gate.maximum), has(gate.champion)].filter(is, is).size() == 1)",
        message="spec.gates: set exactly one of minimum, maximum and champion in each gate; two bounds on one metric are "
        "two gates",
        field="spec.gates",
        holds=lambda spec: all([gate.minimum, gate.maximum, gate.champion].count(None) == 2 for gate in spec.gates),
    ),
    _of_whole_split("class", (), "class goes only with a metric of the test split, as in {metric: F1, class: copepod}"),
    _of_whole_split(
        "champion",
        ("class", "seeds"),
        "champion goes only with a metric of the whole test split, without class and seeds: the packaged model is compared",
    ),
    _of_whole_split(
        "slice",
        ("class", "champion"),
        "slice goes only with a metric of the test split and a bound, without class and champion, as in {metric: F1, "
        "slice: {field: site}, minimum: '0.5'}",
    ),
    Rule(
        cel="self.gates.all(gate, !has(gate.champion) || has(gate.champion.model) || has(self.register))",
        message="spec.gates: champion.model is needed where spec.register names no model",
        field="spec.gates",
        holds=lambda spec: all(
            gate.champion is None or gate.champion.model is not None or spec.register_ is not None
            for gate in spec.gates
        ),
    ),
    Rule(
        cel="self.gates.all(gate, !has(gate.champion) || !has(gate.champion.alias) || !has(gate.champion.version))",
        message="spec.gates: champion is named by alias or by version, not by both",
        field="spec.gates",
        holds=lambda spec: all(
            gate.champion is None or None in {gate.champion.alias, gate.champion.version} for gate in spec.gates
        ),
    ),
    Rule(
        cel="self.gates.all(gate, !has(gate.champion) || !has(gate.champion.tolerance) || !has(gate.champion.require) || "
        "gate.champion.require != 'Better')",
        message="spec.gates: champion.tolerance goes only with require: NotWorse, and has no meaning with Better",
        field="spec.gates",
        holds=lambda spec: all(
            gate.champion is None or gate.champion.tolerance is None or gate.champion.require != "Better"
            for gate in spec.gates
        ),
    ),
)


class Interval(Strict):
    """Confidence interval of a figure, by bootstrap over groups of images."""

    low: Annotated[str, Field(description="Lower end.")]
    high: Annotated[str, Field(description="Upper end.")]
    level: Annotated[str, Field(description="Confidence, for example 0.95.")]


class ChampionStatus(Strict):
    """A registered model, and how the trained one compares on the same test images."""

    model: Annotated[str, Field(description="Registered model.")]
    version: Annotated[str | None, Field(description="Its version; absent when there was none.")] = None
    value: Annotated[str | None, Field(description="Its value of the metric.")] = None
    difference: Annotated[str | None, Field(description="Value of the trained model minus that of the champion.")] = (
        None
    )
    interval: Annotated[Interval | None, Field(description="Confidence interval of the difference.")] = None


class GateStatus(Strict):
    """Outcome of one gate."""

    metric: Annotated[str, Field(description="Full name of the metric.")]
    class_: Annotated[str | None, Field(alias="class", description="The class, where the gate names one.")] = None
    slice: Annotated[
        SliceGate | None,
        Field(
            description="The part of the test split, where the gate names one; for the worst part, which one it was."
        ),
    ] = None
    value: Annotated[
        str | None, Field(description="Its value; absent when the run has no such metric, or it is undefined.")
    ] = None
    interval: Annotated[Interval | None, Field(description="Confidence interval of the value, where there is one.")] = (
        None
    )
    minimum: Annotated[str | None, Field(description="Smallest value that passes.")] = None
    maximum: Annotated[str | None, Field(description="Largest value that passes.")] = None
    champion: Annotated[
        ChampionStatus | None, Field(description="What it was compared with, where the gate names a champion.")
    ] = None
    passed: Annotated[bool, Field(description="Whether it passed.")]
    seed: Annotated[
        int | None, Field(description="The seed with this value, where the worst of several is judged.")
    ] = None
