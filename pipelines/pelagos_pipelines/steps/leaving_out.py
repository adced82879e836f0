"""Trainings without the images of one group each (leave one group out): their plan, and their results together.

Each is a separate training, like each of several seeds (seeds.py), with a folder in the workspace and a run in MLflow below the
step's run. Finished ones are not repeated. Used by the stages train and evaluate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelagos_contract.metrics import of_left_out
from pelagos_contract.progress import LeftOutProgress, LeftOutState, SeedState
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import TASKS
from pelagos_contract.text import shown
from pelagos_contract.training import Evaluation, LeftOut, LeftOutGroup
from pelagos_pipelines.steps.runs import Part, Run
from pelagos_pipelines.steps.seeds import EVALUATED, TRAINED

if TYPE_CHECKING:
    from pelagos_pipelines.evaluation.left_out import Groups
    from pelagos_pipelines.evaluation.samples import GroundTruth

PLAN, OUTCOME = "leave-one-out-groups", "leave-one-out"
"""Names of states: the plan with the groups' values, in the order of trainings, and the outcome of all of them."""
RESULT = "leaveOneOut"
"""The field in the run's state, and in its result."""
_MOST_UNKNOWN = 1_000
"""The most names of images without a group that are kept: nobody reads more."""


@dataclass(frozen=True)
class Truth:
    """A version with its groups, read once for all trainings."""

    known: GroundTruth
    groups: Groups

    def of(self, training: Run, run: Run) -> GroundTruth:
        """The ground truth for one of the run's trainings, without its group."""
        from pelagos_pipelines.evaluation import left_out

        return left_out.without(self.known, self.groups, value_of(training, run))


def grouped(run: Run, known: GroundTruth) -> Truth:
    """All images of all splits, by groups. Raises RefusedError as evaluation.left_out does."""
    from pelagos_pipelines.evaluation import left_out

    field = run.request.evaluation.leave_one_out
    assert field is not None
    return Truth(known, left_out.of(known, field))


def read(run: Run) -> Truth:
    """Like `grouped`, after reading the version, whose images are downloaded if they are on object storage."""
    from pelagos_pipelines.evaluation import ground_truth

    return grouped(run, ground_truth.read(run.with_dataset(*SPLITS), check_content=True))


def plan(run: Run) -> None:
    """Keep the list of groups before anything is trained. Raises as `read` does."""
    if run.request.evaluation.leave_one_out is None or run.finished(PLAN):
        return
    from pelagos_pipelines.evaluation import left_out

    truth = read(run)
    for value in truth.groups.images:
        left_out.without(truth.known, truth.groups, value)
    unknown = [sample.name for sample in truth.groups.unknown]
    images = [[value, len(samples)] for value, samples in truth.groups.images.items()]
    run.finish(PLAN, {"groups": images, "unknown": unknown[:_MOST_UNKNOWN], "unknowns": len(unknown)})


def trainings(run: Run) -> list[Run]:
    """One training for each group; none if the request has no such field."""
    field = run.request.evaluation.leave_one_out
    if field is None:
        return []
    # These trainings get none of the model's other measurements, and are not reported to Weights & Biases.
    evaluation = Evaluation(max_detections=run.request.evaluation.max_detections)
    request = run.request.model_copy(update={"seeds": [], "wandb": None, "evaluation": evaluation})
    return [
        run.one_of(Part(f"groups/{number}", shown(f"without {field} {value}")), request)
        for number, (value, _) in enumerate(run.read(PLAN)["groups"])
    ]


def value_of(training: Run, run: Run) -> str:
    """The value of the group that a training leaves out."""
    assert training.part is not None
    return str(run.read(PLAN)["groups"][int(training.part.folder.rpartition("/")[2])][0])


class Told:
    """Reports the progress of each of these trainings."""

    def __init__(self, run: Run, each: Sequence[Run]) -> None:
        """Start from the states of earlier attempts."""
        self._run, self._field = run, run.request.evaluation.leave_one_out
        self._now = {one.part: _progress(one, value_of(one, run)) for one in each}
        self._tell()

    def becomes(self, training: Run, state: SeedState) -> None:
        """Report that a training has entered a state."""
        now = _progress(training, self._now[training.part].value)
        self._now[training.part] = now.model_copy(update={"state": state})
        self._tell()

    def epoch(self, training: Run, epoch: int) -> None:
        """Report that a training has finished an epoch."""
        self._now[training.part] = self._now[training.part].model_copy(update={"epoch": epoch})
        self._tell()

    def _tell(self) -> None:
        if self._now and self._field is not None:
            self._run.telling.left_out(LeftOutProgress(field=self._field, groups=list(self._now.values())))


