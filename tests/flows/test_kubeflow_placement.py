"""What the control plane writes into a run by itself equals what kfp-kubernetes writes into the same flow, setting by setting."""

# kfp reads the annotations of a flow, so their evaluation must not be postponed.
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, dsl, kubernetes
from kfp.client import client as kfp_client
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from pelagos.engines.kubeflow import placement as kubeflow_placement
from pelagos.engines.kubeflow.placement import Count, Mount, PodDefaults
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import RunName, RunRequest, RunResources, SourceSecret
from pelagos.ports.placement import Placement, Toleration
from pelagos.ports.pods import StepPods
from pelagos.ports.tenants import Tenant
from pelagos_pipelines.components import preparation, training
from pelagos_pipelines.flows import compilation

IMAGE = "registry.example.org/trainer:7"
NAME = "training-3c9a8f4e-0000-4000-8000-000000000001-0123456789ab"
REQUEST = RunRequest(
    RunName(NAME),
    "training",
    {},
    attempt=3,
    retry_key="asked/4",
    resources=RunResources(cpu=6),
    labels={
        "pelagos.dev/uid": "3c9a8f4e-0000-4000-8000-000000000001",
        "pelagos.dev/resource": "trainingrun/reef/detector",
    },
)
PLACE = PodDefaults(image=IMAGE)
COUNT = Count(3, 2)
Applies = Callable[[dsl.PipelineTask, bool], Any]
"""Sets something on a step, given whether the step computes on the GPU."""


@dataclass(frozen=True)
class Setting:
    """A request with its surroundings, and the same expressed with kfp-kubernetes."""

    request: RunRequest
    apply: Applies
    surroundings: PodDefaults = PLACE
    gpus: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    pull_policy: str = "IfNotPresent"


def _placed(placement: Placement) -> RunRequest:
    return replace(REQUEST, resources=replace(REQUEST.resources, placement=placement))


def _nothing(_task: dsl.PipelineTask, _gpu: bool) -> None:
    """For settings that all runs have."""


def _gpus(task: dsl.PipelineTask, gpu: bool) -> None:
    if gpu:
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(2)
        kubernetes.add_node_selector(task, "nvidia.com/gpu.product", "NVIDIA-A10")
    kubernetes.add_node_selector(task, "zone", "a")


def _additions(task: dsl.PipelineTask, _gpu: bool) -> None:
    kubernetes.add_pod_label(task, "example.org/mesh", "off")
    kubernetes.add_pod_annotation(task, "example.org/note", "n")
    kubernetes.add_node_selector(task, "pool", "batch")
    kubernetes.add_node_selector(task, "zone", "a")
    kubernetes.add_toleration(task, key="dedicated", operator="Exists")


