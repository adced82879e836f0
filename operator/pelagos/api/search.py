"""The search of a TrainingRun: its rules across fields, and its status."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from pelagos.api import processors
from pelagos.api.meta import Rule
from pelagos_contract.base import Strict

_NONE = "!has(self.search)"
_SPACE = "self.search.space"
_KEYS = {
    "learningRate": "learning_rate",
    "weightDecay": "weight_decay",
    "batchSize": "batch_size",
    "imageSize": "image_size",
    "epochs": "epochs",
    "optimizer": "optimizer",
}
"""Python names of the fields of spec.search.space."""


def _space_of(spec: Any, key: str) -> Any:
    return None if spec.search is None else getattr(spec.search.space, _KEYS[key])


def _is_sound(found: Any, fits: Callable[[float], bool], from_zero: bool) -> bool:
    """Whether either distinct values or both ends of a range are given, and all fit."""
    ends, scale = (found.minimum, found.maximum), getattr(found, "scale", None)
    if found.values is not None:
        numbers = [float(value) for value in found.values]
        return ends == (None, None) and scale is None and len(set(numbers)) == len(numbers) and all(map(fits, numbers))
    if None in ends:
        return False
    low, high = map(float, ends)
    return low < high and fits(low) and fits(high) and not (from_zero and scale == "Log" and low == 0)


def _range_rule(key: str, words: str, fits: tuple[str, Callable[[float], bool]], *, decimal: bool = False) -> Rule:
    """The rule for one field. ``fits``: a bound on each value, in CEL with ``value`` as a number, and in Python."""
    at, number = f"{_SPACE}.{key}", "double(%s)" if decimal else "%s"
    scales = key != "imageSize"  # it has steps instead of a scale
    log = f"&& (!has({at}.scale) || {at}.scale != 'Log' || double({at}.minimum) > 0.0)" if decimal else ""
    bound = fits[0]

    def fitting(value: str) -> str:
        return bound.replace("value", number % value)

    values = (
        f"!has({at}.minimum) && !has({at}.maximum){f' && !has({at}.scale)' if scales else ''} && "
        f"{at}.values.all(one, {at}.values.exists_one(other, {number % 'other'} == {number % 'one'}) && {fitting('one')})"
    )
    ends = (
        f"has({at}.minimum) && has({at}.maximum) && {number % f'{at}.minimum'} < {number % f'{at}.maximum'} && "
        f"{fitting(f'{at}.minimum')} && {fitting(f'{at}.maximum')} {log}"
    )
    return Rule(
        cel=f"{_NONE} || !has({at}) || (has({at}.values) ? {values} : {ends.strip()})",
        message=f"spec.search.space.{key} must have either values, each once, or a minimum below a maximum; {words}",
        field=f"spec.search.space.{key}",
        holds=lambda spec: _space_of(spec, key) is None or _is_sound(_space_of(spec, key), fits[1], decimal),
    )


def _grid(spec: Any) -> bool:
    return spec.search is not None and spec.search.method == "Grid"


def _has_lists_alone(spec: Any) -> bool:
    return all(each.values is not None for each in spec.search.space.named().values())


def _combinations(spec: Any) -> int:
    return math.prod(len(each.values or ()) for each in spec.search.space.named().values())


_SIZE = " * ".join(
    f"(has({_SPACE}.{key}) && has({_SPACE}.{key}.values) ? size({_SPACE}.{key}.values) : 1)" for key in _KEYS
).replace(f"has({_SPACE}.optimizer) && has({_SPACE}.optimizer.values)", f"has({_SPACE}.optimizer)")
_LISTS = " && ".join(f"(!has({_SPACE}.{key}) || has({_SPACE}.{key}.values))" for key in _KEYS if key != "optimizer")
RULES = (
    Rule(
        cel=f"{_NONE} || {' || '.join(f'has({_SPACE}.{key})' for key in _KEYS)}",
        message=f"spec.search.space must name at least one of {', '.join(_KEYS)}",
        field="spec.search.space",
        holds=lambda spec: spec.search is None or bool(spec.search.space.named()),
    ),
    _range_rule(
        "learningRate",
        "all above 0 and at most 1",
        ("value > 0.0 && value <= 1.0", lambda value: 0 < value <= 1),
        decimal=True,
    ),
    _range_rule(
        "weightDecay",
        "all at most 1, and with scale Log above 0",
        ("value <= 1.0", lambda value: value <= 1),
        decimal=True,
    ),
    _range_rule("batchSize", "all at least 1", ("value >= 1", lambda value: value >= 1)),
    _range_rule("epochs", "all at least 1", ("value >= 1", lambda value: value >= 1)),
    _range_rule("imageSize", "all multiples of 32", ("value % 32 == 0", lambda value: value % 32 == 0)),
    Rule(
        cel=f"{_NONE} || !has({_SPACE}.optimizer) || {_SPACE}.optimizer.values.all(one, "
        f"{_SPACE}.optimizer.values.exists_one(other, other == one))",
        message="spec.search.space.optimizer.values must name each optimizer once",
        field="spec.search.space.optimizer.values",
        holds=lambda spec: (
            (found := _space_of(spec, "optimizer")) is None or len(set(found.values)) == len(found.values)
        ),
    ),
    Rule(
        cel=f"{_NONE} || self.search.method != 'Grid' || {_LISTS}",
        message="spec.search.space must have values, not ranges, for the method Grid",
        field="spec.search.space",
        holds=lambda spec: not _grid(spec) or _has_lists_alone(spec),
    ),
    Rule(
        cel=f"{_NONE} || self.search.method != 'Grid' || {_SIZE} <= self.search.trials",
        message="spec.search.trials must be at least the number of combinations in the grid",
        field="spec.search.trials",
        holds=lambda spec: not _grid(spec) or _combinations(spec) <= spec.search.trials,
    ),
    Rule(
        cel=f"{_NONE} || !has(self.search.parallelism) || self.search.parallelism == 1 || "
        f"self.search.parallelism * 1000 <= {processors.cel('self.resources.cpu')}",
        message="spec.search.parallelism must not be above spec.resources.cpu: each trial needs a core of its own",
        field="spec.search.parallelism",
        holds=lambda spec: (
            spec.search is None
            or spec.search.width == 1
            or spec.search.width * 1000 <= processors.bounds(spec.resources)[0]
        ),
    ),
    Rule(
        cel=f"{_NONE} || !has(self.search.parallelism) || self.resources.gpus == 0 || "
        "self.search.parallelism <= self.resources.gpus",
        message="spec.search.parallelism must not be above spec.resources.gpus where that is not 0: trials do not share "
        "GPUs",
        field="spec.search.parallelism",
        holds=lambda spec: spec.search is None or not spec.resources.gpus or spec.search.width <= spec.resources.gpus,
    ),
    Rule(
        cel=f"{_NONE} || !has(self.search.epochs) || !has({_SPACE}.epochs)",
        message="spec.search.epochs and spec.search.space.epochs exclude each other",
        field="spec.search.epochs",
        holds=lambda spec: spec.search is None or spec.search.epochs is None or spec.search.space.epochs is None,
    ),
    Rule(
        cel=f"{_NONE} || !has(self.search.then) || self.search.then != 'TakeBest' || size(self.seeds) == 1",
        message="spec.search.then must be Retrain when spec.seeds has several: a trial is trained with one seed",
        field="spec.search.then",
        holds=lambda spec: spec.search is None or spec.search.then != "TakeBest" or len(spec.seeds) == 1,
    ),
)


class TrialStatus(Strict):
    """One trial."""

    number: Annotated[int, Field(description="Its number; the first is 0.")]
    state: Annotated[str, Field(description="Running, Completed, Pruned or Failed.")]
    parameters: Annotated[dict[str, str], Field(description="The hyperparameters that it tried.")]
    epochs: Annotated[int | None, Field(description="Epochs done.")] = None
    value: Annotated[str | None, Field(description="The metric of its best epoch so far, on the validation split.")] = (
        None
    )
    reason: Annotated[str | None, Field(description="Why it failed, as a reason of a condition.")] = None
    message: Annotated[str | None, Field(description="The same in words.")] = None


class BestTrial(Strict):
    """The best of the completed trials."""

    number: Annotated[int, Field(description="Its number.")]
    value: Annotated[str, Field(description="Its metric, on the validation split.")]
    parameters: Annotated[dict[str, str], Field(description="The hyperparameters that it tried.")]


class SearchStatus(Strict):
    """Progress of a search."""

    metric: Annotated[str, Field(description="Metric by which trials are compared.")]
    trials: Annotated[int, Field(description="Planned number of trials.")]
    finished: Annotated[int, Field(description="Trials that have ended, in any way.")]
    pruned: Annotated[int, Field(description="Of these, trials that were ended early.")]
    failed: Annotated[int, Field(description="Of these, trials that failed.")]
    best: Annotated[BestTrial | None, Field(description="The best of the completed trials.")] = None
    history: Annotated[list[TrialStatus] | None, Field(description="All trials, in order.")] = None
