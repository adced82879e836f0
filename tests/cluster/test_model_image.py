"""A model leaves the cluster: `pelagos image build` makes an image of a ModelService's model, which answers the same.

The builder is the node's, the registry go-containerregistry's, and the image runs as a restricted pod without network access.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
import yaml

from cluster.harness import machine, pods, servers
from cluster.harness.cluster import Cluster

REGISTRY = "localhost:5001/marine"
_SCRATCH = {"name": "scratch", "emptyDir": {}}
_MOUNTED = [{"name": "scratch", "mountPath": "/tmp"}]


@dataclass(frozen=True)
class Built:
    """The results of the command."""

    image: str
    package: Path
    described: Path


@pytest.fixture(scope="module")
def built(
    cluster: Cluster,
    deepaas_image: str,
    packages: dict[str, tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Built]:
    """The image of a ModelService whose status is written as by an operator, pushed."""
    folder, (uri, graph) = tmp_path_factory.mktemp("image"), packages["Detection"]
    for definition in sorted((machine.ROOT / "manifests/crds").glob("*.pelagos.dev.yaml")):
        cluster.kubectl("apply", f"--filename={definition}")
    cluster.create_namespace("models")
    spec = {
        "model": {"uri": uri, "manifestSha256": Path(uri).name},
        "card": {"title": "Colours", "license": "CC-BY-4.0"},
    }
    metadata = {"name": "colours", "namespace": "models"}
    kind = {"apiVersion": "pelagos.dev/v1alpha1", "kind": "ModelService"}
    cluster.apply({**kind, "metadata": metadata, "spec": spec})
    model = {"name": "colours", "uri": uri, "onnxSha256": graph, "manifestSha256": Path(uri).name, "source": "a test"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-29T00:00:00Z",
    }
    status = json.dumps({"status": {"model": model, "conditions": [ready]}})
    patch = ("patch", "modelservice", "colours", "--namespace=models", "--subresource=status", "--type=merge")
    cluster.kubectl(*patch, f"--patch={status}")
    cluster.node.spawn("registry-of-models", [machine.program("registry"), "-port=5001"])
    cluster.wait(lambda: "serving on" in cluster.node.log("registry-of-models").read_text(), "the registry listens", 20)
    # The builder reaches the API server at another address.
    inside = cluster.keys.write_kubeconfig(folder / "kubeconfig", servers.API, cluster.keys.token("admin"))
    done = cluster.node.run(
        *("env", f"DOCKER_HOST={servers.DOCKER}", f"KUBECONFIG={inside}", f"PELAGOS_HOME={folder}"),
        *(f"PELAGOS_ENVIRONMENTS={machine.ENVIRONMENTS}", sys.executable, "-m", "pelagos.cli.main", "image", "build"),
        *("colours", "--namespace=models", f"--tag={REGISTRY}/colours:1", "--push", f"--base={deepaas_image}"),
        *("--engine=docker", f"--fdl={folder / 'fdl.yaml'}"),
    )
    yield Built(done.stdout.strip(), Path(uri), folder / "fdl.yaml")
    cluster.kubectl("delete", "namespace", "models", "--wait=false")


def test_the_digest_that_is_printed_is_that_of_the_registry(cluster: Cluster, built: Built) -> None:
    assert built.image.startswith(f"{REGISTRY}/colours@sha256:")
    assert cluster.images.inspect(built.image)["RepoDigests"] == [built.image]
    (service,) = yaml.safe_load(built.described.read_text())["functions"]["oscar"]
    assert next(iter(service.values()))["image"] == built.image


def test_an_image_says_which_model_it_holds(cluster: Cluster, built: Built) -> None:
    labels = cluster.images.inspect(built.image)["Config"]["Labels"]

    assert labels["dev.pelagos.onnx-sha256"] == json.loads((built.package / "package.json").read_text())["onnxSha256"]
    assert labels["dev.pelagos.manifest-sha256"] == built.package.name
    assert labels["org.opencontainers.image.title"] == "Colours"
    assert "Apache-2.0" in labels["org.opencontainers.image.licenses"]


@pytest.mark.parametrize("command", [(), ("deep-start", "--deepaas")], ids=["by itself", "as AI4OS starts it"])
def test_a_model_answers_as_a_restricted_pod(
    cluster: Cluster, built: Built, namespace: str, command: tuple[str, ...]
) -> None:
    probe = {"httpGet": {"path": "/v2/models/", "port": 5000}, "periodSeconds": 1}
    fetched = {"imagePullPolicy": "Always", "volumeMounts": _MOUNTED, "readinessProbe": probe}
    container = pods.container(built.image, *command, **fetched)
    cluster.apply(
        pods.deployment("colours", namespace, pods.spec(container, volumes=[_SCRATCH])),
        pods.service("colours", namespace, 5000),
    )
    cluster.wait_for("Available", "deployment/colours", namespace)
    url = f"http://127.0.0.1:{cluster.forward_service('colours', 5000, namespace)}/v2/models/pelagos/predict/"
    image = (built.package / "probe.png").read_bytes()

    answer = asked(lambda: urllib3.request("POST", url, fields={"image": ("probe.png", image)}, retries=False))

    assert answer.json()["predictions"] == json.loads((built.package / "probe.json").read_text())
    assert cluster.kubectl("exec", f"--namespace={namespace}", "deployment/colours", "--", "id", "-u") == "10001\n"


def asked(ask: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
    """The first connection may be refused while kube-proxy catches up."""
    for _ in range(20):
        try:
            return ask()
        except urllib3.exceptions.HTTPError:
            time.sleep(0.5)
    raise AssertionError("the model does not answer")


def test_a_model_answers_files_without_a_network(cluster: Cluster, built: Built) -> None:
    predict = "deepaas-cli --deepaas_method_output=/tmp/found.json predict --image=/opt/model/package/probe.png"

    said = cluster.images.docker(
        *("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", built.image),
        *("sh", "-c", f"{predict} >/dev/null && cat /tmp/found.json"),
    )

    assert json.loads(said) == json.loads((built.package / "probe.json").read_text())


def test_a_container_that_is_to_hold_another_package_ends_with_the_reason(cluster: Cluster, built: Built) -> None:
    other = f"--env=PELAGOS_MANIFEST_SHA256={'0' * 64}"

    said = cluster.images.docker(
        "run", "--rm", "--network=none", other, built.image, "sh", "-c", "deepaas-run 2>&1; echo $?"
    )

    line, code = said.splitlines()
    assert "package.json has been altered, or belongs to another package" in line
    assert code == "65"