def _tolerations(task: dsl.PipelineTask, _gpu: bool) -> None:
    kubernetes.add_toleration(task, key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
    kubernetes.add_toleration(task, key="team", operator="Equal", value="plankton")


def _claims(task: dsl.PipelineTask, _gpu: bool) -> None:
    kubernetes.mount_pvc(task, "reef-data", "/var/pelagos/data")
    kubernetes.mount_pvc(task, "objects", "/var/pelagos/objects")


def _secrets(task: dsl.PipelineTask, _gpu: bool) -> None:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    kubernetes.use_secret_as_env(task, "s3", {key: key for key in keys})
    either = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    kubernetes.use_secret_as_env(task, "reef-mlflow", {key: key for key in either}, optional=True)


def _source_secret(task: dsl.PipelineTask, _gpu: bool) -> None:
    kubernetes.use_secret_as_volume(task, "reef-cvat", "/etc/pelagos/source-secret")
    task.set_env_variable("PELAGOS_SOURCE_HOSTS_OF", "the ConfigMap pelagos-tenant-default of the operator's namespace")
    task.set_env_variable("PELAGOS_SOURCE_SECRET", "/etc/pelagos/source-secret")


def _authorities(task: dsl.PipelineTask, _gpu: bool) -> None:
    kubernetes.use_config_map_as_volume(task, "reef-ca", "/etc/pelagos/ca")


SETTINGS = {
    "nothing more": Setting(REQUEST, _nothing),
    "a secret of a source": Setting(
        replace(REQUEST, namespace="default", secret=SourceSecret("reef-cvat")), _source_secret
    ),
    "memory": Setting(
        _placed(Placement(memory="24Gi")), lambda task, _gpu: task.set_memory_limit("24Gi").set_memory_request("24Gi")
    ),
    "requests and limits apart": Setting(
        _placed(Placement(memory="24Gi", memory_limit="32Gi", millicores=500, millicores_limit=5500)),
        lambda task, _gpu: (
            task.set_cpu_request("500m").set_cpu_limit("5500m").set_memory_request("24Gi").set_memory_limit("32Gi")
        ),
    ),
    "another user": Setting(
        REQUEST,
        lambda task, _gpu: kubernetes.set_security_context(
            task, run_as_user=20000, run_as_group=20000, run_as_non_root=True
        ),
        replace(PLACE, user="20000"),
    ),
    "what the platform adds": Setting(
        _placed(Placement(node_selector={"zone": "a"})),
        _additions,
        replace(
            PLACE,
            pods=StepPods(
                labels={"example.org/mesh": "off"},
                annotations={"example.org/note": "n"},
                env={"HTTPS_PROXY": "http://proxy:3128", "OMP_NUM_THREADS": "99"},
                node_selector={"pool": "batch", "zone": "b"},
                tolerations=[{"key": "dedicated", "operator": "Exists"}],
            ),
        ),
        environment={"HTTPS_PROXY": "http://proxy:3128"},
    ),
    "gpus of a product": Setting(
        _placed(Placement(gpus=2, gpu_product="NVIDIA-A10", node_selector={"zone": "a"})), _gpus, gpus=True
    ),
    "tolerations": Setting(
        _placed(
            Placement(
                tolerations=(
                    Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),
                    Toleration(key="team", value="plankton"),
                )
            )
        ),
        _tolerations,
    ),
    "queue": Setting(
        _placed(Placement(queue="reef-gpus")),
        lambda task, _gpu: kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", "reef-gpus"),
    ),
    "queue of the tenant": Setting(
        replace(REQUEST, tenant=Tenant(queue="reef")),
        lambda task, _gpu: kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", "reef"),
    ),
    "shared memory": Setting(
        _placed(Placement(shared_memory="8Gi")),
        lambda task, _gpu: kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", "8Gi"),
    ),
    "time limit": Setting(
        replace(REQUEST, resources=replace(REQUEST.resources, time_limit=14400)),
        lambda task, _gpu: kubernetes.set_timeout(task, 14400),
    ),
    "claims": Setting(
        replace(REQUEST, tenant=Tenant(data_claim="reef-data")),
        _claims,
        replace(PLACE, data=Mount("data", "/var/pelagos/data"), objects=Mount("objects", "/var/pelagos/objects")),
    ),
    "object storage": Setting(
        replace(REQUEST, tenant=Tenant(tracking_secret="reef-mlflow")),
        _secrets,
        replace(
            PLACE,
            object_storage=True,
            s3_endpoint="http://minio:9000",
            s3_region="eu-1",
            objects_secret="s3",
            tracking_secret="mlflow",
        ),
        environment={"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "eu-1"},
    ),
    "certificate authorities": Setting(
        replace(REQUEST, tenant=Tenant(ca_config_map="reef-ca")),
        _authorities,
        replace(PLACE, ca_config_map="ca", object_storage=True),
        environment={
            "MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/pelagos/ca/ca.crt",
            "AWS_CA_BUNDLE": "/etc/pelagos/ca/ca.crt",
        },
    ),
    "certificate authority of MLflow alone": Setting(
        REQUEST,
        lambda task, _gpu: kubernetes.use_config_map_as_volume(task, "ca", "/etc/pelagos/ca"),
        replace(PLACE, ca_config_map="ca"),
        environment={"MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/pelagos/ca/ca.crt"},
    ),
    "pulling images": Setting(
        replace(REQUEST, tenant=Tenant(image_pull_secrets=("one", "two"))),
        lambda task, _gpu: kubernetes.set_image_pull_secrets(task, ["one", "two"]),
        replace(PLACE, image_pull_policy="Always"),
        pull_policy="Always",
    ),
}


def compiled_by_kfp(setting: Setting, folder: Path) -> Any:
    """The training flow with the setting on each of its steps, compiled and read as ``kfp.Client`` does it."""

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name="training",
        description="Train on a dataset version, measure on its test split, export and prove the model.",
    )
    def training_flow(  # noqa: PLR0917 - as in the contract
        request: str, data_root: str, store: str, report: str, workspace: str, tracking_uri: str, tracking_run: str
    ) -> None:
        names = {
            "request": request,
            "data_root": data_root,
            "store": store,
            "report": report,
            "workspace": workspace,
            "tracking_uri": tracking_uri,
            "tracking_run": tracking_run,
        }
        if setting.gpus:
            train = training.train_evaluate(**names)
            tasks = [(train, "16Gi", True), (training.export(**names).after(train), "8Gi", False)]
        else:
            tasks = [(training.train_evaluate_export(**names), "16Gi", False)]
        for task, memory, gpu in tasks:
            task.set_memory_limit(memory).set_memory_request(memory)
            _common(task, setting, gpu)
            setting.apply(task, gpu)

    return _read(training_flow, folder)


