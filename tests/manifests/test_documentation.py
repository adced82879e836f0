"""Runs the commands of docs/installing.md and docs/gitops.md verbatim and in order, on a real API server."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import rendering
from installed import SYSTEM, Site
from pelagos.settings import Settings
from value_sets import COMPONENTS, OVERLAYS, SCHEMA, objects, of_components, values

INSTALLING = (rendering.ROOT / "docs/installing.md").read_text(encoding="utf-8")
GITOPS = (rendering.ROOT / "docs/gitops.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^\$ (.+)$", re.M)
NOT_HERE = {
    "kubectl rollout status": "no kubelet runs pods",
    "helm ": "tests/manifests/test_helm_upgrades.py does it",
    "python tests/audit_rbac.py": "tests/manifests/test_rights.py does it",
    "kubectl kustomize": "its output belongs to the command before",
}
TENANT = "marine-lab"


def commands(page: str) -> list[str]:
    return [command for command in COMMAND.findall(page) if not command.startswith(tuple(NOT_HERE))]


def run(site: Site, command: str) -> None:
    given, _, command = command.rpartition(" | ")
    program, *arguments = shlex.split(command)
    if given:
        made = subprocess.run(shlex.split(given), capture_output=True, check=True).stdout
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(made)
        arguments = [argument.replace("/dev/stdin", file.name) for argument in arguments]
    assert program == "kubectl"
    if arguments[:2] == ["delete", "-k"]:
        arguments.append("--wait=false")  # no controller ends namespaces
    site.kubectl(*arguments)


def test_installing_and_uninstalling_as_the_page_says(site: Site) -> None:
    before = site.everything()

    for command in commands(INSTALLING):
        run(site, command)

    # Objects that the namespace controller would delete with the two namespaces, which an administrator created.
    for secret in ("pelagos-s3", "pelagos-authority"):
        site.kubectl("delete", "secret", secret, "--namespace", SYSTEM, "--ignore-not-found")
    for namespace in (SYSTEM, TENANT):
        site.finalize(namespace)
    site.until_gone("pelagos", TENANT)
    assert site.everything().keys() == before.keys()


def test_argocd_takes_the_patch(site: Site) -> None:
    before = {"resource.customizations.health.other": "kept"}
    site.kubectl("create", "namespace", "argocd")
    site.kubectl(
        "create",
        "configmap",
        "argocd-cm",
        "--namespace",
        "argocd",
        *(f"--from-literal={k}={v}" for k, v in before.items()),
    )

    for command in commands(GITOPS):
        run(site, command)

    data = yaml.safe_load(site.kubectl("get", "configmap", "argocd-cm", "--namespace", "argocd", "--output=yaml"))[
        "data"
    ]
    patch = yaml.safe_load((rendering.MANIFESTS / "argocd/argocd-cm.yaml").read_text())["data"]
    assert data == before | patch
    site.kubectl("delete", "configmap", "argocd-cm", "--namespace", "argocd")
    site.kubectl("delete", "namespace", "argocd", "--wait=false")
    site.finalize("argocd")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_page_names_every_overlay(overlay: str) -> None:
    assert f"| `{overlay}` |" in INSTALLING


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_page_names_every_component(component: str) -> None:
    assert component in INSTALLING


def blocks(first_line: str) -> Iterator[dict[str, Any]]:
    for text in re.findall(r"^```yaml\n(.*?)^```$", INSTALLING, re.M | re.S):
        if text.startswith(first_line):
            yield yaml.safe_load(text)


def test_the_patch_of_the_operators_pod_does_what_the_values_beside_it_do(tmp_path: Path) -> None:
    (given,), (patch,) = blocks("# values.yaml"), blocks("# a patch of a kustomization")
    folder = rendering.kustomization(tmp_path, resources=["base"], patches=[{"patch": yaml.safe_dump(patch)}])

    jsonschema.validate(values(given), SCHEMA)
    (by_kustomize,) = (body for body in rendering.kustomize(folder) if body["kind"] == "Deployment")
    (by_helm,) = (body for body in objects(values(given)) if body["kind"] == "Deployment")
    assert rendering.by_identity(rendering.managed_by_nobody([by_kustomize])) == rendering.by_identity(
        rendering.managed_by_nobody([by_helm])
    )


def test_the_values_for_openshift_are_those_of_the_component() -> None:
    (given,) = blocks("operator:\n  podSecurityContext: {runAsUser: null")

    assert values(given) == of_components("openshift")


def test_what_the_page_adds_to_pods_is_taken_by_the_chart_and_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    (given,) = blocks("engines:\n  stepPods:")

    jsonschema.validate(values(given), SCHEMA)
    (deployed,) = (body for body in objects(values(given)) if body["kind"] == "Deployment")
    for entry in deployed["spec"]["template"]["spec"]["containers"][0]["env"]:
        if entry["name"] in ("PELAGOS_STEP_PODS", "PELAGOS_SERVER_PODS"):
            monkeypatch.setenv(entry["name"], entry["value"])
    settings = Settings()
    assert settings.step_pods.model_dump(by_alias=True, exclude_defaults=True) == given["engines"]["stepPods"]
    assert settings.server_pods.model_dump(by_alias=True, exclude_defaults=True) == given["engines"]["serverPods"]


def test_the_paths_of_the_page_exist() -> None:
    for path in re.findall(r"(?<![\w/])((?:manifests|operator|tests|images)/[\w./-]+)", INSTALLING + GITOPS):
        assert (rendering.ROOT / path.rstrip(".")).exists(), path
