"""Models that are trained without the images of one group each: which there are, and what is said of them together.

Each is a training of its own, as each of several seeds is (seeds.py): a folder in the workspace, a run below that of the step in
MLflow; one that is finished is not done again. Used by the stages train and evaluate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelagos_contract.dataset import SPLITS
from pelagos_contract.metrics import of_left_out
from pelagos_contract.progress import LeftOutProgress, LeftOutState, SeedState
from pelagos_contract.tasks import TASKS
from pelagos_contract.text import shown
from pelagos_contract.training import Evaluation, LeftOut, LeftOutGroup
from pelagos_pipelines.steps.runs import Part, Run
from pelagos_pipelines.steps.seeds import EVALUATED, TRAINED

if TYPE_CHECKING:
    from pelagos_pipelines.evaluation.left_out import Groups
    from pelagos_pipelines.evaluation.samples import GroundTruth

PLAN, OUTCOME = "leave-one-out-groups", "leave-one-out"
"""Names of states: the values, in the order of the trainings; and what is said of all of them."""
RESULT = "leaveOneOut"
"""The member of the run's state, and of its result."""
_MOST_UNKNOWN = 1_000
"""Names of images that are kept: as many as anybody reads."""


@dataclass(frozen=True)
class Truth:
    """A version by groups, read once for all of them."""

    known: GroundTruth
    groups: Groups

    def of(self, training: Run, run: Run) -> GroundTruth:
        """What one of the trainings of a run sees."""
        from pelagos_pipelines.evaluation import left_out

        return left_out.without(self.known, self.groups, value_of(training, run))


def grouped(run: Run, known: GroundTruth) -> Truth:
    """All images, of all splits. Raises RefusedError as evaluation.left_out does."""
    from pelagos_pipelines.evaluation import left_out

    field = run.request.evaluation.leave_one_out
    assert field is not None
    return Truth(known, left_out.of(known, field))


def read(run: Run) -> Truth:
    """The same, read from the version, whose images come here from object storage."""
    from pelagos_pipelines.evaluation import ground_truth

    return grouped(run, ground_truth.read(run.with_dataset(*SPLITS), check_content=True))


def plan(run: Run) -> None:
    """Note which groups there are, before anything is trained. Raises as ``read`` does."""
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
    """One for each group; none where nobody asks for them."""
    field = run.request.evaluation.leave_one_out
    if field is None:
        return []
    # Nothing else that is measured of the model is of these; and Weights & Biases is told of the model alone.
    evaluation = Evaluation(max_detections=run.request.evaluation.max_detections)
    request = run.request.model_copy(update={"seeds": [], "wandb": None, "evaluation": evaluation})
    return [
        run.one_of(Part(f"groups/{number}", shown(f"without {field} {value}")), request)
        for number, (value, _) in enumerate(run.read(PLAN)["groups"])
    ]


def value_of(training: Run, run: Run) -> str:
    """The value that is left out."""
    assert training.part is not None
    return str(run.read(PLAN)["groups"][int(training.part.folder.rpartition("/")[2])][0])


class Told:
    """How far each of them is, for those who watch."""

    def __init__(self, run: Run, each: Sequence[Run]) -> None:
        """As the states that are there have it."""
        self._run, self._field = run, run.request.evaluation.leave_one_out
        self._now = {one.part: _progress(one, value_of(one, run)) for one in each}
        self._tell()

    def becomes(self, training: Run, state: SeedState) -> None:
        """It has come to a state."""
        now = _progress(training, self._now[training.part].value)
        self._now[training.part] = now.model_copy(update={"state": state})
        self._tell()

    def epoch(self, training: Run, epoch: int) -> None:
        """It has ended an epoch."""
        self._now[training.part] = self._now[training.part].model_copy(update={"epoch": epoch})
        self._tell()

    def _tell(self) -> None:
        if self._now and self._field is not None:
            self._run.telling.left_out(LeftOutProgress(field=self._field, groups=list(self._now.values())))


def stands(run: Run, each: Sequence[Run]) -> bool:
    """Whether what is said of all of them is there, and is of the checkpoints that there are."""
    return run.finished(OUTCOME) and run.read(OUTCOME)["checkpoints"] == _checkpoints(each)


def outcome(run: Run, each: Sequence[Run], truth: Truth, at: float) -> dict[str, Any]:
    """The state of all of them together: metrics, deviations, intervals and warnings, and what the result says of them."""
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
    """The ``state`` of the stage evaluate with the ``outcome``; twice is as once."""
    own = [line for line in state["warnings"] if line not in found["warnings"]]
    further = {name: {**state.get(name, {}), **found[name]} for name in ("metrics", "deviations", "intervals")}
    return {**state, **further, "warnings": [*own, *found["warnings"]], RESULT: found[RESULT]}


def _untaught(run: Run, each: Sequence[Run], truth: Truth) -> list[str]:
    """Of groups with classes that no other image shows: their model cannot know them."""
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
    """Those of single groups, as far as there are some."""
    from pelagos_pipelines.evaluation import slices

    found = {}
    for value, state in measured.items():
        if slices.is_of_one_deployment(field, slices.values(truth.groups.images[value], "deployment")):
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
