"""The hub as it is installed: its settings exist, its files are mounted, and its rights are exactly those that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import rendering
from installed import Site
from pelagos.api import kinds, meta
from pelagos.observability import hosts
from pelagos_hub.settings import Settings
from value_sets import SETS, objects, of_components

ACCOUNT = "system:serviceaccount:pelagos-system:pelagos-hub"
SHOWN = {"modelservices", "trials", "trainingruns", "datasets"}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def container(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The hub's container, and its variables."""
    found = next(
        body for body in objects(values) if body["kind"] == "Deployment" and body["metadata"]["name"] == "pelagos-hub"
    )
    (only,) = found["spec"]["template"]["spec"]["containers"]
    return only, {entry["name"]: entry["value"] for entry in only["env"] if "value" in entry}


@pytest.mark.parametrize("values", [of_components("hub"), SETS["everything"]], ids=["as it is", "everything"])
def test_every_setting_exists_and_is_understood(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    deployed, variables = container(values)

    known = {
        str(field.validation_alias or f"PELAGOS_HUB_{name.upper()}") for name, field in Settings.model_fields.items()
    }
    assert variables.keys() <= known
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    understood = Settings()
    assert understood.port in {port["containerPort"] for port in deployed["ports"]}
    mounted = {mount["mountPath"] for mount in deployed["volumeMounts"]}
    files = [value for value in variables.values() if value.startswith("/")]
    assert files
    assert {str(Path(file).parent) for file in files} <= mounted


@pytest.mark.parametrize("values", [of_components("hub"), SETS["everything"]], ids=["as it is", "everything"])
def test_its_memory_is_bounded_however_it_is_installed(values: dict[str, Any]) -> None:
    # Four images of 64 MiB at once, each with an answer of up to 32 MiB that is read as JSON and drawn: 1 GiB would not suffice.
    resources = container(values)[0]["resources"]
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == ("128Mi", "2Gi")


@pytest.mark.parametrize("values", [of_components("hub"), SETS["everything"]], ids=["as it is", "everything"])
async def test_the_operator_answers_under_the_name_that_the_hub_asks(values: dict[str, Any]) -> None:
    asked = urlsplit(container(values)[1]["PELAGOS_HUB_OPERATOR_METRICS"])
    assert asked.hostname
    (service,) = (
        body["metadata"]
        for body in objects(values)
        if body["kind"] == "Service" and asked.hostname.startswith(f"{body['metadata']['name']}.")
    )
    assert asked.hostname == f"{service['name']}.{service['namespace']}.svc"

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="metrics")

    application = web.Application(middlewares=[hosts.only(())])
    application.router.add_get(asked.path, answer)
    async with TestClient(TestServer(application)) as client:
        assert (await client.get(asked.path, headers={"Host": asked.netloc})).status == 200


def test_it_reads_documents_in_object_storage_with_a_login_of_its_own() -> None:
    deployed, variables = container(SETS["everything"])
    login = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in deployed["env"] if "valueFrom" in entry}
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert login == {key: {"name": "hub-s3", "key": key} for key in keys}
    assert variables["PELAGOS_OBJECTS_URI"].startswith("s3://")
    assert not [entry for entry in container(of_components("hub"))[0]["env"] if "AWS" in entry["name"]]


def test_the_operator_reads_the_same_key() -> None:
    bodies = objects(of_components("hub"))
    (operator,) = (
        body for body in bodies if body["metadata"]["name"] == "pelagos-operator" and body["kind"] == "Deployment"
    )
    pod = operator["spec"]["template"]["spec"]
    (volume,) = (each for each in pod["volumes"] if each["name"] == "hub")
    # And nothing else of the Secret.
    assert volume["secret"]["items"] == [{"key": "signing-key", "path": "signing-key"}]


@pytest.fixture(scope="module")
def installed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation with kustomize's component for the hub."""
    folder = tmp_path_factory.mktemp("with-hub")
    rendering.kustomization(folder, resources=["overlays/cluster"], components=["components/hub"])
    site.apply(folder)
    yield site
    site.remove(folder)


def allowed(site: Site, resource: str, *, group: str = meta.GROUP, namespace: str = "reef") -> set[str]:
    """The verbs that the hub's account may use."""
    plural, _, part = resource.partition("/")
    found = set()
    for verb in VERBS:
        about = {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": part}
        body = {"spec": {"user": ACCOUNT, "resourceAttributes": about}}
        answer = site.plane.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        if answer["status"]["allowed"]:
            found.add(verb)
    return found


def test_it_reads_our_kinds_makes_and_ends_trials_and_may_nothing_else(installed: Site) -> None:
    for kind in kinds.KINDS:
        writes = {"create", "delete"} if kind.plural == "trials" else set()
        assert allowed(installed, kind.plural) == {"get", "list", "watch"} | writes
        assert allowed(installed, f"{kind.plural}/status") == set()
    assert {kind.plural for kind in kinds.KINDS} == SHOWN
    assert allowed(installed, "configmaps", group="") == {"get"}
    for resource in ("secrets", "pods", "pods/exec", "serviceaccounts", "serviceaccounts/token", "events"):
        assert allowed(installed, resource, group="") == set()
    assert allowed(installed, "rolebindings", group="rbac.authorization.k8s.io") == set()
