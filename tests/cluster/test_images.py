"""The contents that images must and must not have, and that each works as a restricted pod."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import machine, pods
from cluster.harness.cluster import Cluster
from cluster.platform.environments import TRAINER

_LABELS = {"title", "description", "licenses", "version", "revision"}
_MODEL = """
import numpy as np
import triton_python_backend_utils as backend


class TritonPythonModel:
    def execute(self, requests):
        doubled = [2 * backend.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [backend.InferenceResponse([backend.Tensor("y", array)]) for array in doubled]
"""
_CONFIG = """
backend: "python"
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [3] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [3] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""
_TRITON = (
    "mkdir -p /tmp/models/double/1 && cp /model/config.pbtxt /tmp/models/double/ && cp /model/model.py /tmp/models/double/1/ &&"
    " exec tritonserver --model-repository=/tmp/models --http-port=8080 --grpc-port=9000 --metrics-port=8002"
    " --allow-gpu-metrics=false --strict-readiness=false"
)
_SCRATCH = {"name": "scratch", "emptyDir": {}}
IMAGES = ("operator_image", "serving_image", "trainer_image", "gateway_image", "hub_image", "deepaas_image")


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    """Each of our images."""
    return str(request.getfixturevalue(request.param))


def run(cluster: Cluster, image: str, script: str) -> str:
    """The output of a shell in the image."""
    return cluster.images.docker("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", script)


def test_an_image_is_labelled_and_never_runs_as_root(cluster: Cluster, image: str) -> None:
    config = cluster.images.inspect(image)["Config"]
    assert {f"org.opencontainers.image.{name}" for name in _LABELS} <= set(config["Labels"])
    assert config["User"] == "10001:10001"
    assert run(cluster, image, "id -u") == "10001\n"


def test_an_image_holds_nothing_that_builds_or_installs(cluster: Cluster, image: str) -> None:
    found = run(cluster, image, "for name in pip gcc make git hatch kubectl uv; do command -v $name; done; true")
    assert found == ""
    modules = "import importlib.util as u; print([m for m in ('pip', 'hatchling', 'editables') if u.find_spec(m)])"
    assert run(cluster, image, f'python3 -c "{modules}"') == "[]\n"


def test_nothing_in_an_image_can_be_changed_by_its_user(cluster: Cluster, image: str) -> None:
    """Except for the folders that a pod mounts over."""
    found = run(
        cluster, image, "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null; true"
    )
    assert set(found.split()) <= {"/tmp", "/var/tmp", "/run/lock", "/var/lib/pelagos"}


@pytest.mark.parametrize("image", [each for each in IMAGES if each != "trainer_image"], indirect=True)
def test_no_training_framework_and_no_agpl_code_outside_the_trainer(cluster: Cluster, image: str) -> None:
    modules = (
        "import importlib.util as u; print([m for m in ('torch', 'ultralytics', 'kfp', 'mlflow') if u.find_spec(m)])"
    )
    assert run(cluster, image, f'python3 -c "{modules}"') == "[]\n"


def test_the_operator_answers_as_a_restricted_pod(cluster: Cluster, operator_image: str, namespace: str) -> None:
    for definition in sorted((machine.ROOT / "manifests/crds").glob("*.pelagos.dev.yaml")):
        cluster.kubectl("apply", f"--filename={definition}")
    cluster.kubectl(
        "create",
        "clusterrolebinding",
        namespace,
        "--clusterrole=cluster-admin",
        f"--serviceaccount={namespace}:default",
    )
    container = pods.container(
        operator_image,
        volumeMounts=[{"name": "scratch", "mountPath": "/var/lib/pelagos"}, {"name": "scratch", "mountPath": "/tmp"}],
        readinessProbe={"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
    )
    cluster.apply(
        pods.deployment("operator", namespace, pods.spec(container, volumes=[_SCRATCH])),
        pods.service("operator", namespace, 8080),
    )
    cluster.wait_for("Available", "deployment/operator", namespace)
    port = cluster.forward_service("operator", 8080, namespace)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200
    assert cluster.kubectl("exec", f"--namespace={namespace}", "deployment/operator", "--", "id", "-u") == "10001\n"


def test_triton_serves_a_python_model_as_a_restricted_pod(cluster: Cluster, serving_image: str, namespace: str) -> None:
    """The answer must not be empty, either: Triton's Python backend and NumPy must fit each other."""
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model", "namespace": namespace}}
    container = pods.container(
        serving_image,
        *("sh", "-c", _TRITON),
        volumeMounts=[{"name": "scratch", "mountPath": "/tmp"}, {"name": "model", "mountPath": "/model"}],
        readinessProbe={"httpGet": {"path": "/v2/models/double/ready", "port": 8080}, "periodSeconds": 1},
    )
    spec = pods.spec(container, volumes=[_SCRATCH, {"name": "model", "configMap": {"name": "model"}}])
    cluster.apply(
        {**files, "data": {"model.py": _MODEL, "config.pbtxt": _CONFIG}},
        pods.deployment("triton", namespace, spec),
        pods.service("triton", namespace, 8080),
    )
    cluster.wait_for("Available", "deployment/triton", namespace)
    port = cluster.forward_service("triton", 8080, namespace)
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.5]}
    answer = post(f"http://127.0.0.1:{port}/v2/models/double/infer", {"inputs": [tensor]})
    assert answer["outputs"][0]["data"] == [2.0, 4.0, 7.0]


