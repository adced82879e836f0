"""ModelService: an endpoint that answers correctly, or reports why it does not."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from pelagos.api.meta import (
    RESOURCE_RULES,
    BaseSpec,
    BaseStatus,
    Column,
    Cpu,
    Duration,
    GpuPlacementSpec,
    Name,
    Rule,
    Scale,
)
from pelagos_contract.base import Strict
from pelagos_contract.identifiers import Doi
from pelagos_contract.metadata import Described, Line
from pelagos_contract.model_card import Card
from pelagos_contract.training import MAX_DETECTIONS, MOST_DETECTIONS
from pelagos_contract.values import Decimal


class TrainingRunRef(Strict):
    """A TrainingRun in the same namespace."""

    name: Annotated[Name, Field(description="Name of the TrainingRun.")]


class RegistryRef(Strict):
    """A registered model; exactly one of alias and version is set."""

    model: Annotated[str, Field(min_length=1, max_length=200, description="Registered model.")]
    alias: Annotated[str | None, Field(min_length=1, max_length=100, description="Alias, for example champion.")] = None
    version: Annotated[str | None, Field(pattern=r"^[0-9]+$", max_length=10, description="Number of the version.")] = (
        None
    )


class ModelSource(Strict):
    """Which model is served; exactly one of trainingRunRef, registry and uri is set."""

    training_run_ref: Annotated[
        TrainingRunRef | None, Field(description="The model of a TrainingRun that is Ready.")
    ] = None
    registry: Annotated[RegistryRef | None, Field(description="A registered model; a moved alias is followed.")] = None
    uri: Annotated[
        str | None, Field(min_length=1, max_length=2048, description="Folder of a model package in the object store.")
    ] = None
    manifest_sha256: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="Digest of its package.json: no other package is served. Required where no TrainingRun of the "
            "namespace states it.",
        ),
    ] = None


class Runtime(Strict):
    """How the model is run."""

    engine: Annotated[Literal["Triton"], Field(description="Inference server.")] = "Triton"
    max_batch_size: Annotated[int, Field(ge=1, le=1024, description="Most images in one batch.")] = 8
    max_queue_delay: Annotated[
        Duration,
        Field(
            description="Longest wait for a batch to fill; 0ms batches only requests that already wait (measured to be "
            "best on a CPU)."
        ),
    ] = "0ms"
    instances: Annotated[int, Field(ge=1, le=64, description="Copies of the model in the server.")] = 1


class ServiceResources(GpuPlacementSpec):
    """Resources that one instance requests."""

    cpu: Annotated[
        Cpu,
        Field(
            description='Processor cores of one instance, for example 2, "1.5" or 500m: both the request and the limit.'
        ),
    ] = 1


class ScalingTarget(Strict):
    """Load that a replica should carry; at most one field is set."""

    concurrency: Annotated[
        int | None, Field(ge=1, le=10000, description="Requests at once per replica (deploymentMode Knative).")
    ] = None
    cpu: Annotated[
        int | None,
        Field(
            ge=1, le=1000, description="Percent of the requested processor time (deploymentMode Standard). Default: 80."
        ),
    ] = None


class ScalingSpec(Strict):
    """Replicas on a cluster. On one machine there is always one."""

    deployment_mode: Annotated[
        Literal["Standard", "Knative"],
        Field(
            description="Standard: a Deployment; Knative: scales by requests, down to zero, and needs KServe with Knative."
        ),
    ] = "Standard"
    min: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="Fewest replicas; 0 (deploymentMode Knative only) stops when idle. kubectl scale sets this.",
        ),
    ] = 1
    max: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="Most replicas; Pelagos scales between min and this by target. 1: exactly min, for those who scale "
            "with kubectl scale or with their own autoscaler.",
        ),
    ] = 1
    target: Annotated[
        ScalingTarget, Field(description="Load that a replica should carry; at most one field is set.")
    ] = ScalingTarget()

    @property
    def most(self) -> int:
        """Replicas that there may be at once."""
        return max(self.min, self.max)


class RolloutSpec(Strict):
    """How servers are replaced when the model or its settings change."""

    order: Annotated[
        Literal["NewFirst", "OldFirst"],
        Field(
            description="NewFirst: a new server answers before an old one ends, so that no request fails; it needs room, and "
            "GPUs, for one more. OldFirst: an old one ends first, for clusters without that room; with one replica requests "
            "fail until the new one answers. On one machine, and with deploymentMode Knative, it is always NewFirst."
        ),
    ] = "NewFirst"


class Thresholds(Strict):
    """What counts as a detection."""

    confidence: Annotated[Decimal, Field(description="Smallest confidence that is reported, in [0, 1].")] = "0.25"
    iou: Annotated[
        Decimal,
        Field(description="Boxes of one class that overlap more than this (intersection over union) are merged."),
    ] = "0.7"
    per_class: Annotated[
        bool | None,
        Field(
            description="Whether classes use the confidences that were found for them on the validation split "
            "(spec.evaluation.perClassThresholds of the TrainingRun), so that confidence applies only to the "
            "others. Default: true where confidence is 0.25, its default; otherwise false."
        ),
    ] = None


class Picture(Described):
    """A picture in a ConfigMap, so that it is versioned and applied with the rest: no page fetches pictures from elsewhere."""

    config_map: Annotated[Name, Field(description="Name of a ConfigMap in the same namespace.")]
    key: Annotated[
        str,
        Field(
            pattern=r"^[-._A-Za-z0-9]+$",
            max_length=253,
            description="Its key in binaryData: a PNG, JPEG or WebP of at most 1 MiB, which is what a ConfigMap holds.",
        ),
    ]
    description: Annotated[Line, Field(description="What it shows, for people who do not see it.")]
    credit: Annotated[Line | None, Field(description="Whose picture it is, and under which licence.")] = None


class ServiceCard(Card):
    """What people say about the model that is served."""

    title: Annotated[Line | None, Field(description="Title in the catalogue.")] = None
    doi: Annotated[Doi | None, Field(description="DOI of the model.")] = None
    image: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/]*@sha256:[0-9a-f]{64}$",
            max_length=400,
            description="Container image of the model with the DEEPaaS API, by its digest, as pelagos image build --push "
            "prints it. With it the catalogue offers a description for OSCAR.",
        ),
    ] = None
    pictures: Annotated[
        list[Picture],
        Field(
            max_length=8,
            description="Pictures of what the model is for. The first is shown in the catalogue; all are offered to those "
            "who try the model.",
        ),
    ] = []

    def after(self, trained: Card | None) -> ServiceCard:
        """This card, with missing fields taken from the training's card."""
        if trained is None:
            return self
        inherited = {name: getattr(trained, name) for name in Card.model_fields if getattr(self, name) is None}
        return self.model_copy(update=inherited)

    def missing(self) -> tuple[str, ...]:
        """The empty fields that readers from outside need, in the order of the card."""
        needed = ("title", "summary", "intended_use", "limitations", "contact", "license")
        return tuple(to_camel(name) for name in needed if getattr(self, name) is None)


