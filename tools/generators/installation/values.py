"""The values of an installation: what the Helm chart's values.yaml and values.schema.json are rendered from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pelagos.api import meta, tenant_settings

Url = Annotated[str, Field(pattern=r"^(https?://[^\s]+)?$", max_length=2048)]
S3Uri = Annotated[str, Field(pattern=r"^(s3://[^\s]+)?$", max_length=2048)]
ObjectName = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
AnyMap = dict[str, Any]


class Part(BaseModel):
    """Base of all parts: camelCase in YAML, unknown keys refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Image(Part):
    """The operator's image."""

    repository: Annotated[str, Field(min_length=1, description="Image of the operator.")] = "ghcr.io/pelagos/operator"
    tag: Annotated[str, Field(description="Its tag; empty: the version of the chart.")] = ""
    digest: Annotated[
        str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$", description="Its digest (sha256:...); wins over the tag.")
    ] = ""
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Field(description="Pull policy of all images.")
    ] = "IfNotPresent"
    pull_secrets: Annotated[
        list[AnyMap], Field(description="Secrets with credentials for the registry, as [{name: ...}].")
    ] = []


class Engines(Part):
    """What does the work."""

    serving: Annotated[
        Literal["deployment", "kserve"],
        Field(description="deployment: plain Deployments of Triton; kserve: InferenceServices of an installed KServe."),
    ] = "deployment"
    trainer_image: Annotated[
        str, Field(min_length=1, description="Image of pipeline steps; without -cpu: with CUDA.")
    ] = "ghcr.io/pelagos/trainer:0.1.0-cpu"
    serving_image: Annotated[
        str, Field(min_length=1, description="Image of model servers; without -cpu: with CUDA.")
    ] = "ghcr.io/pelagos/serving:0.1.0-cpu"
    gateway_millicores: Annotated[
        int,
        Field(
            ge=0,
            le=1_000,
            description="Thousandths of a core that the gateway beside each model server requests, on top of the server's.",
        ),
    ] = 50
    ca: Annotated[
        ObjectName,
        Field(
            description="ConfigMap in the namespaces of resources with the certificate authorities (key ca.crt) of S3 and "
            "MLflow, for pipeline steps and model servers; empty: the system's."
        ),
    ] = ""


class Scope(Part):
    """Which namespaces are watched."""

    kind: Annotated[
        Literal["Cluster", "Namespace"],
        Field(description="Cluster: all namespaces, by a ClusterRole. Namespace: one namespace, by a Role in it."),
    ] = "Cluster"
    namespace: Annotated[
        ObjectName, Field(description="The namespace that is watched with kind Namespace; empty: the operator's own.")
    ] = ""


class Kubeflow(Part):
    """The Kubeflow Pipelines server."""

    url: Annotated[Url, Field(description="Its API.")] = "http://ml-pipeline.kubeflow:8888"
    public_url: Annotated[Url, Field(description="The same as browsers reach it, for links; empty: url.")] = ""
    namespace: Annotated[
        ObjectName,
        Field(description="Namespace of all runs on a single-user server; empty: each resource's own (multi-user)."),
    ] = ""
    multi_user: Annotated[
        bool,
        Field(
            description="Whether the server has several users; then a role gives the operator the rights that it asks for."
        ),
    ] = False
    token: Annotated[
        bool, Field(description="Whether the operator logs in with a projected service-account token.")
    ] = False
    token_audience: Annotated[str, Field(min_length=1, description="Audience of this token.")] = (
        "pipelines.kubeflow.org"
    )
    ca: Annotated[
        ObjectName, Field(description="ConfigMap with the certificate authority, key ca.crt; empty: the system's.")
    ] = ""


