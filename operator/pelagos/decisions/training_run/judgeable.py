"""Which metrics gates may name, as far as that is known before anything is trained. Pure.

The description of a task says which metrics it has, and the status of the Dataset which classes. Anything else is judged once
there are figures.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pelagos.api.gates import Gate
from pelagos.api.training_run import TrainingRunSpec
from pelagos_contract import metrics
from pelagos_contract.families import by_architecture
from pelagos_contract.metrics import Kind, whole
from pelagos_contract.tasks import TASKS, Task

MOST_NAMED = 20
"""Most names that a message lists."""
_OF_ONE_MODEL = metrics.SETTINGS | {"ECE", "ECE-uncalibrated"}
"""Metrics that cannot be computed again from a model's answers for each image, so models are not compared by them."""
_LEFT_TO_THE_RESULT = ("validation", Kind.SLICE, Kind.WORST, Kind.LEFT_OUT)
"""First parts of the names of other figures. Which of those exist depends on the family."""


def objection(spec: TrainingRunSpec, dataset: str, classes: Sequence[str] | None) -> str | None:
    """A message about the first gate that no training could pass, because it names something unknown; None if there is none.

    ``classes`` are those of the version of ``dataset`` to train on; None when they are not known.
    """
    task = by_architecture()[spec.model.architecture].task
    for number, gate in enumerate(spec.gates):
        if (lack := _lack(gate, task, is_calibrated=bool(spec.evaluation.calibration))) is not None:
            return f"spec.gates[{number}].metric: {lack}"
        if gate.champion is not None and (metric := gate.name.removeprefix(metrics.TEST)) in _OF_ONE_MODEL:
            return f"spec.gates[{number}].metric: models are not compared by {metric}; give it a minimum or a maximum"
        if (lack := _not_left_out(gate, spec)) is not None:
            return f"spec.gates[{number}].metric: {lack}"
        if gate.slice is not None and gate.slice.field not in (sliced := spec.evaluation.slices or []):
            line = f"slices: [{', '.join([*sliced, gate.slice.field])}]"
            return (
                f"spec.gates[{number}].slice.field: the test split is not sliced by {gate.slice.field}; add {line} to "
                "spec.evaluation of a new TrainingRun"
            )
        if classes is not None and (lack := _class_lack(gate, dataset, classes)) is not None:
            field = "class" if gate.class_ is not None else "metric"
            return f"spec.gates[{number}].{field}: {lack}"
    return None


def listed(names: Iterable[str]) -> str:
    """The names in order, for a message: the first MOST_NAMED, and how many more there are."""
    every = sorted(names)
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return f"{', '.join(every[:MOST_NAMED]) or 'none of this kind'}{more}"


def meant(name: str, known: Iterable[str]) -> str:
    """A "did you mean" with the known names that are most similar, regardless of case; empty when none is."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(folded[each]) for each in near)}?)" if near else ""


def _lack(gate: Gate, task: Task, *, is_calibrated: bool) -> str | None:
    name = gate.name if gate.slice is None else whole(gate.metric)
    kind, _, rest = name.partition("/")
    description = TASKS[task]
    if kind in _LEFT_TO_THE_RESULT:
        return None
    if kind == "export":
        known = metrics.EXPORTED
        return (
            None
            if gate.name in known
            else f"there is no {gate.name}{meant(gate.name, known)}; there is {listed(known)}"
        )
    measured = (*description.metrics, *description.overall, *(description.calibrated if is_calibrated else ()))
    if kind != "test":
        return f"there are no metrics of {kind!r}; a gate names one of the test split: {listed(measured)}"
    metric, _, label = rest.partition("/")
    if metric in description.calibrated and not is_calibrated:
        return f"{metric} is measured on calibrated scores; set spec.evaluation.calibration: true in a new TrainingRun"
    if metric not in measured:
        return f"models that {description.verb} have no {metric}{meant(metric, measured)}; they have {listed(measured)}"
    if label and metric not in description.metrics:
        of_class = listed(description.metrics)
        return (
            f"{metric} is measured over all classes together, not for a single one; leave out the class, or name one of "
            f"{of_class}"
        )
    return None


def _not_left_out(gate: Gate, spec: TrainingRunSpec) -> str | None:
    name = metrics.parsed(gate.name)
    if name is None or name.kind is not Kind.LEFT_OUT or name.field == spec.evaluation.leave_one_out:
        return None
    return f"no model is trained without a {name.field}; set spec.evaluation.leaveOneOut: {name.field} in a new TrainingRun"


def _class_lack(gate: Gate, dataset: str, classes: Sequence[str]) -> str | None:
    if not gate.name.startswith(metrics.TEST):
        return None
    label = gate.name.removeprefix(metrics.TEST).partition("/")[2]
    if not label or label in map(metrics.class_name, classes):
        return None
    named = label if gate.class_ is None else gate.class_
    return f"Dataset {dataset} has no class {named!r}{meant(named, classes)}; its classes are {listed(classes)}"