class PublishSpec(Strict):
    """Who sees the service in the catalogue."""

    catalogue: Annotated[
        Literal["Private", "Namespace", "Public"],
        Field(
            description="Private: nobody. Namespace: anyone who has signed in and is admitted to the namespace. Public: "
            "anyone who sees the catalogue. The service is never listed before its card is complete and an "
            "answer of it was proven right."
        ),
    ]


class ModelServiceSpec(BaseSpec):
    """An endpoint for one model."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="[has(self.model.trainingRunRef), has(self.model.registry), has(self.model.uri)].filter(x, x).size() == 1",
            message="spec.model: set exactly one of trainingRunRef, registry and uri",
            field="spec.model",
            holds=lambda spec: (
                sum(x is not None for x in (spec.model.training_run_ref, spec.model.registry, spec.model.uri)) == 1
            ),
        ),
        Rule(
            cel="!has(self.model.registry) || (has(self.model.registry.alias) != has(self.model.registry.version))",
            message="spec.model.registry: set exactly one of alias and version",
            field="spec.model.registry",
            holds=lambda spec: (
                spec.model.registry is None
                or (spec.model.registry.alias is None) != (spec.model.registry.version is None)
            ),
        ),
        Rule(
            cel="double(self.thresholds.confidence) <= 1.0 && double(self.thresholds.iou) <= 1.0",
            message="spec.thresholds: confidence and iou must be at most 1",
            field="spec.thresholds",
            holds=lambda spec: float(spec.thresholds.confidence) <= 1 and float(spec.thresholds.iou) <= 1,
        ),
        Rule(
            cel="self.scaling.min <= self.scaling.max || self.scaling.max == 1",
            message="spec.scaling.min, which kubectl scale sets, must not be above spec.scaling.max; "
            "raise max, or leave it out: then exactly min replicas run",
            field="spec.scaling",
            holds=lambda spec: spec.scaling.min <= spec.scaling.max or spec.scaling.max == 1,
        ),
        Rule(
            cel="self.scaling.min > 0 || self.scaling.deploymentMode == 'Knative'",
            message="spec.scaling.min may be 0 only with spec.scaling.deploymentMode Knative; spec.suspend: true stops "
            "serving",
            field="spec.scaling",
            holds=lambda spec: spec.scaling.min > 0 or spec.scaling.deployment_mode == "Knative",
        ),
        Rule(
            cel="!has(self.scaling.target.concurrency) || "
            "(self.scaling.deploymentMode == 'Knative' && !has(self.scaling.target.cpu))",
            message="spec.scaling.target.concurrency goes only with spec.scaling.deploymentMode Knative, and without "
            "target.cpu",
            field="spec.scaling",
            holds=lambda spec: (
                spec.scaling.target.concurrency is None
                or (spec.scaling.deployment_mode == "Knative" and spec.scaling.target.cpu is None)
            ),
        ),
        *RESOURCE_RULES,
    )

    model: Annotated[ModelSource, Field(description="Which model is served; exactly one of its sources is set.")]
    runtime: Annotated[Runtime, Field(description="How the model is run.")] = Runtime()
    resources: Annotated[ServiceResources, Field(description="Resources that one instance requests.")] = (
        ServiceResources()
    )
    scaling: Annotated[ScalingSpec, Field(description="Replicas on a cluster.")] = ScalingSpec()
    # No default in the definition: a server would store it, and an operator of an earlier release would refuse the field.
    rollout: Annotated[
        RolloutSpec | None, Field(description="How servers are replaced when the model or its settings change.")
    ] = None
    thresholds: Annotated[Thresholds, Field(description="What counts as a detection.")] = Thresholds()
    max_detections: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_DETECTIONS,
            description="Most detections that are reported for one image, the best ones; an answer that leaves some out "
            "says so. Nothing is inherited from the training, whose spec.evaluation.maxDetections has the same "
            "default.",
        ),
    ] = MAX_DETECTIONS
    card: Annotated[
        ServiceCard | None,
        Field(
            description="What people say about the model; fields that it leaves out are those of the TrainingRun's "
            "spec.card. Changing it replaces no server (docs/marketplace.md)."
        ),
    ] = None
    publish: Annotated[
        PublishSpec | None, Field(description="Who sees it in the hub's catalogue. Default: nobody.")
    ] = None

    @property
    def old_first(self) -> bool:
        """Whether an old server ends before a new one starts. Knative decides that itself."""
        is_asked = self.rollout is not None and self.rollout.order == "OldFirst"
        return is_asked and self.scaling.deployment_mode == "Standard"


class ServedModel(Strict):
    """The model behind the endpoint: the one that answers now, until another has taken over."""

    name: Annotated[str, Field(description="Name that clients ask for.")]
    uri: Annotated[str, Field(description="Folder of the model package.")]
    onnx_sha256: Annotated[str, Field(description="Digest of the ONNX graph.")]
    manifest_sha256: Annotated[str | None, Field(description="Digest of package.json, which pins the package.")] = None
    source: Annotated[str, Field(description="Where it comes from, in words.")]
    reference: Annotated[str | None, Field(description="What spec.model named when it was resolved.")] = None
    proven: Annotated[
        str | None, Field(description="Digest of what serves, once a real inference with it was right; empty before.")
    ] = None


class Endpoints(Strict):
    """Addresses of the endpoint; where one is missing, the servers cannot be reached that way."""

    grpc: Annotated[str | None, Field(description="host:port of the KServe v2 gRPC endpoint.")] = None
    http: Annotated[str | None, Field(description="URL of the KServe v2 HTTP endpoint.")] = None
    metrics: Annotated[str | None, Field(description="URL of the inference server's Prometheus metrics.")] = None
    gateway_http: Annotated[
        str | None,
        Field(description="URL of the same endpoint through the gateway, for people; absent without a gateway."),
    ] = None
    gateway_grpc: Annotated[
        str | None,
        Field(
            description="host:port of the gateway for gRPC; callers name the service in the metadata pelagos-service, as "
            "namespace/name, unless the token of a trial does."
        ),
    ] = None


class TrialLimits(Strict):
    """How many Trials may be open at once in the namespace, as the platform sets it; 0: none."""

    per_user: Annotated[int, Field(description="Of one user whom the hub attests (trialsPerUser).")]
    at_once: Annotated[int, Field(description="Of all users together (trialsAtOnce).")]


class ModelServiceStatus(BaseStatus):
    """Where the endpoint is, and what is behind it."""

    url: Annotated[
        str | None,
        Field(
            description="Address for pelagos predict and tritonclient: grpc://host:port, or a URL where only HTTP is "
            "available."
        ),
    ] = None
    endpoints: Annotated[Endpoints | None, Field(description="All addresses.")] = None
    model: Annotated[
        ServedModel | None,
        Field(description="The model behind the endpoint: the one that answers now, until another has taken over."),
    ] = None
    served_generation: Annotated[
        int | None,
        Field(
            description="metadata.generation whose model and settings answer now. While a change is rolled out it is older "
            "than observedGeneration, and the model and settings that it names continue to answer."
        ),
    ] = None
    restarts: Annotated[
        int | None, Field(description="How often the server has died since the model or its settings changed.")
    ] = None
    replicas: Annotated[int | None, Field(description="Replicas that are ready.")] = None
    trials: Annotated[
        TrialLimits | None,
        Field(description="How many Trials may be open at once in the namespace; absent without a gateway."),
    ] = None
    selector: Annotated[
        str | None, Field(description="Labels of the replicas' pods, for autoscalers; none on one machine.")
    ] = None


SCALE = Scale(".spec.scaling.min", ".status.replicas", ".status.selector")


COLUMNS = (
    Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    Column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
    Column("Model", ".status.model.name"),
    Column("URL", ".status.url"),
    Column("Replicas", ".status.replicas", "integer", priority=1),
    Column("Source", ".status.model.source", priority=1),
    Column("Catalogue", ".spec.publish.catalogue", priority=1, description="Who sees it in the catalogue."),
    Column(
        "Card",
        ".status.conditions[?(@.type=='CardComplete')].status",
        priority=1,
        description="Whether its card is complete.",
    ),
    Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
    Column("Age", ".metadata.creationTimestamp", "date"),
)