class Tracking(Part):
    """The MLflow server."""

    url: Annotated[Url, Field(description="Its address inside the cluster.")] = "http://mlflow.mlflow:5000"
    public_url: Annotated[Url, Field(description="The same as browsers reach it, for links; empty: url.")] = ""
    auth: Annotated[
        Literal["None", "Basic", "Token"],
        Field(description="How the operator logs in. Basic: keys username and password of secret; Token: key token."),
    ] = "None"
    secret: Annotated[ObjectName, Field(description="Secret in the operator's namespace with these keys.")] = (
        "pelagos-tracking"
    )
    tenant_secret: Annotated[
        ObjectName,
        Field(description="Secret in the namespaces of resources with MLFLOW_TRACKING_* keys, for pipeline steps."),
    ] = ""
    ca: Annotated[
        ObjectName, Field(description="ConfigMap with the certificate authority, key ca.crt; empty: the system's.")
    ] = ""


class Authority(Part):
    """Under whose seal the operator believes what lies outside of Kubernetes."""

    secret: Annotated[
        ObjectName,
        Field(
            min_length=1,
            description="Secret in the operator's namespace: 32 random bytes in the key current, earlier ones in others. You "
            "make it once, and keep it in your backup (docs/operating.md); without it nothing new is begun.",
        ),
    ] = "pelagos-authority"


class Storage(Part):
    """Where dataset versions, model packages and reports lie, and where the data volume is."""

    objects: Annotated[
        S3Uri, Field(description="Versions, packages and reports, as s3://bucket/prefix; empty: objectsClaim.")
    ] = "s3://pelagos/objects"
    data: Annotated[S3Uri, Field(description="The data volume, as s3://bucket/prefix; empty: dataClaim.")] = (
        "s3://pelagos/data"
    )
    objects_claim: Annotated[
        ObjectName, Field(description="PersistentVolumeClaim instead, mounted at /pelagos/objects in every pod.")
    ] = ""
    data_claim: Annotated[
        ObjectName, Field(description="PersistentVolumeClaim instead, mounted at /pelagos/data in every pod.")
    ] = ""
    endpoint: Annotated[Url, Field(description="The S3-compatible service; empty: that of AWS.")] = ""
    region: Annotated[str, Field(min_length=1, description="Region of the buckets.")] = "us-east-1"
    secret: Annotated[
        ObjectName,
        Field(description="Secret in the operator's namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
    ] = "pelagos-s3"
    tenant_secret: Annotated[
        ObjectName, Field(description="Secret with the same keys in the namespaces of resources.")
    ] = "pelagos-s3"
    ca: Annotated[
        ObjectName, Field(description="ConfigMap with the certificate authority, key ca.crt; empty: the system's.")
    ] = ""


class Share(Part):
    """What one of several operators watches."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$",
            description="Ends the names of its Deployment and its Lease: pelagos-operator-<name>.",
        ),
    ]
    selector: Annotated[
        str,
        Field(
            pattern=meta.SELECTOR, min_length=1, description="Labels of its resources, as kubectl get -l takes them."
        ),
    ]


class Operator(Part):
    """The operator's own pod."""

    concurrent_reconciles: Annotated[int, Field(ge=1, le=256, description="Reconciles at once.")] = 16
    allowed_hosts: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9.,:_ -]*$",
            description="Further names under which its metrics may be asked, separated by commas; addresses of pods and names of "
            "Services are allowed anyway.",
        ),
    ] = ""
    probe_interval: Annotated[int, Field(ge=1, le=3600, description="Seconds between two probes of a service.")] = 20
    replicas: Annotated[
        int,
        Field(ge=1, le=2, description="2: a second one waits for the Lease, and takes over when the first is gone."),
    ] = 1
    shards: Annotated[
        list[Share],
        Field(
            description="Several operators that divide the resources by labels, as [{name: ..., selector: ...}]; the selectors "
            "must cover everything and not overlap (docs/scaling.md). Empty: one operator for all."
        ),
    ] = []
    lease_seconds: Annotated[int, Field(ge=6, le=60, description="How long a leader that is gone keeps the Lease.")] = (
        12
    )
    resources: Annotated[AnyMap, Field(description="Requests and limits.")] = {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "1", "memory": "512Mi"},
    }
    priority_class_name: Annotated[str, Field(description="PriorityClass of the pod; empty: the default.")] = ""
    node_selector: Annotated[AnyMap, Field(description="Labels that its node must have.")] = {}
    tolerations: Annotated[
        list[AnyMap],
        Field(description="Taints that it may run beside; as it is: it leaves a node that is gone after 5 s, not 300."),
    ] = [
        {
            "key": f"node.kubernetes.io/{taint}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 5,
        }
        for taint in ("not-ready", "unreachable")
    ]
    affinity: Annotated[AnyMap, Field(description="Affinity of the pod.")] = {}
    pod_annotations: Annotated[AnyMap, Field(description="Annotations of the pod.")] = {}


