"""Renders the manifests below manifests/ with the tools that people use: kubectl's kustomize, and Helm."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import upstream

Body = dict[str, Any]

ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "manifests"
CHART = MANIFESTS / "charts" / "pelagos"
OVERLAYS = tuple(sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))
MANAGED_BY = "app.kubernetes.io/managed-by"
_MERGE_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""Lists that Kubernetes merges by the key of their items, so their order has no meaning."""


def kubectl() -> str:
    """The path of kubectl: from our environment, otherwise the machine's."""
    ours = Path(sys.executable).with_name("kubectl")
    return str(ours) if ours.exists() else "kubectl"


def kustomize(folder: Path) -> list[Body]:
    """The objects of a kustomization."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def kustomization(folder: Path, *, resources: Iterable[str], components: Iterable[str] = (), **more: Any) -> Path:
    """Write a kustomization to a folder; its resources and components are named by their paths below manifests/."""
    up = "/".join([".."] * len(folder.parts[1:])) + str(MANIFESTS)
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}/{name}" for name in resources],
        "components": [f"{up}/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body | more))
    return folder


def helm(
    values: Mapping[str, Any], *, namespace: str, release: str = "pelagos", options: Sequence[str] = ()
) -> list[Body]:
    """The objects of our chart, without its definitions.

    Raises CalledProcessError for values that its schema or templates refuse.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        given = (f"--namespace={namespace}", f"--values={file.name}", *options)
        command = [str(upstream.program("helm")), "template", release, str(CHART), *given]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return documents(done.stdout)


def documents(text: str) -> list[Body]:
    """The YAML documents that are not empty."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def pods(body: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Metadata and spec of every pod that an object of a built-in kind leads to."""
    spec = body.get("spec", {})
    if body["kind"] == "Pod":
        yield body["metadata"], spec
    elif body["kind"] == "CronJob":
        template = spec["jobTemplate"]["spec"]["template"]
        yield template.get("metadata", {}), template["spec"]
    elif "template" in spec and "spec" in spec["template"]:
        yield spec["template"].get("metadata", {}), spec["template"]["spec"]


def by_identity(bodies: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str, str], Any]:
    """Objects in a form that can be compared: the order of objects, and of lists that are maps, has no meaning."""
    listed = list(bodies)
    found = {_identity(body): _sorted(body) for body in listed}
    assert len(found) == len(listed), "two objects are the same one"
    return found


def _identity(body: Mapping[str, Any]) -> tuple[str, str, str, str]:
    metadata = body["metadata"]
    return body["apiVersion"], body["kind"], metadata.get("namespace", ""), metadata["name"]


def without_definitions(bodies: Iterable[Body]) -> list[Body]:
    """All objects except for CustomResourceDefinitions."""
    return [body for body in bodies if body["kind"] != "CustomResourceDefinition"]


def managed_by_nobody(bodies: Iterable[Body]) -> list[Body]:
    """Objects without the one label that names the tool that manages them."""
    return [_without_label(body) for body in bodies]


def _without_label(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_label(value) for key, value in node.items() if key != MANAGED_BY}
    return [_without_label(item) for item in node] if isinstance(node, list) else node


def _sorted(node: Any, key: str = "") -> Any:
    if isinstance(node, Mapping):
        return {name: _sorted(child, name) for name, child in node.items()}
    if isinstance(node, list):
        items = [_sorted(item) for item in node]
        by = _MERGE_KEYS.get(key)
        return sorted(items, key=lambda item: str(item[by])) if by else items
    return node