def stands(run: Run, each: Sequence[Run]) -> bool:
    """Whether the joint outcome exists, and belongs to the present checkpoints."""
    return run.finished(OUTCOME) and run.read(OUTCOME)["checkpoints"] == _checkpoints(each)


def outcome(run: Run, each: Sequence[Run], truth: Truth, at: float) -> dict[str, Any]:
    """The joint outcome: metrics, deviations, intervals, warnings, and the entry for the result."""
    from pelagos_pipelines.evaluation import left_out

    field, noted = run.request.evaluation.leave_one_out, run.read(PLAN)
    assert field is not None
    measured = {value_of(one, run): one.read(EVALUATED) for one in each}
    epochs = {value_of(one, run): one.read(TRAINED)["epochs"] for one in each}
    metrics, deviations = left_out.together(field, {value: state["metrics"] for value, state in measured.items()})
    primary = TASKS[run.request.task].primary_metric
    images = dict(noted["groups"])
    undefined = [value for value in measured if metrics.get(of_left_out(field, primary, value)) is None]
    told = LeftOut(
        field=field,
        metric=primary,
        unknown=noted["unknowns"],
        groups=[
            LeftOutGroup(value=value, images=images[value], epochs=epochs[value], warnings=state["warnings"])
            for value, state in measured.items()
        ],
    )
    return {
        "metrics": metrics,
        "deviations": deviations,
        "intervals": _intervals(field, measured, truth),
        "warnings": [
            *left_out.excluded(field, noted["unknown"], noted["unknowns"]),
            *_undefined(field, primary, undefined),
            *_untaught(run, each, truth),
        ],
        RESULT: told.model_dump(by_alias=True),
        "checkpoints": _checkpoints(each),
        "at": at,
    }


def joined(state: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The ``state`` of the stage evaluate with the outcome ``found`` added; adding it again changes nothing."""
    own = [line for line in state["warnings"] if line not in found["warnings"]]
    further = {name: {**state.get(name, {}), **found[name]} for name in ("metrics", "deviations", "intervals")}
    return {**state, **further, "warnings": [*own, *found["warnings"]], RESULT: found[RESULT]}


def _untaught(run: Run, each: Sequence[Run], truth: Truth) -> list[str]:
    """A warning about groups with classes that no other image shows, which their model cannot know."""
    from pelagos_pipelines.annotations.untrusted_input import format_names
    from pelagos_pipelines.evaluation import left_out

    found = {value_of(one, run): left_out.untaught(truth.of(one, run)) for one in each}
    told = [f"{value} ({format_names(classes)})" for value, classes in found.items() if classes]
    if not told:
        return []
    field = run.request.evaluation.leave_one_out
    return [
        f"{len(told)} groups of {field} show classes that the model without them was never taught: {format_names(told)}"
    ]


def _undefined(field: str, metric: str, values: Sequence[str]) -> list[str]:
    from pelagos_pipelines.annotations.untrusted_input import format_names

    if not values:
        return []
    listed = format_names(values)
    return [
        f"{len(values)} groups of {field} show nothing that {metric} could be computed from, and are not in its mean: {listed}"
    ]


def _intervals(field: str, measured: Mapping[str, Mapping[str, Any]], truth: Truth) -> dict[str, Any]:
    """The intervals of single groups, if there are any."""
    from pelagos_pipelines.evaluation import fields, slices

    found = {}
    for value, state in measured.items():
        if slices.is_of_one_deployment(field, fields.values(truth.groups.images[value], "deployment")):
            continue
        for name, interval in state.get("intervals", {}).items():
            first, _, metric = name.partition("/")
            if first == "test" and "/" not in metric:
                found[of_left_out(field, metric, value)] = interval
    return found


def _checkpoints(each: Sequence[Run]) -> list[str | None]:
    return [one.read(TRAINED).get("bestSha256") for one in each]


def _progress(training: Run, value: str) -> LeftOutState:
    if not training.finished(TRAINED):
        return LeftOutState(value=value, state=SeedState.WAITING)
    state = SeedState.EVALUATED if training.finished(EVALUATED) else SeedState.TRAINED
    return LeftOutState(value=value, state=state, epoch=training.read(TRAINED)["epochs"])