class Ceilings(Part):
    """What strangers may hand in at most; what is larger is refused by name, and with the name of the setting."""

    image_megapixels: Annotated[int, Field(ge=1, le=2_000, description="Millions of pixels of an image.")] = 50
    image_mebibytes: Annotated[int, Field(ge=1, le=1_024, description="MiB of an image file.")] = 64
    image_memory: Annotated[
        int,
        Field(ge=64, le=65_536, description="MiB to decode an image; a progressive JPEG takes 9 bytes a pixel."),
    ] = 640
    image_seconds: Annotated[int, Field(ge=1, le=600, description="Processor seconds to decode an image.")] = 10
    checkpoint_mebibytes: Annotated[
        int, Field(ge=1, le=65_536, description="MiB of a checkpoint to start from, and of its tensors.")
    ] = 1_024
    annotation_mebibytes: Annotated[int, Field(ge=1, le=65_536, description="MiB of one file of annotations.")] = 256
    annotations: Annotated[
        int, Field(ge=1, le=1_000_000_000, description="Boxes, and images, that the files of one source may list.")
    ] = 1_000_000
    annotation_seconds: Annotated[
        int, Field(ge=1, le=3_600, description="Processor seconds to parse one file of annotations.")
    ] = 120


Peer = Annotated[AnyMap, Field(min_length=1)]


def _in_namespace(name: str) -> AnyMap:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _tcp(*numbers: int) -> list[AnyMap]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


class Peers(Part):
    """Somebody to talk to."""

    peers: Annotated[
        list[Peer],
        Field(description="Peers in the form of a NetworkPolicy; empty: nobody, and then what needs it does not work."),
    ] = []
    ports: Annotated[list[AnyMap], Field(min_length=1, description="Their ports, as policies see them.")]


