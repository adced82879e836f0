"""Several trainings of one run that differ only in their seed, and their results together.

Each has a folder in the workspace and a run in MLflow below the step's run. Finished ones are not repeated. Used by the stages
train, evaluate and export.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pelagos_contract.failures import RefusedError
from pelagos_contract.progress import SeedProgress, SeedState
from pelagos_contract.tasks import TASKS
from pelagos_contract.training import SeedResult
from pelagos_pipelines.steps.runs import Part, Run

TRAINED, EVALUATED = "train", "evaluation"
"""Names of the states that the stages write."""


def trainings(run: Run) -> list[Run]:
    """One training for each seed; only the run itself if there is one seed."""
    if len(run.request.seeds) < 2:
        return [run]
    return [
        run.one_of(Part(f"seeds/{seed}", f"seed {seed}"), run.request.model_copy(update={"seed": seed, "seeds": []}))
        for seed in run.request.seeds
    ]


def model_of(run: Run) -> Run:
    """The training whose model is packaged, once all are trained; the run itself if it is the only one."""
    seed = run.read(TRAINED).get("seed")
    return next((each for each in trainings(run) if each.request.seed == seed), run)


class Told:
    """Reports the progress of each training, unless the run has only one seed."""

    def __init__(self, run: Run, each: Sequence[Run]) -> None:
        """Start from the states of earlier attempts."""
        self._run = run
        self._now = {one.request.seed: _progress(one) for one in each} if len(each) > 1 else {}
        self._tell()

    def becomes(self, training: Run, state: SeedState) -> None:
        """Report that a training has entered a state."""
        if training.request.seed in self._now:
            self._now[training.request.seed] = _progress(training).model_copy(update={"state": state})
            self._tell()

    def epoch(self, training: Run, epoch: int) -> None:
        """Report that a training has finished an epoch."""
        seed = training.request.seed
        if seed in self._now:
            self._now[seed] = self._now[seed].model_copy(update={"epoch": epoch})
            self._tell()

    def _tell(self) -> None:
        if self._now:
            self._run.telling.seeds(list(self._now.values()))


@contextmanager
def named(run: Run) -> Iterator[None]:
    """Add the name of the training to refusals in the block, if it is one of several."""
    try:
        yield
    except RefusedError as refused:
        if run.part is None:
            raise
        failure = refused.failure
        raise RefusedError(failure.reason, f"{run.part.name}: {failure.message}", failure.field) from refused


def trained(run: Run) -> dict[str, Any]:
    """The joint state of the stage train: means of the metrics, and the checkpoint of the fittest training.

    That is the one with the highest ``fitness`` on the validation split, and among equals the lowest seed. The test split does
    not matter.
    """
    from pelagos_pipelines.training.progress import fitness

    states = {one.request.seed: one.read(TRAINED) for one in trainings(run)}
    seed = min(states, key=lambda each: (_descending(fitness(states[each]["metrics"], run.request.task)), each))
    means, deviations = together([state["metrics"] for state in states.values()])
    chosen = {name: states[seed][name] for name in ("epochs", "bestEpoch", "bestSha256")}
    # All trainings start from the same weights, so one state's warnings are enough. States of earlier releases have none.
    chosen["warnings"] = states[seed].get("warnings", [])
    return chosen | {"metrics": _known(means), "deviations": deviations, "seed": seed}


def evaluated(run: Run, at: float) -> dict[str, Any]:
    """The joint state of the stage evaluate."""
    each = [(one.request.seed, one.read(TRAINED), one.read(EVALUATED)) for one in trainings(run)]
    chosen = run.read(TRAINED)
    means, deviations = together([state["metrics"] for _, _, state in each])
    note = f"metrics are means of {len(each)} trainings; the model is that of seed {chosen['seed']}"
    of_model = next(state["warnings"] for seed, _, state in each if seed == chosen["seed"])
    of_others = [
        f"seed {seed}: {warning}" for seed, _, state in each for warning in state["warnings"] if warning not in of_model
    ]
    fit = f"validation/{TASKS[run.request.task].fitness}"
    results = [
        SeedResult(
            seed=seed,
            epochs=state["epochs"],
            best_epoch=state["bestEpoch"],
            fitness=state["metrics"].get(fit),
            metrics=measured["metrics"],
        )
        for seed, state, measured in each
    ]
    return {
        "metrics": means,
        "deviations": deviations,
        "warnings": [note, *of_model, *of_others],
        "seeds": [result.model_dump(by_alias=True) for result in results],
        "at": at,
        "bestSha256": chosen["bestSha256"],
    }


def together(each: Sequence[Mapping[str, float | None]]) -> tuple[dict[str, float | None], dict[str, float]]:
    """Means and sample standard deviations (n - 1) of metrics. The mean is None for a metric that any training lacks."""
    names = dict.fromkeys(name for metrics in each for name in metrics)
    found = {name: [metrics.get(name) for metrics in each] for name in names}
    whole = {name: _numbers(values) for name, values in found.items()}
    means = {name: statistics.fmean(values) if values else None for name, values in whole.items()}
    return means, {name: statistics.stdev(values) for name, values in whole.items() if len(values) > 1}


def _numbers(values: Sequence[float | None]) -> list[float]:
    """All values as numbers; an empty list if any is missing or not finite."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return known if len(known) == len(values) else []


def _known(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}


def _descending(fitness: tuple[float, float]) -> tuple[float, float]:
    return -fitness[0], -fitness[1]


def _progress(training: Run) -> SeedProgress:
    seed = training.request.seed
    if not training.finished(TRAINED):
        return SeedProgress(seed=seed, state=SeedState.WAITING)
    found = training.read(TRAINED)
    return SeedProgress(
        seed=seed,
        state=SeedState.EVALUATED if training.finished(EVALUATED) else SeedState.TRAINED,
        epoch=found["epochs"],
        fitness=found["metrics"].get(f"validation/{TASKS[training.request.task].fitness}"),
    )
