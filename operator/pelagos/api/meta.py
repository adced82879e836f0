"""Definitions that all kinds share: group and version, labels and annotations, conditions, and the bases of spec and status."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from pelagos.api import processors
from pelagos_contract import durations
from pelagos_contract.base import Strict

GROUP = "pelagos.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "pelagos"

FINALIZER = "pelagos.dev/finalizer"
RETRY_ANNOTATION = "pelagos.dev/retry"
"""Any new value retries a stalled resource."""
FORCE_DELETION_ANNOTATION = "pelagos.dev/force-deletion"
"""The value true releases a resource that is being deleted although a system in which it must clean up does not respond."""
UID_LABEL = "pelagos.dev/uid"
FIELD_MANAGER = "pelagos-operator"

_KEY, _VALUE = r"[A-Za-z0-9][-A-Za-z0-9_./]*", r"[-A-Za-z0-9_.]*"
_REQUIREMENT = rf"(!?{_KEY}|{_KEY} *(=|==|!=) *{_VALUE}|{_KEY} +(in|notin) +\( *{_VALUE}( *, *{_VALUE})* *\))"
SELECTOR = rf"^({_REQUIREMENT}( *, *{_REQUIREMENT})*)?$"
"""Pattern of label selectors in kubectl's notation."""
SHARD_LABEL = "pelagos.dev/shard"
"""The label by which several operators divide resources, and by which each finds its own pods."""

Duration = durations.Duration
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Priority = Annotated[
    Name | None,
    Field(
        max_length=63,
        description="Kueue WorkloadPriorityClass, one of those that the platform allows in the namespace. Default: the one "
        "that the platform sets for it. A change moves a run that waits in its queue; one that is running "
        "continues, and nothing is made again.",
    ),
]
"""The priority of a run's pods; its length is limited to that of a label value."""
Quantity = Annotated[
    str,
    Field(pattern=r"^[1-9][0-9]*(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=16, examples=["512Mi", "16Gi"]),
]
Cpu = Annotated[
    int | str,
    BeforeValidator(processors.plain),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": processors.MOST,
            "pattern": processors.PATTERN,
            "maxLength": 8,
        }
    ),
]
"""Processor cores: a whole number, or a string as Kubernetes writes quantities. Once parsed, whole numbers are always numbers."""
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


