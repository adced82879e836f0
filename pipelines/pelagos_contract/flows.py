"""The table of all pipelines, which the data plane compiles and the control plane starts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from pelagos_contract.registry import Registry

Flow = Literal["dataset-preparation", "training"]


@dataclass(frozen=True)
class StepDescription:
    """A step: stages that one process, or pod, runs one after the other. ``on_gpus``: it computes on the GPUs of its run."""

    stages: tuple[str, ...]
    on_gpus: bool = False

    @property
    def name(self) -> str:
        """The step's name in pipelines."""
        return "-".join(self.stages)


@dataclass(frozen=True)
class FlowDescription:
    """A flow, which the control plane requests by its name.

    ``stages`` are in order. ``on_gpus``: the stages that compute on the GPUs of a run; others must not hold an idle GPU.
    ``is_tracked``: its steps get credentials for the tracking server. Steps that read untrusted files do not.
    """

    name: Flow
    stages: tuple[str, ...]
    on_gpus: frozenset[str] = frozenset()
    is_tracked: bool = False

    def steps(self, *, gpus: bool) -> tuple[StepDescription, ...]:
        """The fewest possible steps for a run with or without GPUs, since each costs a pod and loads its framework again."""
        alike = groupby(self.stages, lambda stage: gpus and stage in self.on_gpus)
        return tuple(StepDescription(tuple(stages), on_gpus) for on_gpus, stages in alike)

    def file(self, *, gpus: bool) -> str:
        """The file name, without suffix, of the compiled flow with these steps."""
        return f"{self.name}-on-gpus" if gpus and self.on_gpus else self.name


PREPARATION = FlowDescription("dataset-preparation", stages=("prepare",))
TRAINING = FlowDescription(
    "training", stages=("train", "evaluate", "export"), on_gpus=frozenset({"train", "evaluate"}), is_tracked=True
)
FLOWS = Registry("flow", (PREPARATION, TRAINING))
