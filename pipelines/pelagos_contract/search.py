"""Hyperparameter search: the part that the TrainingRun's spec and the request share, and the progress of trials.

Defaults are applied by code and not by the fields, so that they are not written into stored objects and can change later.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.tasks import TASKS, Task
from pelagos_contract.values import Decimal

MOST_TRIALS = 100
MOST_VALUES = 32
STARTUP_TRIALS, WARM_UP_EPOCHS = 5, 1
"""Defaults of pruning."""
LONGEST = 300
"""Most characters of the message about a failed trial."""
LOSS = "validation/loss"

Scale = Annotated[
    Literal["Linear", "Log"] | None,
    Field(description="How values in between are drawn; Log: every order of magnitude equally often. Default: Linear."),
]


class Decimals(Strict):
    """The allowed values of a number: a list, or a range."""

    values: Annotated[
        list[Decimal] | None, Field(min_length=1, max_length=MOST_VALUES, description="The values to try.")
    ] = None
    minimum: Annotated[Decimal | None, Field(description="The smallest value.")] = None
    maximum: Annotated[Decimal | None, Field(description="The largest value.")] = None
    scale: Scale = None


class BatchSizes(Strict):
    """The allowed numbers of images in one step."""

    values: Annotated[
        list[Annotated[int, Field(ge=1, le=4096)]] | None,
        Field(min_length=1, max_length=MOST_VALUES, description="The values to try."),
    ] = None
    minimum: Annotated[int | None, Field(ge=1, le=4096, description="The smallest value.")] = None
    maximum: Annotated[int | None, Field(ge=1, le=4096, description="The largest value.")] = None
    scale: Scale = None


class EpochCounts(Strict):
    """The allowed numbers of passes over the training split."""

    values: Annotated[
        list[Annotated[int, Field(ge=1, le=10000)]] | None,
        Field(min_length=1, max_length=MOST_VALUES, description="The values to try."),
    ] = None
    minimum: Annotated[int | None, Field(ge=1, le=10000, description="The smallest value.")] = None
    maximum: Annotated[int | None, Field(ge=1, le=10000, description="The largest value.")] = None
    scale: Scale = None


class ImageSizes(Strict):
    """The allowed longest sides in pixels, in steps of 32."""

    values: Annotated[
        list[Annotated[int, Field(ge=32, le=4096)]] | None,
        Field(min_length=1, max_length=MOST_VALUES, description="The values to try."),
    ] = None
    minimum: Annotated[int | None, Field(ge=32, le=4096, description="The smallest value.")] = None
    maximum: Annotated[int | None, Field(ge=32, le=4096, description="The largest value.")] = None


class Optimizers(Strict):
    """The optimisers to try."""

    values: Annotated[
        list[Literal["AdamW", "SGD"]], Field(min_length=1, max_length=2, description="The optimisers to try.")
    ]


class Space(Strict):
    """Hyperparameters in which trials differ; all others are those of spec.hyperparameters."""

    learning_rate: Annotated[Decimals | None, Field(description="Initial learning rates.")] = None
    weight_decay: Annotated[Decimals | None, Field(description="Weight decays.")] = None
    batch_size: Annotated[BatchSizes | None, Field(description="Images in one step.")] = None
    image_size: Annotated[ImageSizes | None, Field(description="Longest sides of the model's input in pixels.")] = None
    epochs: Annotated[EpochCounts | None, Field(description="Passes over the training split.")] = None
    optimizer: Annotated[Optimizers | None, Field(description="Optimisers.")] = None

    def named(self) -> dict[str, Any]:
        """The searched parts by hyperparameter names in YAML, in the order of the fields."""
        fields = {(field.alias or name): getattr(self, name) for name, field in type(self).model_fields.items()}
        return {name: found for name, found in fields.items() if found is not None}


class Pruning(Strict):
    """Ending trials early that do worse than the median of the earlier ones at the same epoch (median stopping rule)."""

    startup_trials: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_TRIALS,
            description=f"This many trials are completed before any is ended early. Default: {STARTUP_TRIALS}.",
        ),
    ] = None
    warm_up_epochs: Annotated[
        int | None,
        Field(
            ge=0,
            le=10000,
            description=f"Epochs of a trial after which it may be ended early. Default: {WARM_UP_EPOCHS}.",
        ),
    ] = None


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics by which trials for a task can be compared."""
    described = TASKS[task]
    return tuple(f"validation/{name}" for name in dict.fromkeys((described.fitness, *described.validation)))


