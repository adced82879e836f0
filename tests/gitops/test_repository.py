"""The sample of a GitOps repository builds, contains valid objects, and its parts refer to each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

import rendering
from generators.installation import editing
from network_policies import End, Network, open_rules
from pelagos.api import kinds, meta, tenant_settings

SAMPLES = rendering.MANIFESTS / "samples"
REPOSITORY = SAMPLES / "gitops"
KEPT = {kind.kind for kind in kinds.KINDS if kind is not kinds.TRIAL}
"""Kinds that a repository contains. A Trial is deleted some time after its end; a repository would create it again forever."""
SCHEMAS = {kind.kind: editing.schema(kind) for kind in kinds.KINDS}
LINE = "# yaml-language-server: $schema="
FOLDERS = ("platform", "tenants/marine-lab")
PLATFORM = {"pelagos-system", "marine-lab"}
OF_EVERY_APPLICATION = {"project", "source", "destination", "syncPolicy"}
OF_EVERY_KUSTOMIZATION = {"interval", "path", "prune", "sourceRef"}
OURS = sorted(
    path
    for path in SAMPLES.rglob("*.yaml")
    if any(body.get("apiVersion") == meta.API_VERSION for body in rendering.documents(path.read_text()))
)


def read(path: str) -> list[dict[str, Any]]:
    return [body for file in sorted(REPOSITORY.glob(path)) for body in rendering.documents(file.read_text())]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_builds_to_valid_objects(folder: str) -> None:
    for body in rendering.kustomize(REPOSITORY / folder):
        if body["apiVersion"] == meta.API_VERSION:
            jsonschema.validate(body, SCHEMAS[body["kind"]])
        else:
            kubernetes_validate.validate(body, "1.37", strict=True)


def test_all_of_a_tenant_is_in_its_namespace() -> None:
    bodies = rendering.kustomize(REPOSITORY / "tenants/marine-lab")

    assert {body["metadata"]["namespace"] for body in bodies} == {"marine-lab"}
    assert {body["kind"] for body in bodies} == KEPT


def test_what_a_tenant_may_not_choose_is_the_platforms_to_write() -> None:
    bodies = rendering.kustomize(REPOSITORY / "platform")
    (config,) = (body for body in bodies if body["kind"] == "ConfigMap")
    bindings = [body for body in bodies if body["kind"] == "RoleBinding" and body["roleRef"]["kind"] == "ClusterRole"]
    roles = {body["metadata"]["name"] for body in bodies if body["kind"] == "ClusterRole"}

    assert (config["metadata"]["namespace"], config["metadata"]["name"]) == (
        "pelagos-system",
        "pelagos-tenant-marine-lab",
    )
    assert tenant_settings.problem(config["data"]) is None
    accounts = {body["metadata"]["name"] for body in bodies if body["kind"] == "ServiceAccount"}
    assert {config["data"]["serviceAccount"], config["data"]["pipelineServiceAccount"]} <= accounts
    assert [(body["metadata"]["namespace"], body["roleRef"]["name"]) for body in bindings] == [
        ("marine-lab", "pelagos-operator-tenant")
    ]
    assert "pelagos-operator-tenant" in roles
    assert {body["metadata"].get("namespace") for body in bodies} - {None} == PLATFORM


def test_operator_and_steps_reach_what_the_settings_name_and_no_address_is_left_to_be_named() -> None:
    bodies = rendering.kustomize(REPOSITORY / "platform")
    policies = [body for body in bodies if body["kind"] == "NetworkPolicy"]
    namespaces = {
        body["metadata"]["name"]: body["metadata"]["labels"] for body in bodies if body["kind"] == "Namespace"
    }
    network = Network(policies, namespaces)
    step = End("marine-lab", {"pipelines.kubeflow.org/v2_component": "true"})
    (deployed,) = (body for body in bodies if body["kind"] == "Deployment")
    operator = End("pelagos-system", deployed["spec"]["template"]["metadata"]["labels"])

    assert open_rules(policies) == []
    assert "192.0.2.1" not in str(bodies)
    for pod in (operator, step):
        assert network.allows(pod, End(address="10.0.0.10"), 6443)
        assert network.allows(pod, End(address="203.0.113.5"), 443)
        assert not network.allows(pod, End(address="198.51.100.1"), 443)


def test_settings_of_the_cluster_reach_the_operator() -> None:
    (deployment,) = (body for body in rendering.kustomize(REPOSITORY / "platform") if body["kind"] == "Deployment")
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]

    assert {"name": "PELAGOS_OBJECTS_URI", "value": "s3://science/pelagos"} in environment
    assert {"name": "PELAGOS_TRACKING_USERNAME_FILE", "value": "/etc/pelagos/tracking/username"} in environment
    assert len({entry["name"] for entry in environment}) == len(environment)


def test_applications_lead_to_folders_and_come_in_waves() -> None:
    applications = read("argocd/**/*.yaml")
    waves = {
        body["metadata"]["name"]: int(body["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0))
        for body in applications
    }

    assert waves["pelagos-platform"] < waves["marine-lab"]
    for body in applications:
        assert (body["apiVersion"], body["kind"]) == ("argoproj.io/v1alpha1", "Application")
        assert body["spec"].keys() >= OF_EVERY_APPLICATION
        assert (REPOSITORY / body["spec"]["source"]["path"]).is_dir()
        assert set(body["spec"]["destination"]) == {"server", "namespace"}


def test_flux_waits_for_folders_in_their_order() -> None:
    found = {body["metadata"]["name"]: body for body in read("flux/*.yaml")}
    sources = {name for name, body in found.items() if body["kind"] == "GitRepository"}
    layers = {name: body["spec"] for name, body in found.items() if body["kind"] == "Kustomization"}

    assert layers["marine-lab"]["dependsOn"] == [{"name": "pelagos-platform"}]
    for spec in layers.values():
        assert spec.keys() >= OF_EVERY_KUSTOMIZATION
        assert spec["wait"] is True
        assert spec["sourceRef"]["name"] in sources
        assert (REPOSITORY / spec["path"]).is_dir()
    expressions = layers["marine-lab"]["healthCheckExprs"]
    assert {entry["kind"] for entry in expressions} == KEPT
    assert {entry["apiVersion"] for entry in expressions} == {meta.API_VERSION}


@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_editors_know_the_schema_of_a_sample(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(LINE)
    schema = json.loads((path.parent / first.removeprefix(LINE)).read_text(encoding="utf-8"))

    for body in rendering.documents(path.read_text(encoding="utf-8")):
        assert schema["title"] == body["kind"]
        jsonschema.validate(body, schema)


def test_the_schema_refuses_what_an_api_server_would_only_drop() -> None:
    body = rendering.documents((SAMPLES / "dataset.yaml").read_text())[0]
    body["spec"]["sourcce"] = {}

    with pytest.raises(jsonschema.ValidationError, match="sourcce"):
        jsonschema.validate(body, SCHEMAS["Dataset"])
