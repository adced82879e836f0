"""Kustomize and Helm install the same objects: those of tools/generators/installation."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import rendering
from generators.installation import tree, variants
from generators.installation.kustomize import kustomization
from generators.installation.objects import roles
from generators.installation.values import Values, plain
from pelagos.api.permissions import Feature
from value_sets import SETS

GENERATED = ("base", "rbac", "components", "overlays", "tenant", "charts", "schemas")


def expected(values: Values, service: str) -> dict[Any, Any]:
    context = tree.context(values, service=service)
    beside = rendering.monitoring(context) if values.monitoring.enabled else []
    return rendering.by_identity([*tree.objects(values, service=service), *beside])


def test_nothing_that_is_not_generated_lies_among_what_is() -> None:
    files = {
        path.relative_to(rendering.MANIFESTS).as_posix()
        for folder in GENERATED
        for path in (rendering.MANIFESTS / folder).rglob("*")
        if path.is_file()
    }

    assert files <= tree.files().keys()


@pytest.mark.parametrize("overlay", variants.OVERLAYS, ids=lambda overlay: overlay.name)
def test_an_overlay_holds_the_objects_of_its_values(overlay: variants.Overlay) -> None:
    found = rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay.name)

    assert rendering.by_identity(rendering.without_definitions(found)) == expected(overlay.values, "kustomize")


def test_the_sample_of_shares_holds_the_objects_of_its_values() -> None:
    found = rendering.kustomize(rendering.MANIFESTS / "samples/shards")

    assert rendering.by_identity(rendering.without_definitions(found)) == expected(SETS["shards"], "kustomize")


@pytest.mark.parametrize("name", SETS)
def test_the_chart_holds_the_objects_of_its_values(name: str) -> None:
    found = rendering.helm(plain(SETS[name]), namespace=variants.NAMESPACE)

    assert rendering.by_identity(found) == expected(SETS[name], "Helm")


@pytest.mark.parametrize("overlay", variants.OVERLAYS, ids=lambda overlay: overlay.name)
def test_kustomize_and_helm_install_the_same(overlay: variants.Overlay) -> None:
    by_kustomize = rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay.name)
    by_helm = rendering.helm(plain(overlay.values), namespace=variants.NAMESPACE)

    by_kustomize, by_helm = map(rendering.managed_by_nobody, (rendering.without_definitions(by_kustomize), by_helm))
    assert rendering.by_identity(by_kustomize) == rendering.by_identity(by_helm)


def test_the_chart_brings_the_same_definitions() -> None:
    of_the_chart = [
        body for path in (rendering.CHART / "crds").iterdir() for body in rendering.documents(path.read_text())
    ]

    assert rendering.by_identity(of_the_chart) == rendering.by_identity(
        rendering.kustomize(rendering.MANIFESTS / "crds")
    )


@pytest.mark.parametrize("name", sorted(variants.COMPONENTS.keys() - {"monitoring"}))  # whose objects an overlay labels
def test_a_component_says_what_its_values_say_to_helm(name: str, tmp_path: Path) -> None:
    relative = "/".join([".."] * len(tmp_path.parts[1:])) + str(rendering.MANIFESTS)
    names = [*(["single-namespace"] if name in variants.BENEATH else []), name]
    (tmp_path / "kustomization.yaml").write_text(
        kustomization(resources=[f"{relative}/base"], components=[f"{relative}/components/{name}" for name in names])
    )
    by_kustomize = rendering.kustomize(tmp_path)

    values = plain(variants.values(*(variants.COMPONENTS[name] for name in names)))
    found = rendering.helm(values, namespace=variants.NAMESPACE)
    # Roles are chosen by an overlay, but for the one that a component brings.
    by_helm = [
        body
        for body in found
        if "rbac" not in body["apiVersion"] or body["metadata"]["name"] == roles.name(Feature.KUBEFLOW)
    ]
    by_kustomize, by_helm = map(rendering.managed_by_nobody, (by_kustomize, by_helm))
    assert rendering.by_identity(by_kustomize) == rendering.by_identity(by_helm)


@pytest.mark.parametrize(
    "names",
    [
        ("kserve", "gpu", "networkpolicies", "kubeflow-token", "tracking-token", "admission"),
        ("gpu", "claims", "tracking-basic-auth", "single-namespace"),
        ("single-namespace", "kserve-single-namespace", "networkpolicies"),
        ("tracking-token", "claims", "networkpolicies", "kserve"),
        ("kubeflow-token", "kubeflow-multi-user"),
        ("single-namespace", "kubeflow-multi-user-single-namespace"),
    ],
    ids="+".join,
)
def test_components_combine(names: tuple[str, ...], tmp_path: Path) -> None:
    relative = "/".join([".."] * len(tmp_path.parts[1:])) + str(rendering.MANIFESTS)
    (tmp_path / "kustomization.yaml").write_text(
        kustomization(resources=[f"{relative}/base"], components=[f"{relative}/components/{name}" for name in names])
    )

    values = variants.values(*(variants.COMPONENTS[name] for name in names))
    want = [
        body
        for body in tree.objects(values)
        if "rbac" not in body["apiVersion"] or body["metadata"]["name"] == roles.name(Feature.KUBEFLOW)
    ]
    assert rendering.by_identity(rendering.kustomize(tmp_path)) == rendering.by_identity(want)


def test_a_tenant_is_made_by_naming_its_namespace(tmp_path: Path) -> None:
    relative = "/".join([".."] * len(tmp_path.parts[1:])) + str(rendering.MANIFESTS)
    (tmp_path / "kustomization.yaml").write_text(
        kustomization(
            namespace="marine-lab",
            resources=[f"{relative}/tenant/base"],
            components=[f"{relative}/tenant/networkpolicies"],
        )
    )

    quota = next(
        body for body in rendering.kustomize(rendering.MANIFESTS / "tenant/base") if body["kind"] == "ResourceQuota"
    )
    tenant = {"namespace": "marine-lab", "quota": quota["spec"]["hard"]}
    values = variants.values({"tenants": [tenant]}, variants.COMPONENTS["networkpolicies"])
    want = [
        body
        for body in tree.objects(values)
        if "marine-lab" in (body["metadata"].get("namespace"), body["metadata"]["name"])
    ]
    assert rendering.by_identity(rendering.kustomize(tmp_path)) == rendering.by_identity(want)


def test_a_value_cannot_break_out_of_its_place() -> None:
    hostile = 'x"\n      hostNetwork: true # {{ fail "run" }} \\ : - é'
    values = plain(Values()) | {"kubeflow": {"url": hostile}, "tenants": [{"namespace": hostile}]}

    found = rendering.helm(values, namespace=variants.NAMESPACE)

    (deployment,) = (body for body in found if body["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert "hostNetwork" not in pod
    assert {"name": "PELAGOS_KUBEFLOW_URL", "value": hostile} in pod["containers"][0]["env"]
    assert any(body["metadata"]["name"] == hostile for body in found if body["kind"] == "Namespace")


def test_another_release_in_another_namespace_has_its_own_names(tmp_path: Path) -> None:
    del tmp_path
    found = rendering.helm(plain(Values()), namespace="science", release="second")

    assert {body["metadata"].get("namespace", "science") for body in found} == {"science"}
    assert {body["metadata"]["labels"]["app.kubernetes.io/instance"] for body in found} == {"second"}
    (binding,) = (body for body in found if body["metadata"]["name"] == "pelagos-operator-leader" and "roleRef" in body)
    assert binding["subjects"][0]["namespace"] == "science"


def test_the_template_engine_reports_what_a_template_refuses(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("name: small\nappVersion: '1'\n")
    (tmp_path / "values.yaml").write_text("count: 3\n")
    (tmp_path / "templates" / "_parts.tpl").write_text(
        '{{ define "name" }}{{ .Chart.Name }}-{{ .Values.count }}{{ end }}'
    )
    (tmp_path / "templates" / "one.yaml").write_text(
        'name: {{ include "name" . }}\nof: {{ required "say who" .Values.who }}'
    )

    (found,) = rendering.helm({"who": "me"}, namespace="x", chart=tmp_path)
    assert found == {"name": "small-3", "of": "me"}
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendering.helm({}, namespace="x", chart=tmp_path)
    assert "say who" in refused.value.stderr
