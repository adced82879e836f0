"""Typed settings of the operator, from environment variables (prefix PELAGOS_) that the embedded mode or a Deployment sets."""

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
"""Kubernetes' upper bound of runAsUser."""


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
    """Folder with all state of the embedded mode."""
    environments: Path = Path.home() / ".pelagos" / "environments"
    """Folder with the Python environments `pipelines`, `tracking`, `triton` and, optionally, `tensorboard`."""
    kubeconfig: Path | None = None
    """Kubeconfig for the API server; None: the pod's service account, or the user's kubeconfig."""
    namespace: str | None = None
    """Watch this namespace only; None: all."""
    watch_selector: str = Field("", pattern=meta.SELECTOR)
    """Watch only resources with these labels, as in `kubectl get -l`; empty: all. Each shard needs its own `lease_name`."""
    tracking_uri: str = ""
    """URL of the MLflow server."""
    tracking_public_url: str = ""
    """URL of the MLflow server for people's browsers, for links in status; empty: tracking_uri."""
    data_root: Path | None = None
    """Folder of the data volume; None: <home>/data."""
    objects_root: Path | None = None
    """Folder for dataset versions, model packages and reports; None: <home>/objects."""
    metrics_port: int = 0
    """Port of /metrics, /healthz and /readyz; 0: any free one, written to <home>/operator.json."""
    listen_address: str = "127.0.0.1"
    """Address on which that port listens."""
    allowed_hosts: str = ""
    """Further host names for requests to that port, separated by commas. Loopback, the pod's address and names of Services
    are always allowed; others get status 421, so that a web page cannot read it by DNS rebinding."""
    parallel_preparations: int = Field(2, ge=1)
    """Most dataset preparations that the local pipeline engine runs at once."""
    parallel_trainings: int = Field(0, ge=0)
    """Most trainings that the local pipeline engine runs at once; 0: as many as fit by their spec.resources.cpu."""
    training_cores: int = Field(0, ge=0)
    """Cores for all trainings of the local pipeline engine, by their spec.resources.cpu; 0: all that the operator may use."""
    concurrent_reconciles: int = 16
    """Most resources that are reconciled at once."""
    probe_interval: int = 20
    """Seconds between two synthetic inferences of a ready service."""

    extensions: str = Field("", pattern=extensions.NAMES)
    """Third-party modules, separated by commas, that register sources, formats, families or engines (docs/extending.md). They
    must be installed in the environments of the operator and of the steps; no other installed module is loaded this way."""
    pipelines_engine: str = "local"
    """Engine that runs pipelines: a name in engine_registry.PIPELINES."""
    serving_engine: str = "local"
    """Engine that serves models: a name in engine_registry.SERVING."""
    tracker: str = "mlflow"
    """Tracker for trainings and registered models: a name in engine_registry.TRACKERS."""
    trainer_image: str = "ghcr.io/pelagos/trainer:0.1.0"
    """Image of pipeline steps."""
    serving_image: str = "ghcr.io/pelagos/serving:0.1.0"
    """Image of model servers."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Pull policy of both images."""
    pod_user: Annotated[str, AfterValidator(_user)] = Field("10001", pattern=r"^([1-9][0-9]{0,9})?$")
    """User and group of the pods of steps and model servers on a cluster; empty: assigned by the cluster (OpenShift)."""
    step_pods: StepPods = NO_STEP_PODS
    """The platform's additions to the pods of steps, as JSON: labels, annotations, env, nodeSelector, tolerations."""
    server_pods: ServerPods = NO_SERVER_PODS
    """The same for model servers; also priorityClassName, affinity, topologySpreadConstraints."""
    gateway_millicores: int = Field(50, ge=0, le=1_000)
    """Thousandths of a core that the gateway container of each model server requests on a cluster, besides the server's own."""

    gateway_http: str = Field("", pattern=r"^(https?://[^\s]+)?$")
    """Public URL of the gateway over HTTP, for example https://models.example.org; `{namespace}` in it is replaced by the
    namespace of a service. Empty: no gateway."""
    gateway_grpc: str = Field("", pattern=r"^([^\s/]+:[0-9]{1,5})?$")
    """Public address of the gateway over gRPC, as host:port."""
    embedded_gateway: bool = True
    """Whether `pelagos up` starts the gateway, which gives all models one address (docs/gateway.md)."""
    embedded_hub: bool = True
    """Whether `pelagos up` starts the hub, the web pages on which people find and try models (docs/hub.md)."""
    hub_signing_key_file: Path | None = None
    """Key of the hub's signatures on Trials, mounted from the Secret pelagos-hub; read again at every use. None: statements about
    the users of Trials are never trusted."""

    serving_hosts: str = Field("", pattern=r"^[A-Za-z0-9.,:\[\]-]*$")
    """Host names, separated by commas, that clients of local model servers may use besides localhost, 127.0.0.1 and [::1], such
    as those of a proxy in front of them."""

    endpoint_ca_file: Path | None = None
    """Certificate authority of endpoints that `pelagos predict` calls by https; None: the system's."""

    kubeflow_url: str = ""
    """URL of the Kubeflow Pipelines API, for example http://ml-pipeline.kubeflow:8888."""
    kubeflow_public_url: str = ""
    """Its URL for people's browsers, for links in status; empty: kubeflow_url."""
    kubeflow_namespace: str = ""
    """Namespace of all pipeline runs, for a single-user server; empty: each resource's own (multi-user server)."""
    kubeflow_token_file: Path | None = None
    """File with a service-account token for the API (audience pipelines.kubeflow.org); read again when it changes."""
    kubeflow_ca_file: Path | None = None
    """Certificate authority of the Kubeflow Pipelines API; None: the system's."""

    oscar_url: str = Field("", max_length=2_000)
    """URL of the OSCAR cluster's ingress, for its REST interface and exposed services, for example https://oscar.example."""
    oscar_username_file: Path | None = None
    """File with its administrator's user name (basic auth), mounted from a Secret; read again at every call."""
    oscar_password_file: Path | None = None
    """File with the password, likewise."""
    oscar_token_file: Path | None = None
    """File with a token of an OpenID Connect provider that the cluster trusts, instead of user and password. Others renew it."""
    oscar_refresh_token_file: Path | None = None
    """File with a refresh token by which the operator requests tokens from the provider itself, instead of the others."""
    oscar_token_url: str = Field("https://aai.egi.eu/auth/realms/egi/protocol/openid-connect/token", max_length=2_000)
    """Token endpoint of the provider; default: that of EGI Check-in."""
    oscar_client_id: str = Field("token-portal", max_length=200)
    """Client for which the refresh token was issued; default: EGI's token portal."""
    oscar_scopes: str = Field("openid email profile voperson_id eduperson_entitlement", max_length=1_000)
    """Requested scopes: OSCAR reads the VO from entitlements."""
    oscar_ca_file: Path | None = None
    """Certificate authority of the OSCAR cluster; None: the system's."""
    oscar_vo: str = Field("", max_length=200)
    """Virtual organisation in which services are created, if the cluster requires one; empty: the first that accepts us."""
    oscar_endpoint_login: Literal["basic", "forward"] = "basic"
    """How clients log in to endpoints: with the service's name and token, or by Traefik's request to OSCAR (Gateway API)."""
    oscar_pull_secrets: str = Field("", pattern=r"^([a-z0-9.-]+(,[a-z0-9.-]+)*)?$")
    """Image pull Secrets of the OSCAR cluster for the serving image, separated by commas."""
    oscar_bucket: str = Field("", pattern=r"^([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?$")
    """Bucket of OSCAR's MinIO for images and results of asynchronous invocations, created if missing; empty: no such invocations.
    No service refers to it, so OSCAR never deletes it with one."""
    oscar_storage_url: str = Field("", max_length=2_000)
    """URL of that MinIO, with which OSCAR's signed URLs begin."""
    oscar_storage_access_key_file: Path | None = None
    """File with the access key with which services download packages. Its owner should only be able to read model packages."""
    oscar_storage_secret_key_file: Path | None = None
    """File with its secret key; without both, the storage is used without a login."""

    objects_uri: str = ""
    """Object storage for versions, packages and reports, as s3://bucket/prefix; empty: the folder objects_root.
    The scheme chooses a store in engine_registry.OBJECTS."""
    data_uri: str = ""
    """Object storage with the data volume, as s3://bucket/prefix; empty: the folder data_root.
    The scheme chooses a store in engine_registry.VOLUMES."""
    objects_claim: str = ""
    """PersistentVolumeClaim behind objects_root, which steps and model servers mount at the same path."""
    data_claim: str = ""
    """PersistentVolumeClaim behind data_root, mounted in the same way."""
    s3_endpoint: str = ""
    """URL of the S3-compatible service; empty: that of AWS. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    s3_region: str = "us-east-1"
    """Region of the buckets."""
    s3_ca_file: Path | None = None
    """Certificate authority of the S3-compatible service; None: the system's."""
    objects_secret: str = ""
    """Secret with the S3 credentials in the namespaces of resources, for steps and model servers; a tenant may have another."""

    tracking_username_file: Path | None = None
    """File with the user name for the MLflow server (basic auth), mounted from a Secret; read again at every call."""
    tracking_password_file: Path | None = None
    """File with the password, likewise."""
    tracking_token_file: Path | None = None
    """File with a bearer token, instead of user and password."""
    steps_tracking_username_file: Path | None = None
    """File with the MLflow user name for steps on this machine, passed in their environment. On a cluster: tracking_secret."""
    steps_tracking_password_file: Path | None = None
    """File with the password, likewise."""
    tracking_ca_file: Path | None = None
    """Certificate authority of the MLflow server; None: the system's."""
    tracking_secret: str = ""
    """Secret with MLflow credentials in the namespaces of resources, for steps; a tenant's ConfigMap overrides it."""

    ca_config_map: str = ""
    """ConfigMap with certificate authorities (key ca.crt) in the namespaces of resources, which steps and model servers trust for
    S3 and MLflow; a tenant's ConfigMap overrides it. Empty: the system's."""

    leader_election: bool = False
    """Whether a Lease decides which of several operators acts; on a cluster it always does."""
    lease_name: str = "pelagos-operator"
    """Name of the Lease."""
    lease_namespace: str = ""
    """Namespace of the Lease, which is the operator's; empty: the pod's own."""
    lease_seconds: int = Field(12, ge=1, le=60)
    """Seconds for which a leader that has stopped renewing keeps the Lease."""

    authority_folder: Path | None = None
    """Folder of the keys for seals on data outside Kubernetes: `current` seals, others only verify.
    None: <home>/authority."""

    max_image_megapixels: int = Field(50, ge=1, le=2_000)
    """Ceiling: megapixels of an image, in a source or in a request. Larger ones are refused."""
    max_image_mebibytes: int = Field(64, ge=1, le=1_024)
    """Ceiling: MiB of an image file."""
    max_image_memory: int = Field(640, ge=64, le=65_536)
    """Ceiling: MiB of memory for decoding one image; JPEG 2000 takes 17 bytes per pixel, TIFF 9 to 21, others 3 to 9."""
    max_image_seconds: int = Field(10, ge=1, le=600)
    """Ceiling: seconds of processor time for decoding one image."""
    max_scan_megapixels: int = Field(500, ge=1, le=4_000)
    """Ceiling: megapixels of a source's image that spec.preprocessing.tile cuts into tiles."""
    max_scan_mebibytes: int = Field(2_048, ge=1, le=65_536)
    """Ceiling: MiB of such an image file."""
    max_checkpoint_mebibytes: int = Field(1_024, ge=1, le=65_536)
    """Ceiling: MiB of a checkpoint to start from, and of the tensors in it."""
    max_annotation_mebibytes: int = Field(256, ge=1, le=65_536)
    """Ceiling: MiB of one file of annotations."""
    max_annotations: int = Field(1_000_000, ge=1, le=1_000_000_000)
    """Ceiling: boxes, and likewise images, in the annotation files of one source."""
    max_annotation_seconds: int = Field(120, ge=1, le=3_600)
    """Ceiling: seconds of processor time for parsing one annotation file."""
    max_archive_gibibytes: int = Field(200, ge=1, le=65_536)
    """Ceiling: unpacked GiB of a source's archive."""
    max_archive_seconds: int = Field(3_600, ge=1, le=86_400)
    """Ceiling: seconds of processor time for unpacking such an archive."""

    power_watts_per_core: float = Field(cost.USUAL_WATTS_PER_CORE, ge=0, le=cost.MOST_WATTS, allow_inf_nan=False)
    """Watts of a busy processor core, for the energy of trainings if it cannot be measured. Default: that of an unknown
    processor in Green Algorithms (doi:10.1002/advs.202100707). Better: your processor's thermal design power per core."""
    power_grams_per_kwh: float = Field(cost.USUAL_GRAMS_PER_KWH, ge=0, le=cost.MOST_GRAMS, allow_inf_nan=False)
    """Grams of CO2 equivalent per kilowatt-hour of your electricity. Default: the world mean of 2018 of the International
    Energy Agency (Global Energy and CO2 Status Report 2019)."""

    source_hosts: Annotated[str, AfterValidator(_hosts)] = ""
    """Hosts and networks from which Datasets may fetch sources, besides public addresses over https, separated by commas
    (https://cvat.lab.example, http://10.3.0.7:8080, 10.20.0.0/16). A tenant's ConfigMap (sourceHosts) overrides it."""

    dns_peers: Peers = DNS
    """DNS servers of model servers: peers and ports of their NetworkPolicy, as JSON."""
    storage_peers: Peers = NOBODY
    """The object storage, in the same form; without peers, they follow from its URL if that has a Service or an IP address."""
    model_clients: list[Annotated[dict[str, Any], Field(min_length=1)]] = [{"podSelector": {}}]
    """Permitted clients of model servers: peers of their NetworkPolicy, as JSON. Default: pods of their own namespace."""
    monitoring_namespace: str = ""
    """Namespace of the Prometheus that may read the metrics of model servers; empty: the operator's own."""

    def of_steps(self) -> dict[str, str]:
        """The environment variables that steps need: the ceilings, the power settings, and third-party modules."""
        power = {cost.WATTS_PER_CORE: self.power_watts_per_core, cost.GRAMS_PER_KWH: self.power_grams_per_kwh}
        told = self.ceilings() | {name: f"{value:g}" for name, value in power.items()}
        return told | ({extensions.VARIABLE: self.extensions} if self.extensions else {})

    def ceilings(self) -> dict[str, str]:
        """The ceilings as environment variables, as steps and model servers read them."""
        named = {name: value for name, value in self.model_dump().items() if name.startswith("max_")}
        return {f"PELAGOS_{name.upper()}": str(value) for name, value in named.items()}

    @property
    def authority(self) -> Path:
        """The folder of the sealing keys."""
        return self.authority_folder or self.home / "authority"

    @property
    def data(self) -> Path:
        """The data volume."""
        return self.data_root or self.home / "data"

    @property
    def objects(self) -> Path:
        """The object store."""
        return self.objects_root or self.home / "objects"
