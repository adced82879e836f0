"""What a TrainingRun is made from, and the names and keys that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.api.training_run import FROZEN, TrainingRunSpec
from pelagos.decisions import digests, rules
from pelagos.ports.pipelines import RunName
from pelagos_contract import algorithms, history

HISTORY = history.of_subject("TrainingRun")
ALGORITHMS = "algorithms"
"""Among frozen inputs: those that are not the first of their kind."""

"""On the tracked run: what it is for, by which a resource that has lost its status finds its inputs again."""


@dataclass(frozen=True)
class DatasetVersion:
    """A version of a Dataset, as its status or our frozen record has it."""

    name: str
    version: str
    uri: str
    task: str

    def as_status(self) -> dict[str, Any]:
        """The form that is kept in status and in the tracked run."""
        return {"name": self.name, "version": self.version, "uri": self.uri, "task": self.task}


@dataclass(frozen=True)
class Frozen:
    """The inputs as they were when the run was keyed: the frozen fields of spec, and the dataset version."""

    inputs: Mapping[str, Any]
    dataset: DatasetVersion

    @property
    def digest(self) -> str:
        """Key of the one run."""
        return digests.digest({"inputs": self.inputs, "dataset": self.dataset.as_status()})

    @property
    def spec(self) -> TrainingRunSpec:
        """The frozen fields, each with the default that it had at first where it was left out."""
        fields = {name: value for name, value in self.inputs.items() if name != ALGORITHMS}
        return TrainingRunSpec.model_validate(HISTORY.completed(fields, TrainingRunSpec))

    @property
    def made_by(self) -> algorithms.Versions:
        """By which the run was to be made; one that is not there has version 1."""
        return self.inputs.get(ALGORITHMS) or {}

    @property
    def made_by_now(self) -> algorithms.Versions:
        """By which an attempt would be made now."""
        return algorithms.of_training(self.inputs["model"]["architecture"], self.dataset.task)


def freeze(spec: TrainingRunSpec, dataset: DatasetVersion, made_by: algorithms.Versions | None = None) -> Frozen:
    """The inputs as they are frozen now; ``made_by``: for what is made already."""
    now = algorithms.of_training(spec.model.architecture, dataset.task)
    versions = algorithms.canonical(now if made_by is None else made_by)
    return Frozen(inputs(spec) | ({ALGORITHMS: versions} if versions else {}), dataset)


def inputs(spec: TrainingRunSpec) -> dict[str, Any]:
    """The fields of spec that decide the outcome of training, in their canonical form."""
    return _frozen_of(HISTORY.canonical(spec))


def _frozen_of(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in FROZEN if name in document}


def _fields(spec: TrainingRunSpec) -> dict[str, Any]:
    return _frozen_of(spec.model_dump(by_alias=True, mode="json", exclude_none=True))


def changed(frozen: Frozen, spec: TrainingRunSpec) -> str | None:
    """In words, the first frozen field that ``spec`` gives another value now; None when all are as they were.

    A default that is another one since the run was keyed is no change.
    """
    before = _fields(frozen.spec)
    return rules.changed_frozen(before, HISTORY.kept(before, _fields(spec), TrainingRunSpec))


def name_run(uid: str, frozen: Frozen) -> RunName:
    """Name of the one pipeline run."""
    return digests.run_name("training", uid, frozen.digest)


def record_key(frozen: Frozen) -> str:
    """Digest of what decides the outcome, without where the version lies: that changes when a cluster is rebuilt.

    Nor does it tell by which algorithms: a rebuilt cluster finds what was made before an upgrade.
    """
    dataset = {name: value for name, value in frozen.dataset.as_status().items() if name != "uri"}
    return digests.digest({"inputs": _frozen_of(HISTORY.canonical(frozen.spec, only_unusual=True)), "dataset": dataset})


def resources_key(spec: TrainingRunSpec) -> str:
    """Names spec.resources; empty for the usual ones, so that runs of earlier releases are not tried again."""
    asked = HISTORY.canonical(spec.resources, "resources", only_unusual=True)
    return f"+{digests.digest(asked)[7:19]}" if asked else ""
