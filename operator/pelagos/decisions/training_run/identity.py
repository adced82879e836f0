"""The inputs of a TrainingRun, and the names and keys derived from them."""

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
"""Field of the frozen inputs with the versions of algorithms that are not 1."""


@dataclass(frozen=True)
class DatasetVersion:
    """A version of a Dataset, from its status or from frozen inputs."""

    name: str
    version: str
    uri: str
    task: str

    def as_status(self) -> dict[str, Any]:
        """The form in which status and the tracked run's tags keep it."""
        return {"name": self.name, "version": self.version, "uri": self.uri, "task": self.task}


@dataclass(frozen=True)
class Frozen:
    """The inputs at the time when the run got its name: the frozen fields of spec, and the dataset version."""

    inputs: Mapping[str, Any]
    dataset: DatasetVersion

    @property
    def digest(self) -> str:
        """Identifies the inputs, and so the one run for them."""
        return digests.digest({"inputs": self.inputs, "dataset": self.dataset.as_status()})

    @property
    def spec(self) -> TrainingRunSpec:
        """The frozen fields as a spec. Fields that were left out have the default of the release that introduced them."""
        fields = {name: value for name, value in self.inputs.items() if name != ALGORITHMS}
        return TrainingRunSpec.model_validate(HISTORY.completed(fields, TrainingRunSpec))

    @property
    def made_by(self) -> algorithms.Versions:
        """Versions of the algorithms that the run was frozen with; those that are absent have version 1."""
        return self.inputs.get(ALGORITHMS) or {}

    @property
    def made_by_now(self) -> algorithms.Versions:
        """Versions of the algorithms that an attempt would be made with now."""
        return algorithms.of_training(self.inputs["model"]["architecture"], self.dataset.task)


def freeze(spec: TrainingRunSpec, dataset: DatasetVersion, made_by: algorithms.Versions | None = None) -> Frozen:
    """The inputs as frozen now; ``made_by`` has other versions of algorithms, for a result that exists already."""
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
    """A message about the first frozen field that has another value in ``spec`` now; None when there is none.

    A default that an upgrade has changed since is not a change.
    """
    before = _fields(frozen.spec)
    return rules.changed_frozen(before, HISTORY.kept(before, _fields(spec), TrainingRunSpec))


def name_run(uid: str, frozen: Frozen) -> RunName:
    """Name of the one pipeline run for these inputs."""
    return digests.run_name("training", uid, frozen.digest)


def record_key(frozen: Frozen) -> str:
    """Digest of the inputs without the version's uri, which changes when a cluster is rebuilt.

    Nor does it depend on versions of algorithms, so that a rebuilt cluster finds results from before an upgrade.
    """
    dataset = {name: value for name, value in frozen.dataset.as_status().items() if name != "uri"}
    return digests.digest({"inputs": _frozen_of(HISTORY.canonical(frozen.spec, only_unusual=True)), "dataset": dataset})


def resources_key(spec: TrainingRunSpec) -> str:
    """A short digest of spec.resources; empty for the defaults, so that runs of earlier releases are not tried again."""
    asked = HISTORY.canonical(spec.resources, "resources", only_unusual=True)
    return f"+{digests.digest(asked)[7:19]}" if asked else ""
