"""Several trainings of one run that differ in their seed: what they have in common, and what is said of them together.

Each has a folder of its own in the workspace, and a run of its own below that of the step in MLflow: one that is finished is not
done again. Used by the stages train, evaluate and export.
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
"""Names of the states that the stages leave."""


def trainings(run: Run) -> list[Run]:
    """One for each seed; the run itself when there is one."""
    if len(run.request.seeds) < 2:
        return [run]
    return [
        run.one_of(Part(f"seeds/{seed}", f"seed {seed}"), run.request.model_copy(update={"seed": seed, "seeds": []}))
        for seed in run.request.seeds
    ]


def model_of(run: Run) -> Run:
    """The training whose model is packaged, once all are trained: the run itself when it is the only one."""
    seed = run.read(TRAINED).get("seed")
    return next((each for each in trainings(run) if each.request.seed == seed), run)


class Told:
    """How far each training is, for those who watch; of a run with one seed nothing is told."""

    def __init__(self, run: Run, each: Sequence[Run]) -> None:
        """As the states that are there have it."""
        self._run = run
        self._now = {one.request.seed: _progress(one) for one in each} if len(each) > 1 else {}
        self._tell()

    def becomes(self, training: Run, state: SeedState) -> None:
        """It has come to a state."""
        if training.request.seed in self._now:
            self._now[training.request.seed] = _progress(training).model_copy(update={"state": state})
            self._tell()

    def epoch(self, training: Run, epoch: int) -> None:
        """It has ended an epoch."""
        seed = training.request.seed
        if seed in self._now:
            self._now[seed] = self._now[seed].model_copy(update={"epoch": epoch})
            self._tell()

    def _tell(self) -> None:
        if self._now:
            self._run.telling.seeds(list(self._now.values()))


@contextmanager
def named(run: Run) -> Iterator[None]:
    """A refusal of one training of several says which it was."""
    try:
        yield
    except RefusedError as refused:
        if run.part is None:
            raise
        failure = refused.failure
        raise RefusedError(failure.reason, f"{run.part.name}: {failure.message}", failure.field) from refused


def trained(run: Run) -> dict[str, Any]:
    """The state of the stage train, of all together: means of the metrics, and the checkpoint of the fittest training.

    That has the highest ``fitness`` on the validation split, and the test split has no say; of equals it has the lowest seed.
    """
    from pelagos_pipelines.training.progress import fitness

    states = {one.request.seed: one.read(TRAINED) for one in trainings(run)}
    seed = min(states, key=lambda each: (_descending(fitness(states[each]["metrics"], run.request.task)), each))
    means, deviations = together([state["metrics"] for state in states.values()])
    chosen = {name: states[seed][name] for name in ("epochs", "bestEpoch", "bestSha256")}
    # What all began with is the same; earlier releases say nothing of it.
    chosen["warnings"] = states[seed].get("warnings", [])
    return chosen | {"metrics": _known(means), "deviations": deviations, "seed": seed}


def evaluated(run: Run, at: float) -> dict[str, Any]:
    """The state of the stage evaluate, of all together."""
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
    """Means and sample standard deviations (n - 1) of metrics; of one that any training lacks, the mean is None."""
    names = dict.fromkeys(name for metrics in each for name in metrics)
    found = {name: [metrics.get(name) for metrics in each] for name in names}
    whole = {name: _numbers(values) for name, values in found.items()}
    means = {name: statistics.fmean(values) if values else None for name, values in whole.items()}
    return means, {name: statistics.stdev(values) for name, values in whole.items() if len(values) > 1}


def _numbers(values: Sequence[float | None]) -> list[float]:
    """All of them; none when one is missing."""
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