class NetworkPolicies(Part):
    """Who may talk to whom, on clusters that enforce it. No rule is to anywhere, or from anywhere."""

    enabled: Annotated[bool, Field(description="Whether NetworkPolicies are made.")] = False
    api_server: Annotated[
        Peers,
        Field(description="The API server, as policies see it: the addresses of kubectl get endpoints kubernetes."),
    ] = Peers(ports=_tcp(443, 6443))
    dns: Annotated[Peers, Field(description="Where names are looked up; for model servers, always.")] = Peers(
        peers=[_in_namespace("kube-system")], ports=[{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    )
    tracking: Annotated[Peers, Field(description="MLflow, for the operator and pipeline steps.")] = Peers(
        peers=[_in_namespace("mlflow")], ports=_tcp(5000)
    )
    kubeflow: Annotated[Peers, Field(description="The Kubeflow Pipelines API, for the operator.")] = Peers(
        peers=[_in_namespace("kubeflow")], ports=_tcp(8888)
    )
    launcher: Annotated[
        Peers,
        Field(description="What Kubeflow's launcher reaches in the pods of steps: its API, metadata and artifacts."),
    ] = Peers(peers=[_in_namespace("kubeflow")], ports=_tcp(8887, 8080, 9000))
    storage: Annotated[
        Peers,
        Field(
            description="The object storage, for the operator, steps and model servers (for these always; without peers: as "
            "storage.endpoint tells, where that is of this cluster or a number)."
        ),
    ] = Peers(ports=_tcp(443))
    clients: Annotated[
        list[Peer],
        Field(description="Who may send requests to model servers, always: as it is, pods of their own namespace."),
    ] = [{"podSelector": {}}]
    monitoring_namespace: Annotated[
        ObjectName,
        Field(min_length=1, description="Where Prometheus runs; model servers let its pods read metrics, always."),
    ] = "monitoring"


class Admission(Part):
    """Refusals by the API server of what the operator would refuse later."""

    enabled: Annotated[
        bool,
        Field(description="Whether ValidatingAdmissionPolicies are made, for all namespaces; needs Kubernetes 1.30."),
    ] = False


class Monitoring(Part):
    """For clusters with the Prometheus operator."""

    enabled: Annotated[
        bool, Field(description="Whether monitors, alert rules and dashboards are made (monitoring.coreos.com).")
    ] = False


class Tenant(Part):
    """A namespace for one group of people, with what the platform decides for it."""

    namespace: Annotated[
        ObjectName,
        Field(
            min_length=1,
            description="The namespace; it is made, and the operator gets its rights in it.",
            json_schema_extra={"not": {"pattern": tenant_settings.SYSTEM_NAMESPACES}},
        ),
    ]
    experiment_prefix: Annotated[str, Field(description="Put before the names of MLflow experiments.")] = ""
    storage_prefix: Annotated[str, Field(description="Folder of the tenant below the roots of data and objects.")] = ""
    shared_with: Annotated[
        str,
        Field(description="Namespaces that may have the same prefixes, separated by commas; each must name the other."),
    ] = ""
    queue: Annotated[
        str, Field(description="Kueue LocalQueue of pipelines that name none; then no other may be named but queues.")
    ] = ""
    queues: Annotated[str, Field(description="Further LocalQueues that pipelines may name, separated by commas.")] = ""
    max_gpus: Annotated[
        str,
        Field(pattern=r"^([0-9]{1,4})?$", description="Most GPUs that one resource may ask for; empty: any number."),
    ] = ""
    quota: Annotated[AnyMap, Field(description="ResourceQuota (spec.hard); empty: none.")] = {}


class Values(Part):
    """All values."""

    image: Annotated[Image, Field(description="The operator's image.")] = Image()
    create_namespace: Annotated[
        bool,
        Field(description="Whether the operator's namespace is one of the objects. With Helm: --create-namespace."),
    ] = False
    scope: Annotated[Scope, Field(description="Which namespaces are watched.")] = Scope()
    engines: Annotated[Engines, Field(description="What does the work.")] = Engines()
    kubeflow: Annotated[Kubeflow, Field(description="The Kubeflow Pipelines server.")] = Kubeflow()
    tracking: Annotated[Tracking, Field(description="The MLflow server.")] = Tracking()
    authority: Annotated[Authority, Field(description="The operator's own key.")] = Authority()
    storage: Annotated[Storage, Field(description="Where data and results lie.")] = Storage()
    operator: Annotated[Operator, Field(description="The operator's pod.")] = Operator()
    ceilings: Annotated[Ceilings, Field(description="What strangers may hand in at most.")] = Ceilings()
    network_policies: Annotated[NetworkPolicies, Field(description="Who may talk to whom.")] = NetworkPolicies()
    admission: Annotated[Admission, Field(description="What the API server refuses.")] = Admission()
    monitoring: Annotated[Monitoring, Field(description="For the Prometheus operator.")] = Monitoring()
    tenants: Annotated[
        list[Tenant],
        Field(
            description="Namespaces of tenants: the operator's rights in each, its prefixes, queues, limits and accounts."
        ),
    ] = []


def plain(values: Values) -> dict[str, Any]:
    """As Helm sees them: every key present, in camelCase."""
    return values.model_dump(by_alias=True)