def post(url: str, body: Any) -> Any:
    """The first connection may be refused while kube-proxy catches up."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(20):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer")


def test_pipeline_code_runs_in_the_trainer_as_a_restricted_pod(
    cluster: Cluster, trainer_image: str, namespace: str
) -> None:
    script = "import torch, cv2, ultralytics, pelagos_pipelines.training; print(float((torch.ones(2, 2) @ torch.eye(2)).sum()))"
    mounted = TRAINER.bind(cluster, namespace)
    container = pods.container(
        trainer_image,
        *("python3", "-c", script),
        env=mounted.variables(),
        volumeMounts=[*mounted.mounts(), {"name": "scratch", "mountPath": "/tmp"}],
    )
    spec = pods.spec(container, volumes=[*mounted.volumes(), _SCRATCH])
    cluster.apply(pods.pod("step", namespace, spec))
    cluster.wait(
        lambda: cluster.get("pod", "step", namespace)["status"]["phase"] in ("Succeeded", "Failed"), "the step ends"
    )
    assert cluster.kubectl("logs", "step", f"--namespace={namespace}").strip().endswith("4.0")


def test_images_are_built_of_what_is_locked(cluster: Cluster, operator_image: str) -> None:
    said = run(cluster, operator_image, "python3 -c \"import importlib.metadata as m; print(m.version('kopf'))\"")
    locked = (machine.ROOT / "requirements" / "control-plane.txt").read_text()
    assert f"kopf=={said.strip()} " in locked


def test_every_dockerfile_says_what_is_copied(cluster: Cluster) -> None:
    """Each has an allow list beside it, so that nothing from a work folder gets into an image by mistake."""
    for file in Path(machine.ROOT, "images").glob("*/Dockerfile"):
        assert "*" in (file.parent / "Dockerfile.dockerignore").read_text().splitlines()


@pytest.mark.parametrize("program", ["pelagos-serve", "pelagos-fetch"])
def test_what_the_model_server_lacks_is_said_in_words(cluster: Cluster, serving_image: str, program: str) -> None:
    said = run(cluster, serving_image, f"{program} 2>&1; echo $?")
    assert "PELAGOS_" in said
    assert "Traceback" not in said
    assert not said.endswith("\n0\n")


def test_the_command_line_and_the_resource_definitions_are_in_the_operator(
    cluster: Cluster, operator_image: str
) -> None:
    assert "Usage" in run(cluster, operator_image, "pelagos --help")
    script = "from pelagos.embedded import cluster; print(len(cluster.definitions()))"
    assert run(cluster, operator_image, f'python3 -c "{script}"') == "4\n"