def _common(task: dsl.PipelineTask, setting: Setting, gpu: bool) -> None:
    task.set_caching_options(enable_caching=False).set_container_image(IMAGE)
    task.set_cpu_limit("6").set_cpu_request("6")
    for name, value in kubeflow_placement._ENVIRONMENT.items():
        task.set_env_variable(name, value)
    task.set_env_variable("OMP_NUM_THREADS", "6")
    if not (gpu and setting.gpus):
        task.set_env_variable("NVIDIA_VISIBLE_DEVICES", "void")
    for name, value in setting.environment.items():
        task.set_env_variable(name, value)
    kubernetes.set_image_pull_policy(task, setting.pull_policy)
    kubernetes.set_security_context(task, run_as_user=10001, run_as_group=10001, run_as_non_root=True)
    labels = {
        "pelagos.dev/uid": "3c9a8f4e-0000-4000-8000-000000000001",
        "app.kubernetes.io/name": "pelagos-pipeline-step",
        "app.kubernetes.io/instance": NAME,
        "app.kubernetes.io/component": "training",
        "app.kubernetes.io/part-of": "pelagos",
        "app.kubernetes.io/managed-by": "pelagos-operator",
    }
    for key, value in labels.items():
        kubernetes.add_pod_label(task, key, value)
    annotations = {
        "pelagos.dev/resource": "trainingrun/reef/detector",
        "pelagos.dev/run": NAME,
        "pelagos.dev/attempt": "3",
        "pelagos.dev/attempts-with-key": "2",
        "pelagos.dev/retry-key": "asked/4",
    }
    for key, value in annotations.items():
        kubernetes.add_pod_annotation(task, key, value)


def _read(flow: Any, folder: Path) -> Any:
    compiler.Compiler().compile(flow, str(folder / "flow.yaml"))
    return kfp_client._extract_pipeline_yaml(str(folder / "flow.yaml")).to_dict()


def documents(request: RunRequest = REQUEST) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((compilation.FOLDER / request.compiled).read_text()))


