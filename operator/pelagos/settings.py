"""Typed settings of the operator, read from the environment (prefix PELAGOS_). Written by the embedded mode or a Deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from pelagos.api import meta
from pelagos.ports.peers import DNS, NOBODY, Peers
from pelagos.ports.pods import NO_SERVER_PODS, NO_STEP_PODS, ServerPods, StepPods
from pelagos_contract import cost, extensions, source_hosts

LARGEST_USER = 2**31 - 1
"""Kubernetes' own bound of runAsUser."""


def _user(told: str) -> str:
    if told and int(told) > LARGEST_USER:
        raise ValueError(f"PELAGOS_POD_USER is {told}; allowed: a user from 1 to {LARGEST_USER}, or nothing")
    return told


def _hosts(told: str) -> str:
    try:
        source_hosts.parse(told)
    except ValueError as error:
        raise ValueError(f"{source_hosts.VARIABLE}: {error}") from None
    return told


class Settings(BaseSettings):
    """Everything that differs between installations."""

    model_config = SettingsConfigDict(env_prefix="PELAGOS_", extra="ignore")

    home: Path = Path.home() / ".pelagos"
    """State of the embedded mode: one folder."""
    environments: Path = Path.home() / ".pelagos" / "environments"
    """Folder with the Python environments `pipelines`, `tracking` and `triton`, and `tensorboard` where it is wanted."""
    kubeconfig: Path | None = None
    """How to reach the API server; None: the service account of the pod, or the user's kubeconfig."""
    namespace: str | None = None
    """Watch this namespace only; None: all."""
    watch_selector: str = Field("", pattern=meta.SELECTOR)
    """Watch only resources with these labels, as in `kubectl get -l`; empty: all. Each shard needs a `lease_name` of its own."""
    tracking_uri: str = ""
    """The MLflow server."""
    tracking_public_url: str = ""
    """The MLflow server as people's browsers reach it, for links in status; empty: tracking_uri."""
    data_root: Path | None = None
    """The data volume; None: <home>/data."""
    objects_root: Path | None = None
    """Dataset versions, model packages and reports; None: <home>/objects."""
    metrics_port: int = 0
    """Port of /metrics, /healthz and /readyz; 0: any free one, written to <home>/operator.json."""
    listen_address: str = "127.0.0.1"
    """Address of the same."""
    allowed_hosts: str = ""
    """Further names under which the same may be asked, separated by commas. Loopback, the pod's address and names of Services
    are allowed anyway; others are answered 421, so that no page in a browser can read it under a name of its own."""
    parallel_preparations: int = Field(2, ge=1)
    """Dataset preparations that the local pipeline engine runs at once."""
    parallel_trainings: int = Field(0, ge=0)
    """Most trainings that the local pipeline engine runs at once; 0: as many as their spec.resources.cpu leave room for."""
    training_cores: int = Field(0, ge=0)
    """Cores that trainings of the local pipeline engine share by their spec.resources.cpu; 0: all that the operator may use."""
    concurrent_reconciles: int = 16
    """Reconciles at once."""
    probe_interval: int = 20
    """Seconds between two synthetic inferences of a ready service."""

    extensions: str = Field("", pattern=extensions.NAMES)
    """Modules of others, separated by commas, which register sources, formats, families, engines (docs/extending.md). They are in
    the operator's environment and in that of the steps; nothing else that is installed there is ever loaded."""
    pipelines_engine: str = "local"
    """What runs pipelines: the name of an engine in engine_registry.PIPELINES."""
    serving_engine: str = "local"
    """What serves models: the name of an engine in engine_registry.SERVING."""
    tracker: str = "mlflow"
    """What tracks trainings and keeps models: the name of a tracker in engine_registry.TRACKERS."""
    trainer_image: str = "ghcr.io/pelagos/trainer:0.1.0"
    """Image of pipeline steps."""
    serving_image: str = "ghcr.io/pelagos/serving:0.1.0"
    """Image of model servers."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Of both."""
    pod_user: Annotated[str, AfterValidator(_user)] = Field("10001", pattern=r"^([1-9][0-9]{0,9})?$")
    """User and group of the pods of steps and model servers on a cluster; empty: whom the cluster gives them (OpenShift)."""
    step_pods: StepPods = NO_STEP_PODS
    """What a platform adds to the pods of steps, as JSON: labels, annotations, env, nodeSelector, tolerations."""
    server_pods: ServerPods = NO_SERVER_PODS
    """Likewise of model servers; also priorityClassName, affinity, topologySpreadConstraints."""
    gateway_millicores: int = Field(50, ge=0, le=1_000)
    """Thousandths of a core that the gateway beside each model server on a cluster requests, on top of the server's own."""

    gateway_http: str = Field("", pattern=r"^(https?://[^\s]+)?$")
    """Where people reach the gateway over HTTP, for example https://models.example.org; `{namespace}` in it stands for the
    namespace of a service. Empty: there is none."""
    gateway_grpc: str = Field("", pattern=r"^([^\s/]+:[0-9]{1,5})?$")
    """The same over gRPC, as host:port."""
    embedded_gateway: bool = True
    """Whether `pelagos up` starts the gateway, by which all models are called at one address; docs/gateway.md."""
    embedded_hub: bool = True
    """Whether `pelagos up` starts the hub, the pages on which people look at models and try them; docs/hub.md."""
    hub_signing_key_file: Path | None = None
    """Key of the hub's signatures of Trials, mounted from the Secret pelagos-hub; read again at every use. None: nothing that is
    told of the users of Trials is believed."""

    serving_hosts: str = Field("", pattern=r"^[A-Za-z0-9.,:\[\]-]*$")
    """Names, separated by commas, that clients of local model servers may ask for beside localhost, 127.0.0.1 and [::1]: those of
    a proxy that passes requests on."""

    endpoint_ca_file: Path | None = None
    """Certificate authority of endpoints that `pelagos predict` asks by https; None: the system's."""

    kubeflow_url: str = ""
    """The Kubeflow Pipelines API, for example http://ml-pipeline.kubeflow:8888."""
    kubeflow_public_url: str = ""
    """The same as people's browsers reach it, for links in status; empty: kubeflow_url."""
    kubeflow_namespace: str = ""
    """Namespace of all pipeline runs, for a single-user server; empty: each resource's own (multi-user server)."""
    kubeflow_token_file: Path | None = None
    """Service-account token for it (audience pipelines.kubeflow.org); read again when it changes."""
    kubeflow_ca_file: Path | None = None
    """Certificate authority of it; None: the system's."""

    oscar_url: str = Field("", max_length=2_000)
    """The OSCAR cluster as its ingress answers, for example https://oscar.example: its REST interface and exposed services."""
    oscar_username_file: Path | None = None
    """User of its administrator (basic auth), mounted from a Secret; read again at every call."""
    oscar_password_file: Path | None = None
    """Password, likewise."""
    oscar_token_file: Path | None = None
    """Token of an OpenID Connect provider that the cluster trusts, instead of user and password; who mounts it renews it."""
    oscar_refresh_token_file: Path | None = None
    """Refresh token, by which the operator asks the provider for tokens by itself; in the place of the others."""
    oscar_token_url: str = Field("https://aai.egi.eu/auth/realms/egi/protocol/openid-connect/token", max_length=2_000)
    """Token endpoint of the provider; default: that of EGI Check-in."""
    oscar_client_id: str = Field("token-portal", max_length=200)
    """Client that the refresh token was made for; default: EGI's token portal."""
    oscar_scopes: str = Field("openid email profile voperson_id eduperson_entitlement", max_length=1_000)
    """What is asked for with it: OSCAR reads the VO from entitlements."""
    oscar_ca_file: Path | None = None
    """Certificate authority of it; None: the system's."""
    oscar_vo: str = Field("", max_length=200)
    """Virtual organisation in which services are made, where the cluster asks for one; empty: the first that takes us."""
    oscar_endpoint_login: Literal["basic", "forward"] = "basic"
    """How clients log in to endpoints: with the service's name and token, or as Traefik asks OSCAR (Gateway API)."""
    oscar_pull_secrets: str = Field("", pattern=r"^([a-z0-9.-]+(,[a-z0-9.-]+)*)?$")
    """Secrets of the OSCAR cluster to pull the serving image with, separated by commas."""
    oscar_bucket: str = Field("", pattern=r"^([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?$")
    """Bucket of OSCAR's MinIO for images and results of asynchronous invocations, made when it is missing; empty: none are taken.
    No service names it, so that OSCAR never deletes it with one."""
    oscar_storage_url: str = Field("", max_length=2_000)
    """Address of that MinIO, as OSCAR's signed addresses begin."""
    oscar_storage_access_key_file: Path | None = None
    """Access key with which services fetch packages: of somebody who may read model packages, and nothing else."""
    oscar_storage_secret_key_file: Path | None = None
    """Secret key, likewise; without both, the storage is asked without a login."""

    objects_uri: str = ""
    """Object storage for versions, packages and reports, as s3://bucket/prefix; empty: the folder objects_root.
    The scheme chooses a store in engine_registry.OBJECTS."""
    data_uri: str = ""
    """Object storage that holds the data volume, as s3://bucket/prefix; empty: the folder data_root.
    The scheme chooses a store in engine_registry.VOLUMES."""
    objects_claim: str = ""
    """PersistentVolumeClaim behind objects_root, which steps and model servers mount at the same path."""
    data_claim: str = ""
    """PersistentVolumeClaim behind data_root, likewise."""
    s3_endpoint: str = ""
    """URL of the S3-compatible service; empty: that of AWS. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    s3_region: str = "us-east-1"
    """Region of the buckets."""
    s3_ca_file: Path | None = None
    """Certificate authority of it; None: the system's."""
    objects_secret: str = ""
    """Secret with the S3 credentials in the namespaces of resources, for steps and model servers; a tenant may have another."""

    tracking_username_file: Path | None = None
    """User of the MLflow server (basic auth), mounted from a Secret; read again at every call."""
    tracking_password_file: Path | None = None
    """Password, likewise."""
    tracking_token_file: Path | None = None
    """Bearer token, instead of user and password."""
    steps_tracking_username_file: Path | None = None
    """User of the MLflow server for steps that run on this machine; they get it by environment. On a cluster: tracking_secret."""
    steps_tracking_password_file: Path | None = None
    """Password, likewise."""
    tracking_ca_file: Path | None = None
    """Certificate authority of the MLflow server; None: the system's."""
    tracking_secret: str = ""
    """Secret with MLflow credentials in the namespaces of resources, for steps; a tenant's ConfigMap overrides it."""

    ca_config_map: str = ""
    """ConfigMap with certificate authorities (key ca.crt) in the namespaces of resources, which steps and model servers trust for
    S3 and MLflow; a tenant's ConfigMap overrides it. Empty: the system's."""

    leader_election: bool = False
    """Whether a Lease decides which of several operators acts; on a cluster always."""
    lease_name: str = "pelagos-operator"
    """Its name."""
    lease_namespace: str = ""
    """Its namespace, which is the operator's; empty: the pod's own."""
    lease_seconds: int = Field(12, ge=1, le=60)
    """How long a leader that is gone keeps the Lease."""

    authority_folder: Path | None = None
    """Keys of the seals under which what lies outside of Kubernetes is believed: `current` seals, others are good for reading;
    None: <home>/authority."""

    max_image_megapixels: int = Field(50, ge=1, le=2_000)
    """Ceiling: millions of pixels of an image, in a source or in a request. Larger ones are refused."""
    max_image_mebibytes: int = Field(64, ge=1, le=1_024)
    """Ceiling: MiB of an image file."""
    max_image_memory: int = Field(640, ge=64, le=65_536)
    """Ceiling: MiB that decoding one image may take; a JPEG 2000 takes 17 bytes a pixel, TIFF 9 to 21, others 3 to 9."""
    max_image_seconds: int = Field(10, ge=1, le=600)
    """Ceiling: seconds of processor time that decoding one image may take."""
    max_scan_megapixels: int = Field(500, ge=1, le=4_000)
    """Ceiling: millions of pixels of an image of a source that spec.preprocessing.tile has cut into tiles."""
    max_scan_mebibytes: int = Field(2_048, ge=1, le=65_536)
    """Ceiling: MiB of such an image file."""
    max_checkpoint_mebibytes: int = Field(1_024, ge=1, le=65_536)
    """Ceiling: MiB of a checkpoint to start from, and of the tensors in it."""
    max_annotation_mebibytes: int = Field(256, ge=1, le=65_536)
    """Ceiling: MiB of one file of annotations."""
    max_annotations: int = Field(1_000_000, ge=1, le=1_000_000_000)
    """Ceiling: boxes, and images, that the annotation files of one source may list."""
    max_annotation_seconds: int = Field(120, ge=1, le=3_600)
    """Ceiling: seconds of processor time that parsing one annotation file may take."""
    max_archive_gibibytes: int = Field(200, ge=1, le=65_536)
    """Ceiling: GiB that an archive of a source may hold, unpacked."""
    max_archive_seconds: int = Field(3_600, ge=1, le=86_400)
    """Ceiling: seconds of processor time that unpacking one may take."""

    power_watts_per_core: float = Field(cost.USUAL_WATTS_PER_CORE, ge=0, le=cost.MOST_WATTS, allow_inf_nan=False)
    """Watts of a busy processor core, for the energy of trainings where it cannot be measured. Default: that of an unknown
    processor by Green Algorithms (doi:10.1002/advs.202100707); better is the thermal design power of yours by its cores."""
    power_grams_per_kwh: float = Field(cost.USUAL_GRAMS_PER_KWH, ge=0, le=cost.MOST_GRAMS, allow_inf_nan=False)
    """Grams of CO2 equivalent in a kilowatt-hour of your electricity. Default: the mean of the world in 2018 by the International
    Energy Agency (Global Energy and CO2 Status Report 2019)."""

    source_hosts: Annotated[str, AfterValidator(_hosts)] = ""
    """From where Datasets may fetch sources beside public addresses over https: hosts and networks, separated by commas
    (https://cvat.lab.example, http://10.3.0.7:8080, 10.20.0.0/16). A tenant's ConfigMap (sourceHosts) overrides it."""

    dns_peers: Peers = DNS
    """Where model servers look names up: peers and ports of their NetworkPolicy, as JSON."""
    storage_peers: Peers = NOBODY
    """Where the object storage is, likewise; without peers: by its address, where that is a Service or an IP address."""
    model_clients: list[Annotated[dict[str, Any], Field(min_length=1)]] = [{"podSelector": {}}]
    """Who may send requests to model servers: peers of their NetworkPolicy, as JSON. By default pods of their own namespace."""
    monitoring_namespace: str = ""
    """Namespace of the Prometheus that may read the metrics of model servers; empty: the operator's own."""

    def of_steps(self) -> dict[str, str]:
        """What steps need to know as environment variables: the ceilings, what power is, and the modules of others."""
        power = {cost.WATTS_PER_CORE: self.power_watts_per_core, cost.GRAMS_PER_KWH: self.power_grams_per_kwh}
        told = self.ceilings() | {name: f"{value:g}" for name, value in power.items()}
        return told | ({extensions.VARIABLE: self.extensions} if self.extensions else {})

    def ceilings(self) -> dict[str, str]:
        """The ceilings as environment variables, as steps and model servers read them."""
        named = {name: value for name, value in self.model_dump().items() if name.startswith("max_")}
        return {f"PELAGOS_{name.upper()}": str(value) for name, value in named.items()}

    @property
    def authority(self) -> Path:
        """The folder of keys."""
        return self.authority_folder or self.home / "authority"

    @property
    def data(self) -> Path:
        """The data volume."""
        return self.data_root or self.home / "data"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.objects_root or self.home / "objects"
