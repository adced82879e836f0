"""Kustomize and Helm install the same objects: the files written for one are compared with those of the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

import rendering
from builders import changed
from generators.installation import generated
from value_sets import BENEATH, COMPONENTS, DEFAULTS, NAMESPACE, OVERLAYS, SETS, objects, of_components, values

GENERATED = ("charts/pelagos/crds", "charts/pelagos/files", "schemas")
"""Folders with only generated files."""
ROLES_OF_COMPONENTS = {"pelagos-operator-kubeflow", "pelagos-hub"}
"""Roles that components add; all others depend on the overlay."""


def comparable(bodies: Iterable[rendering.Body]) -> dict[Any, Any]:
    """All objects except for the definitions, without the label that names the tool."""
    return rendering.by_identity(rendering.managed_by_nobody(rendering.without_definitions(list(bodies))))


def without_roles(bodies: Iterable[rendering.Body]) -> list[rendering.Body]:
    return [
        body for body in bodies if "rbac" not in body["apiVersion"] or body["metadata"]["name"] in ROLES_OF_COMPONENTS
    ]


def test_nothing_that_is_not_generated_lies_among_what_is() -> None:
    files = {
        path.relative_to(rendering.MANIFESTS).as_posix()
        for folder in GENERATED
        for path in (rendering.MANIFESTS / folder).rglob("*")
        if path.is_file()
    }

    assert files <= generated.files().keys()


def test_every_overlay_and_component_is_compared() -> None:
    folders = {
        name: {path.name for path in (rendering.MANIFESTS / name).iterdir()} for name in ("overlays", "components")
    }

    assert folders == {"overlays": OVERLAYS.keys(), "components": COMPONENTS.keys()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_and_the_chart_install_the_same(overlay: str) -> None:
    by_kustomize = rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay)
    by_helm = rendering.helm(SETS[overlay], namespace=NAMESPACE)

    assert comparable(by_kustomize) == comparable(by_helm)


def test_the_sample_of_shards_and_the_chart_install_the_same() -> None:
    found = rendering.kustomize(rendering.MANIFESTS / "samples/shards")

    assert comparable(found) == comparable(objects(SETS["shards"]))


def test_the_chart_brings_the_same_definitions() -> None:
    of_the_chart = [
        body for path in (rendering.CHART / "crds").iterdir() for body in rendering.documents(path.read_text())
    ]

    assert rendering.by_identity(of_the_chart) == rendering.by_identity(
        rendering.kustomize(rendering.MANIFESTS / "crds")
    )


@pytest.mark.parametrize(
    "names",
    [
        *(
            (*BENEATH.get(name, ()), name) for name in sorted(COMPONENTS.keys() - {"monitoring"})
        ),  # an overlay labels its objects
        ("kserve", "gpu", "networkpolicies", "kubeflow-token", "tracking-token", "admission"),
        ("gpu", "claims", "tracking-basic-auth", "single-namespace"),
        ("single-namespace", "kserve-single-namespace", "networkpolicies"),
        ("tracking-token", "claims", "networkpolicies", "kserve"),
        ("kubeflow-token", "kubeflow-multi-user"),
    ],
    ids="+".join,
)
def test_components_and_the_chart_say_the_same(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = rendering.kustomization(tmp_path, resources=["base"], components=[f"components/{name}" for name in names])

    want = without_roles(objects(of_components(*names)))
    assert comparable(rendering.kustomize(folder)) == comparable(want)


@pytest.mark.parametrize("component", ["networkpolicies", "kubeflow-multi-user", "kserve"])
def test_a_tenant_is_made_by_naming_its_namespace(component: str, tmp_path: Path) -> None:
    folder = rendering.kustomization(
        tmp_path, resources=["tenant/base"], components=[f"tenant/{component}"], namespace="marine-lab"
    )

    quota = next(
        body for body in rendering.kustomize(rendering.MANIFESTS / "tenant/base") if body["kind"] == "ResourceQuota"
    )
    tenant = {"namespace": "marine-lab", "quota": quota["spec"]["hard"]}
    want = [
        body
        for body in objects(values({"tenants": [tenant]}, COMPONENTS[component]))
        if "marine-lab" in (body["metadata"].get("namespace"), body["metadata"]["name"])
    ]
    assert comparable(rendering.kustomize(folder)) == comparable(want)


def test_the_account_of_model_servers_lists_a_secret_only_where_kserve_fetches_by_it() -> None:
    """KServe's webhook refuses pods whose account lists a Secret that does not exist."""

    def listed(**storage: str) -> Any:
        given = {"engines": {"serving": "kserve"}, "storage": storage, "tenants": [{"namespace": "lab"}]}
        found = objects(changed(DEFAULTS, given))
        account = next(body for body in found if body["metadata"]["name"] == "pelagos-workload")
        return account.get("secrets")

    assert listed(tenantSecret="of-the-lab") == [{"name": "of-the-lab"}]
    assert listed(tenantSecret="") is None
    assert listed(objects="", objectsClaim="objects") is None


def test_a_value_cannot_break_out_of_its_place() -> None:
    hostile = 'x"\n      hostNetwork: true # {{ fail "run" }} \\ : - é'
    given = changed(DEFAULTS, {"kubeflow": {"url": hostile}, "tenants": [{"namespace": hostile, "queue": hostile}]})

    found = rendering.helm(given, namespace=NAMESPACE, options=["--skip-schema-validation"])

    (deployment,) = (body for body in found if body["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert "hostNetwork" not in pod
    assert {"name": "PELAGOS_KUBEFLOW_URL", "value": hostile} in pod["containers"][0]["env"]
    assert any(body["metadata"]["name"] == hostile for body in found if body["kind"] == "Namespace")
    assert [body["data"]["queue"] for body in found if body["kind"] == "ConfigMap"] == [hostile]


@pytest.mark.parametrize("change", [{}, COMPONENTS["monitoring"], COMPONENTS["admission"]], ids=str)
def test_another_release_in_another_namespace_has_its_own_names(change: Mapping[str, Any]) -> None:
    found = rendering.helm(changed(DEFAULTS, change), namespace="science", release="second")

    assert {body["metadata"].get("namespace", "science") for body in found} == {"science"}
    assert {body["metadata"]["labels"]["app.kubernetes.io/instance"] for body in found} == {"second"}
    parameters = [body["spec"]["paramRef"]["namespace"] for body in found if "paramRef" in body.get("spec", {})]
    assert parameters == (["science"] if "admission" in change else [])
    (binding,) = (body for body in found if body["metadata"]["name"] == "pelagos-operator-leader" and "roleRef" in body)
    assert binding["subjects"][0]["namespace"] == "science"