class Search(Strict):
    """The hyperparameters to search, the number of trials, and the metric to compare them by, always on the validation split."""

    method: Annotated[
        Literal["Random", "Tpe", "Grid"],
        Field(
            description="Random: drawn independently. Tpe: the first 10 at random, then where earlier ones did well (a "
            "tree-structured Parzen estimator). Grid: each combination of values, in the order of the space."
        ),
    ]
    trials: Annotated[
        int, Field(ge=1, le=MOST_TRIALS, description="Number of trials; a grid ends with its last combination.")
    ]
    parallelism: Annotated[
        int | None,
        Field(
            ge=1,
            description="Trials at the same time, which share the cores and GPUs of spec.resources: that many form a round, "
            "whose trials learn only from earlier rounds. Default: 1; each learns from all before it.",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=0,
            le=2147483647,
            description="Seed of what is drawn; trials are trained with the first of spec.seeds. Default: 0.",
        ),
    ] = None
    metric: Annotated[
        str | None,
        Field(
            pattern=r"^validation/[A-Za-z0-9-]+$",
            max_length=64,
            description="What trials are compared by, of their best epoch: "
            + "; ".join(f"of models that {TASKS[task].verb} {', '.join(metrics_of(task))}" for task in TASKS)
            + ". The smallest loss is the best, for others the largest value. Default: the one that chooses the best epoch.",
        ),
    ] = None
    epochs: Annotated[
        int | None,
        Field(ge=1, le=10000, description="Epochs of a trial. Default: as many as spec.hyperparameters says."),
    ] = None
    space: Annotated[Space, Field(description="Hyperparameters that trials differ in.")]
    pruning: Annotated[
        Pruning | None,
        Field(description="When a trial is ended early. Without it: never. An empty object has the defaults."),
    ] = None
    then: Annotated[
        Literal["Retrain", "TakeBest"] | None,
        Field(
            description="Retrain: the best hyperparameters are trained with all of spec.seeds. TakeBest: the model is that of "
            "the best trial, with its number of epochs. Default: Retrain."
        ),
    ] = None

    @property
    def size(self) -> int:
        """The largest number of trials: a grid may have fewer points than ``trials``."""
        if self.method != "Grid":
            return self.trials
        return min(self.trials, math.prod(len(each.values or ()) for each in self.space.named().values()))

    @property
    def width(self) -> int:
        """The number of trials in a round, which are trained in parallel."""
        return self.parallelism or 1

    def known_to(self, number: int) -> int:
        """The number of trials, those of earlier rounds, that have certainly ended when trial ``number`` begins."""
        return number - number % self.width

    def metric_for(self, task: Task) -> str:
        """The metric by which trials are compared."""
        return self.metric or f"validation/{TASKS[task].fitness}"

    def epochs_of_trials(self, usual: int) -> int:
        """The largest number of epochs of a trial, where a training has ``usual``."""
        searched = self.space.epochs
        if searched is None:
            return self.epochs or usual
        return searched.maximum or max(searched.values or (usual,))


def planned_epochs(search: Search | None, usual: int, seeds: int) -> tuple[int, int]:
    """The largest total of epochs of a search's trials, and of the trainings that follow, with ``usual`` epochs for each seed."""
    if search is None:
        return 0, usual * seeds
    most = search.epochs_of_trials(usual)
    follow = most if search.then == "TakeBest" or search.space.epochs is not None else usual
    return most * search.size, follow * seeds


class TrialState(StrEnum):
    """The state of a trial."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    PRUNED = "Pruned"
    FAILED = "Failed"


class Trial(Strict):
    """One trial. ``value``: the metric of its best epoch so far. ``reason``: why it failed, as in conditions."""

    number: Annotated[int, Field(ge=0, lt=MOST_TRIALS)]
    state: TrialState
    parameters: Annotated[dict[str, Annotated[str, Field(max_length=32)]], Field(max_length=16)]
    epochs: Annotated[int, Field(ge=0, le=10000)] = 0
    value: Annotated[float | None, Field(allow_inf_nan=False)] = None
    reason: Annotated[str | None, Field(max_length=64)] = None
    message: Annotated[str | None, Field(max_length=LONGEST)] = None


class SearchProgress(Strict):
    """The progress of a search. ``best``: the number of the best completed trial."""

    metric: Annotated[str, Field(max_length=64)]
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)]
    history: Annotated[list[Trial], Field(max_length=MOST_TRIALS)] = []
    best: int | None = None


def better(metric: str, value: float) -> float:
    """The value with its sign changed where lower is better, so that larger is always better."""
    return -value if metric == LOSS else value
