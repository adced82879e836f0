"""`make images` with a real builder and a real registry: nodes fetch and run what it pushes and writes.

The builder is the node's (Debian's dockerd), the registry go-containerregistry's. Bases and wheels are those of the other tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import rendering
from cluster.harness import machine, pods, servers
from cluster.harness.cluster import Cluster
from cluster.harness.images import OURS

REGISTRY = "localhost:5000/pelagos"
SOURCE = "https://code.example/pelagos"
NAMES = {"operator": "operator", "serving": "serving-cpu"}
"""Repository -> the image in it."""
_INSTALLED = """
import importlib.metadata as m, json, re
print(json.dumps({re.sub("[-_.]+", "-", each.name).lower(): each.version for each in m.distributions()}))
"""


@dataclass(frozen=True)
class Made:
    """The results of a run of `make images`."""

    said: list[str]
    """Its lines on standard output."""
    folder: Path
    revision: str
    """The commit that it ran in."""

    def reference(self, name: str) -> str:
        """The reference for pods, as it was printed."""
        (found,) = (line for line in self.said if line.startswith(f"{REGISTRY}/{name}@"))
        return found


@pytest.fixture(scope="module")
def made(cluster: Cluster, operator_image: str, serving_image: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two images, built from this tree as a commit of a repository, and pushed."""
    assert operator_image != serving_image  # their layers are cached now
    cluster.node.spawn("registry", [machine.program("registry"), "-port=5000"])
    cluster.wait(lambda: "serving on" in cluster.node.log("registry").read_text(), "the registry listens", 20)
    tree = tmp_path_factory.mktemp("made") / "tree"
    revision = commit_of_this_tree(tree)
    folder = tree.parent / "written"
    done = cluster.node.run(
        *("env", f"DOCKER_HOST={servers.DOCKER}", f"PELAGOS_ENVIRONMENTS={machine.ENVIRONMENTS}"),
        *(sys.executable, tree / "tools" / "images.py", f"--registry={REGISTRY}", "--push", "--engine=docker"),
        *(f"--images={' '.join(NAMES.values())}", f"--folder={folder}", f"--source={SOURCE}"),
        f"--build-options={' '.join(cluster.images.offline(OURS))}",
    )
    return Made(done.stdout.splitlines(), folder, revision)


def commit_of_this_tree(folder: Path) -> str:
    """Commit all files of this work tree to a repository; returns the commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=machine.ROOT,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    present = b"\0".join(name for name in listed if name and (machine.ROOT / name.decode()).is_file())
    folder.mkdir()
    packed = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"],
        cwd=machine.ROOT,
        input=present,
        capture_output=True,
        check=True,
    )
    subprocess.run(["tar", "--extract", "-C", folder], input=packed.stdout, check=True)

    def git(*arguments: str) -> str:
        somebody = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
        command = ["git", "-C", str(folder), *somebody, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    git("add", "--all", "--force")
    git("commit", "--quiet", "--message=Everything")
    return git("rev-parse", "HEAD")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Each repository."""
    return str(request.param)


def test_the_digest_that_is_printed_is_that_of_the_registry(cluster: Cluster, made: Made, name: str) -> None:
    reference = made.reference(name)

    # As a node pulls it, which checks the digests of everything that it gets.
    cluster.images.engines[0].ctr("images", "pull", "--plain-http", reference)

    assert cluster.images.inspect(reference)["RepoDigests"] == [reference]


def test_an_image_is_labelled_with_where_it_comes_from(cluster: Cluster, made: Made, name: str) -> None:
    labels = cluster.images.inspect(made.reference(name))["Config"]["Labels"]

    told = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert told["revision"] == made.revision
    assert told["source"] == SOURCE
    assert told["created"].endswith("Z")
    assert told["licenses"]


def test_a_bill_of_materials_lists_what_is_installed_in_the_image(cluster: Cluster, made: Made, name: str) -> None:
    """Including packages that exist only while the image is built. Triton's wheel is separate from Python's packages."""
    bill = json.loads((made.folder / "sbom" / f"{NAMES[name]}.cdx.json").read_text())
    listed = {part["name"]: part["version"] for part in bill["components"]}

    said = cluster.images.docker(
        *("run", "--rm", "--network=none", "--entrypoint=/opt/pelagos/bin/python", made.reference(name)),
        *("-c", _INSTALLED),
    )

    installed = json.loads(said)
    installed.pop("pelagos", None)
    assert len(installed) > 5
    assert installed.items() <= listed.items()


@pytest.fixture
def deployment(made: Made, tmp_path: Path) -> Mapping[str, Any]:
    """The operator's Deployment, rendered by kustomize with the component that was written."""
    (tmp_path / "installation").mkdir()
    rendering.kustomization(tmp_path / "installation", resources=["overlays/cluster"], components=[])
    file = tmp_path / "installation" / "kustomization.yaml"
    (tmp_path / "cpu").symlink_to(made.folder / "cpu")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"components": ["../cpu"]}))
    (found,) = (body for body in rendering.kustomize(file.parent) if body["kind"] == "Deployment")
    return found


@pytest.fixture
def fetched(cluster: Cluster, made: Made) -> Iterator[None]:
    """The node has neither image under the registry's name before, and fetched ones are removed afterwards."""

    def remove() -> None:
        for each in NAMES:
            cluster.images.engines[0].ctr("images", "rm", made.reference(each), check=False)

    remove()
    yield
    remove()


@pytest.mark.usefixtures("fetched")
def test_pods_of_the_component_for_kustomize_run_what_was_pushed(
    cluster: Cluster, made: Made, deployment: Mapping[str, Any], namespace: str
) -> None:
    (operator,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in operator["env"]}
    named = {"operator": operator["image"], "serving": variables["PELAGOS_SERVING_IMAGE"]}
    assert named == {each: made.reference(each) for each in NAMES}
    served = "command -v tritonserver && python3 -c 'import onnxruntime, pelagos_pipelines.serving'"
    asked = {"operator": ("python3", "-c", "import pelagos.wiring"), "serving": ("sh", "-c", served)}

    for each, image in named.items():
        container = pods.container(image, *asked[each], imagePullPolicy="Always")
        cluster.apply(pods.pod(each, namespace, pods.spec(container)))
    for each in named:
        cluster.kubectl(
            *("wait", f"--namespace={namespace}", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{each}"),
            "--timeout=120s",
        )
        (status,) = cluster.get("pod", each, namespace)["status"]["containerStatuses"]
        assert status["imageID"] == made.reference(each)


def test_values_for_the_chart_name_the_same(made: Made) -> None:
    values = yaml.safe_load((made.folder / "cpu" / "values.yaml").read_text())

    assert f"{values['image']['repository']}@{values['image']['digest']}" == made.reference("operator")
    assert values["engines"]["servingImage"] == made.reference("serving")