class TolerationSpec(Strict):
    """A taint that pods tolerate, as in Kubernetes."""

    key: Annotated[str | None, Field(max_length=316, description="Key of the taint. Default: every key.")] = None
    operator: Annotated[
        Literal["Equal", "Exists"], Field(description="Exists: any value of the taint is tolerated.")
    ] = "Equal"
    value: Annotated[LabelValue | None, Field(description="Value of the taint.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="Effect of the taint. Default: every effect."),
    ] = None


class LimitsSpec(Strict):
    """How much pods may use beyond what they request."""

    cpu: Annotated[
        Cpu | None,
        Field(description="Processor cores; the number of threads is this, rounded up. Default: the value of cpu."),
    ] = None
    memory: Annotated[
        Quantity | None,
        Field(
            description="Memory; set it only together with resources.memory. Default: the value of resources.memory."
        ),
    ] = None


class PlacementSpec(Strict):
    """Where on a cluster pods may run, and what they may use. On one machine only processor cores have an effect: as threads."""

    memory: Annotated[
        Quantity | None,
        Field(
            description="Memory, for example 16Gi: both the request and the limit. Default: 16Gi for training, 4Gi "
            "otherwise."
        ),
    ] = None
    limits: Annotated[
        LimitsSpec | None,
        Field(description="Limits above what is requested. Default: cpu and memory are also the limits."),
    ] = None
    node_selector: Annotated[
        dict[str, LabelValue], Field(max_length=32, description="Labels that a node must have.")
    ] = {}
    tolerations: Annotated[list[TolerationSpec], Field(max_length=32, description="Taints that pods tolerate.")] = []


class GpuPlacementSpec(PlacementSpec):
    """The same, with GPUs."""

    gpus: Annotated[
        int, Field(ge=0, le=64, description="GPUs (nvidia.com/gpu). On one machine a GPU is used when there is one.")
    ] = 0
    gpu_product: Annotated[
        LabelValue | None,
        Field(
            min_length=1,
            description="Kind of GPU, as in the node label nvidia.com/gpu.product.",
            examples=["NVIDIA-A100-SXM4-40GB"],
        ),
    ] = None


@dataclass(frozen=True)
class Rule:
    """A rule across fields, once for servers that know CEL and once for those that do not; both say ``message``.

    ``cel`` is evaluated on ``spec``; ``holds`` gets the parsed spec.
    """

    cel: str
    message: str
    field: str
    holds: Callable[[Any], bool]


RESOURCE_RULES = (
    Rule(
        cel="!has(self.resources.limits) || !has(self.resources.limits.cpu) || "
        f"{processors.cel('self.resources.cpu')} <= {processors.cel('self.resources.limits.cpu')}",
        message="spec.resources.limits.cpu must not be below spec.resources.cpu, which is the request",
        field="spec.resources.limits.cpu",
        holds=lambda spec: processors.bounds(spec.resources)[0] <= processors.bounds(spec.resources)[1],
    ),
    Rule(
        cel="!has(self.resources.limits) || !has(self.resources.limits.memory) || has(self.resources.memory)",
        message="spec.resources.limits.memory needs spec.resources.memory, which is the request",
        field="spec.resources.limits.memory",
        holds=lambda spec: (
            spec.resources.limits is None or spec.resources.limits.memory is None or spec.resources.memory is not None
        ),
    ),
)
"""Rules of every kind with resources."""


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; priority 1 shows it with ``-o wide`` only."""

    name: str
    path: str
    type: Literal["string", "integer", "date"] = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Scale:
    """Where ``kubectl scale``, HorizontalPodAutoscalers and KEDA find the replicas of a kind, and the labels of its pods."""

    spec: str
    status: str
    selector: str

    def render(self) -> dict[str, str]:
        """The scale subresource in the form of a CustomResourceDefinition."""
        return {"specReplicasPath": self.spec, "statusReplicasPath": self.status, "labelSelectorPath": self.selector}


class Condition(Strict):
    """One aspect of the resource's state. List-map by type."""

    type: Annotated[str, Field(description="Name of the condition.", max_length=316)]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[str, Field(description="Machine-readable cause, CamelCase.", max_length=1024)]
    message: Annotated[
        str, Field(description="Cause in words, with the next step where there is one.", max_length=32768)
    ]
    observed_generation: Annotated[int, Field(description="metadata.generation that this was derived from.")]
    last_transition_time: Annotated[
        str,
        Field(description="When status last changed.", json_schema_extra={"format": "date-time"}),
    ]


_camel = functools.cache(to_camel)
"""Cached, because every pass converts the same names."""


class BaseStatus(Strict):
    """The fields of every status."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: Annotated[int | None, Field(description="metadata.generation that this status describes.")] = (
        None
    )
    conditions: Annotated[
        list[Condition],
        Field(description="State in the form that kubectl wait, Flux and Argo CD read; Ready is the summary."),
    ] = []

    def patch(self) -> dict[str, Any]:
        """The merge patch for the fields that were set: None removes a field. Fields that were not set are unchanged."""
        set_to_none = {_camel(name): None for name in self.model_fields_set if getattr(self, name) is None}
        return self.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True) | set_to_none


class RuledSpec(Strict):
    """The base of every spec. Its rules are rendered into the CRD."""

    RULES: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def rules(cls) -> tuple[Rule, ...]:
        """The rules across fields."""
        return cls.RULES


class BaseSpec(RuledSpec):
    """The common fields of specs whose resources run for longer than a few minutes."""

    suspend: Annotated[
        bool,
        Field(description="True stops all work for this resource and ends what runs for it; false resumes."),
    ] = False
    deletion_policy: Annotated[
        Literal["Retain", "Delete"],
        Field(description="What happens to the data and records outside Kubernetes when this resource is deleted."),
    ] = "Retain"


def stays_below_root(path: str) -> bool:
    """Whether a relative path cannot leave the folder it is resolved in."""
    return not path.startswith("/") and ".." not in path.split("/")
