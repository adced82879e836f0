"""Proposes the hyperparameters of a search's trials, and decides which trials are pruned. Called by steps/search.

A trial's hyperparameters depend only on the seed of the search, the trial's number and the trials before it. No generator state
is kept, and a search that was interrupted and continued tries the same values as one that was not. A constant liar keeps
concurrent trials apart from the earlier ones of their round: optuna's TPESampler counts running trials among the bad ones
(Ginsbourger et al. 2010, doi:10.1007/978-3-642-10701-6_6). Sampling and pruning are optuna's: random; tree-structured Parzen
estimators (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization", NeurIPS); the median stopping rule (Golovin et
al. 2017, "Google Vizier", KDD, doi:10.1145/3097983.3098043).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pelagos_contract.search import STARTUP_TRIALS, WARM_UP_EPOCHS, Decimals, ImageSizes, Search, TrialState

optuna.logging.set_verbosity(optuna.logging.WARNING)

_STATES = {
    TrialState.COMPLETED: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
    TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
}


@dataclass(frozen=True)
class Tried:
    """A trial as samplers see it: its ``value``, and ``values`` by epoch counted from 1. Larger is better.

    ``parameters`` are hyperparameters by name, written as in a spec.
    """

    parameters: Mapping[str, str]
    state: TrialState
    value: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)


def proposed(search: Search, number: int, before: Sequence[Tried]) -> dict[str, str]:
    """The hyperparameters of trial ``number``, counted from 0, by name and written as in a spec.

    Among the trials ``before`` it, those of the same round must be passed as running, even if they have ended: the proposal
    would otherwise depend on which of them ended first.
    """
    space = search.space.named()
    if search.method == "Grid":
        combinations = itertools.product(*(each.values for each in space.values()))
        return dict(zip(space, map(str, next(itertools.islice(combinations, number, None))), strict=True))
    seed = int(np.random.SeedSequence([search.seed or 0, number]).generate_state(1)[0])
    samplers = {"Random": optuna.samplers.RandomSampler, "Tpe": optuna.samplers.TPESampler}
    sampler = samplers[search.method](seed=seed)
    distributions = _distributions(space)
    found = _study(distributions, before, sampler).ask(distributions).params
    return {name: _worded(space[name], found[name]) for name in space}


def is_hopeless(search: Search, values: Mapping[int, float], before: Sequence[Tried]) -> bool:
    """Whether a running trial with these ``values`` by epoch is worse than the median of the trials ``before`` it."""
    pruning = search.pruning
    if pruning is None or not values:
        return False
    startup = STARTUP_TRIALS if pruning.startup_trials is None else pruning.startup_trials
    warm_up = WARM_UP_EPOCHS if pruning.warm_up_epochs is None else pruning.warm_up_epochs
    pruner = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warm_up + 1)
    trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=dict(values))
    return bool(pruner.prune(_study({}, before, optuna.samplers.RandomSampler(seed=0)), trial))


def _distributions(space: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    return {name: _distribution(each) for name, each in space.items()}


def _distribution(wanted: Any) -> BaseDistribution:
    if wanted.values is not None:
        return CategoricalDistribution([str(value) for value in wanted.values])
    if isinstance(wanted, ImageSizes):
        assert wanted.minimum is not None
        assert wanted.maximum is not None
        return IntDistribution(wanted.minimum, wanted.maximum, step=32)
    log = wanted.scale == "Log"
    if isinstance(wanted, Decimals):
        return FloatDistribution(_number(wanted.minimum), _number(wanted.maximum), log=log)
    return IntDistribution(wanted.minimum, wanted.maximum, log=log)


def _number(text: str | None) -> float:
    assert text is not None  # the operator refuses a range without its ends
    return float(text)


def _worded(wanted: Any, value: Any) -> str:
    """A value as a spec writes it: floats with six digits, which is enough to repeat a trial, and never outside their range."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.6g}"
    if float(text) < _number(wanted.minimum):
        return str(wanted.minimum)
    return str(wanted.maximum) if float(text) > _number(wanted.maximum) else text


def _study(
    distributions: Mapping[str, BaseDistribution], before: Sequence[Tried], sampler: optuna.samplers.BaseSampler
) -> optuna.Study:
    """A study in memory, built from scratch each time: only the journal of the search is kept on disk."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for each in before:
        study.add_trial(
            optuna.trial.create_trial(
                state=_STATES[each.state],
                value=each.value if each.state is TrialState.COMPLETED else None,
                params={
                    name: _parsed(distribution, each.parameters[name]) for name, distribution in distributions.items()
                },
                distributions=dict(distributions),
                intermediate_values=dict(each.values),
            )
        )
    return study


def _parsed(distribution: BaseDistribution, text: str) -> str | float | int:
    if isinstance(distribution, FloatDistribution):
        return float(text)
    return int(text) if isinstance(distribution, IntDistribution) else text