def as_kfp_reads(struct: dict[str, Any]) -> dict[str, Any]:
    """The documents after parsing into protobuf messages: an unknown field or a value of another type is an error."""
    spec = json_format.ParseDict(struct["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
    platform = json_format.ParseDict(struct["platform_spec"], pipeline_spec_pb2.PlatformSpec())
    for config in struct["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    return {"pipeline_spec": json_format.MessageToDict(spec), "platform_spec": json_format.MessageToDict(platform)}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_written_as_kfp_kubernetes_writes_it(name: str, tmp_path: Path) -> None:
    setting = SETTINGS[name]

    placed = kubeflow_placement.place(documents(setting.request), setting.request, setting.surroundings, COUNT)

    assert as_kfp_reads(placed) == compiled_by_kfp(setting, tmp_path)


def test_steps_run_as_whom_the_cluster_gives_where_no_user_is_set() -> None:
    placed = kubeflow_placement.place(documents(), REQUEST, replace(PLACE, user=""), COUNT)

    as_kfp_reads(placed)
    executors = placed["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert [config["securityContext"] for config in executors] == [{"runAsNonRoot": True}] * len(executors)


def test_a_preparation_is_placed_as_well(tmp_path: Path) -> None:
    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name="dataset-preparation", description="Turn a source of images and labels into an immutable dataset version."
    )
    def flow(request: str, data_root: str, store: str, report: str) -> None:
        task = preparation.prepare(request=request, data_root=data_root, store=store, report=report)
        task.set_memory_limit("4Gi").set_memory_request("4Gi")
        _common(task, Setting(REQUEST, _nothing), gpu=False)
        task.set_env_variable(
            "PELAGOS_SOURCE_HOSTS_OF", "the ConfigMap pelagos-tenant-reef of the operator's namespace"
        )
        kubernetes.add_pod_label(task, "app.kubernetes.io/component", "dataset-preparation")

    request = replace(REQUEST, flow="dataset-preparation", namespace="reef")
    placed = kubeflow_placement.place(documents(request), request, PLACE, COUNT)

    assert as_kfp_reads(placed) == _read(flow, tmp_path)


def test_the_count_the_queue_and_the_time_limit_of_a_run_can_be_read_back() -> None:
    resources = RunResources(placement=Placement(queue="reef"), time_limit=60)
    placed = kubeflow_placement.place(documents(), replace(REQUEST, resources=resources), PLACE, COUNT)
    compiled = {"pipeline_spec": documents()[0]}

    assert kubeflow_placement.read_count(placed) == (COUNT, "asked/4")
    assert kubeflow_placement.read_queue(placed) == "reef"
    assert kubeflow_placement.read_time_limit(placed) == 60
    assert kubeflow_placement.read_count(compiled) is None
    assert kubeflow_placement.read_queue(compiled) == ""
    assert kubeflow_placement.read_time_limit(compiled) == 0


def test_steps_get_their_key_from_a_secret_and_no_parameter_holds_it() -> None:
    keyless = kubeflow_placement.place(documents(), REQUEST, PLACE, COUNT)
    placed = kubeflow_placement.place(documents(), REQUEST, PLACE, COUNT, "pelagos-steps-1")

    as_kfp_reads(placed)
    for label, config in placed["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        named = {secret["secretName"]: secret for secret in config["secretAsEnv"]}
        assert named["pelagos-steps-1"]["keyToEnv"] == [
            {"secretKey": "PELAGOS_STEP_NAMESPACE_KEY", "envVar": "PELAGOS_STEP_NAMESPACE_KEY"}
        ]
        assert named["pelagos-steps-1"]["optional"] is False
        container = placed["pipeline_spec"]["deploymentSpec"]["executors"][label]["container"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert (variables["PELAGOS_STEP_RUN"], variables["PELAGOS_STEP_ATTEMPT"]) == (REQUEST.name, str(COUNT.attempt))
    assert "PELAGOS_STEP" not in str(keyless)


def test_the_compiled_flow_is_not_changed_by_placing_a_run() -> None:
    flow = documents()
    kubeflow_placement.place(flow, REQUEST, PLACE, COUNT)

    assert flow == documents()


def test_one_claim_for_two_folders_is_refused_in_words_that_help() -> None:
    both = replace(PLACE, data=Mount("all", "/data"), objects=Mount("all", "/objects"))

    with pytest.raises(RejectedError, match=r"dataClaim and objectsClaim are both 'all'.*PELAGOS_DATA_CLAIM"):
        kubeflow_placement.place(documents(), REQUEST, both, COUNT)


def test_only_who_asks_servers_of_others_is_told_which_may_be_asked() -> None:
    tenant = Tenant(source_hosts="https://cvat.lab.example", ca_config_map="reef-ca")
    preparation = replace(
        REQUEST, flow="dataset-preparation", namespace="reef", tenant=tenant, secret=SourceSecret("reef-cvat")
    )
    told = {}
    tracked = replace(REQUEST, tenant=tenant, namespace="reef", secret=SourceSecret("reef-wandb"))
    started = {"request": json.dumps({"model": {"weights": {"uri": "https://models.example/yolov8n.pt"}}})}
    begun = replace(REQUEST, tenant=tenant, namespace="reef", parameters={**REQUEST.parameters, **started})
    for request in (preparation, tracked, begun, replace(REQUEST, tenant=tenant)):
        placed = kubeflow_placement.place(documents(request), request, PLACE, COUNT)
        as_kfp_reads(placed)
        (executor,) = list(placed["pipeline_spec"]["deploymentSpec"]["executors"].values())[:1]
        variables = {each["name"]: each["value"] for each in executor["container"]["env"]}
        of_source = {name: value for name, value in variables.items() if name.startswith("PELAGOS_SOURCE")}
        told[request.flow, request.secret is not None, request is begun] = of_source

    all_of_it = {
        "PELAGOS_SOURCE_HOSTS": "https://cvat.lab.example",
        "PELAGOS_SOURCE_HOSTS_OF": "the ConfigMap pelagos-tenant-reef of the operator's namespace",
        "PELAGOS_SOURCE_CA": "/etc/pelagos/ca/ca.crt",
        "PELAGOS_SOURCE_SECRET": "/etc/pelagos/source-secret",
    }
    assert told == {
        ("dataset-preparation", True, False): all_of_it,
        ("training", True, False): all_of_it,
        ("training", False, True): {name: value for name, value in all_of_it.items() if not name.endswith("SECRET")},
        ("training", False, False): {},
    }
