"""The pipelines there are: the table of what the data plane compiles and the control plane starts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from pelagos_contract.registry import Registry

Flow = Literal["dataset-preparation", "training"]


@dataclass(frozen=True)
class StepDescription:
    """A step: stages that one process, or pod, does one after the other. ``on_gpus``: it computes on the GPUs of its run."""

    stages: tuple[str, ...]
    on_gpus: bool = False

    @property
    def name(self) -> str:
        """As pipelines call it."""
        return "-".join(self.stages)


@dataclass(frozen=True)
class FlowDescription:
    """A flow: its name, by which the control plane asks for it.

    ``stages`` in their order. ``on_gpus``: those that compute on the GPUs of a run; others must not hold one idle.
    ``is_tracked``: steps log in to what tracks. Steps that read strangers' files do not.
    """

    name: Flow
    stages: tuple[str, ...]
    on_gpus: frozenset[str] = frozenset()
    is_tracked: bool = False

    def steps(self, *, gpus: bool) -> tuple[StepDescription, ...]:
        """As few as there can be for a run with or without GPUs: each costs pods, and a framework that is loaded anew."""
        alike = groupby(self.stages, lambda stage: gpus and stage in self.on_gpus)
        return tuple(StepDescription(tuple(stages), on_gpus) for on_gpus, stages in alike)

    def file(self, *, gpus: bool) -> str:
        """The name of the compiled flow with these steps, without suffix."""
        return f"{self.name}-on-gpus" if gpus and self.on_gpus else self.name


PREPARATION = FlowDescription("dataset-preparation", stages=("prepare",))
TRAINING = FlowDescription(
    "training", stages=("train", "evaluate", "export"), on_gpus=frozenset({"train", "evaluate"}), is_tracked=True
)
FLOWS = Registry("flow", (PREPARATION, TRAINING))
