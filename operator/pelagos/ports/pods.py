"""A platform's additions to the pods of steps and of model servers: values of settings for the engines that create them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

OURS = ("app.kubernetes.io/", "pelagos.dev/")


def _of_others(named: dict[str, str]) -> dict[str, str]:
    ours = [name for name in named if name.startswith(OURS)]
    if ours:
        raise ValueError(f"{ours[0]} is Pelagos' own; names that begin with {' or '.join(OURS)} are not allowed")
    return named


Named = Annotated[dict[str, str], AfterValidator(_of_others)]


class StepPods(BaseModel):
    """Additions in the form of Kubernetes. What Pelagos, or a spec, says itself wins over them."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    labels: Named = {}
    annotations: Named = {}
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = {}
    """Environment variables of our containers."""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []


class ServerPods(StepPods):
    """With what pods of pipeline steps cannot be given."""

    priority_class_name: str = ""
    affinity: dict[str, Any] = {}
    topology_spread_constraints: list[dict[str, Any]] = []
    """Without a labelSelector: the servers of the same ModelService."""


NO_STEP_PODS, NO_SERVER_PODS = StepPods(), ServerPods()
"""Settings that add nothing."""
