"""The pipelines there are: the table of what the data plane compiles and the control plane starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pelagos_contract.registry import Registry

Flow = Literal["dataset-preparation", "training"]


@dataclass(frozen=True)
class FlowDescription:
    """A flow: its name, by which the control plane asks for it, and that of its file, without suffix.

    ``steps`` in their order. ``on_gpus``: those that compute on the GPUs of a run; others must not hold one idle. ``is_tracked``:
    steps log in to what tracks. Steps that read strangers' files do not.
    """

    name: Flow
    steps: tuple[str, ...]
    on_gpus: frozenset[str] = frozenset()
    is_tracked: bool = False


PREPARATION = FlowDescription("dataset-preparation", steps=("prepare",))
TRAINING = FlowDescription(
    "training", steps=("train", "evaluate", "export"), on_gpus=frozenset({"train", "evaluate"}), is_tracked=True
)
FLOWS = Registry("flow", (PREPARATION, TRAINING))
