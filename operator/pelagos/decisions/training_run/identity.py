"""What a TrainingRun is made from, and the names and keys that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.api.training_run import FROZEN, TrainingRunSpec
from pelagos.decisions import digests, rules
from pelagos.ports.pipelines import RunName
from pelagos_contract.training import Evaluation

DIGEST_TAG = "pelagos.dev/inputs-digest"
INPUTS_TAG = "pelagos.dev/inputs"
DATASET_TAG = "pelagos.dev/dataset"
STORAGE_TAG = "pelagos.dev/storage-prefix"
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


def inputs(spec: TrainingRunSpec) -> dict[str, Any]:
    """The fields of spec that decide the outcome of training, without absent ones.

    The usual evaluation is left out, as by releases that knew no other: it must not change the names of runs.
    """
    usual = spec.evaluation == Evaluation()
    return {name: value for name, value in _frozen_fields(spec).items() if not (usual and name == "evaluation")}


def _frozen_fields(spec: TrainingRunSpec) -> dict[str, Any]:
    dumped = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {name: dumped[name] for name in FROZEN if name in dumped}


def _completed(frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Frozen inputs with the defaults of fields that did not exist when they were frozen: an upgrade is no change."""
    return _frozen_fields(TrainingRunSpec.model_validate(dict(frozen)))


def changed(frozen: Frozen, spec: TrainingRunSpec) -> str | None:
    """In words, the first frozen field that ``spec`` gives another value now; None when all are as they were."""
    return rules.changed_frozen(_completed(frozen.inputs), _frozen_fields(spec))


def _unusual(frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Frozen inputs that are no defaults: the same in every release that knows more fields."""
    spec = TrainingRunSpec.model_validate(dict(frozen))
    dumped = spec.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_defaults=True)
    return {name: dumped[name] for name in FROZEN if name in dumped}


def name_run(uid: str, frozen: Frozen) -> RunName:
    """Name of the one pipeline run."""
    return digests.run_name("training", uid, frozen.digest)


def record_key(frozen: Frozen) -> str:
    """Digest of what decides the outcome, without where the version lies: that changes when a cluster is rebuilt."""
    dataset = {name: value for name, value in frozen.dataset.as_status().items() if name != "uri"}
    return digests.digest({"inputs": _unusual(frozen.inputs), "dataset": dataset})


def resources_key(spec: TrainingRunSpec) -> str:
    """Names spec.resources; empty for the usual ones, so that runs of earlier releases are not tried again."""
    asked = spec.resources.model_dump(by_alias=True, mode="json", exclude_defaults=True)
    return f"+{digests.digest(asked)[7:19]}" if asked else ""
