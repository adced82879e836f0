"""Who may reach whom under the NetworkPolicies of an installation: rendered and evaluated, not enforced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

import rendering
from builders import changed
from model_packages import MakeWant
from network_policies import End, Network, open_rules
from pelagos.engines.kserve import manifests as kserve_manifests
from pelagos.engines.model_server import marks
from pelagos.engines.model_server import network as model_server_network
from pelagos.engines.model_server.options import Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import DesiredService, Scaling
from pelagos.settings import Settings
from value_sets import DEFAULTS, NAMESPACE, SCHEMA, SETS, objects, values

STORAGE, API_SERVER, METADATA, INTERNET = "10.9.0.7", "10.1.0.1", "169.254.169.254", "203.0.113.9"
NETWORK: dict[str, Any] = {
    "enabled": True,
    "apiServer": {"peers": [{"ipBlock": {"cidr": f"{API_SERVER}/32"}}], "ports": [{"port": 6443, "protocol": "TCP"}]},
    "storage": {"peers": [{"ipBlock": {"cidr": "10.9.0.0/24"}}], "ports": [{"port": 9000, "protocol": "TCP"}]},
    "clients": [
        {"podSelector": {}},
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}},
            "podSelector": {"matchLabels": {"app": "gateway"}},
        },
    ],
}
TENANTS = [{"namespace": "reef"}, {"namespace": "bay"}]
VALUES = values({"networkPolicies": NETWORK, "tenants": TENANTS})
STEP = {"pipelines.kubeflow.org/v2_component": "true"}
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
OPERATOR = {
    "app.kubernetes.io/name": "pelagos-operator",
    "app.kubernetes.io/instance": "pelagos",
    "app.kubernetes.io/component": "operator",
}


def given(installed: Mapping[str, Any], **more: Any) -> Options:
    """The operator's settings of the network, as its environment gives them."""
    (deployed,) = (body for body in objects(installed) if body["kind"] == "Deployment")
    variables = deployed["spec"]["template"]["spec"]["containers"][0]["env"]
    told = {each["name"]: each.get("value", "") for each in variables}
    names = ("DNS_PEERS", "STORAGE_PEERS", "MODEL_CLIENTS", "MONITORING_NAMESPACE")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            if f"PELAGOS_{name}" in told:
                patch.setenv(f"PELAGOS_{name}", told[f"PELAGOS_{name}"])
        settings = Settings(lease_namespace="pelagos-system", serving_image="none", objects_uri="s3://b/o", **more)
    return Options.from_settings(settings, "s3://b/o")


@pytest.fixture(params=["deployment", "kserve", "knative"])
def want(request: pytest.FixtureRequest, make_want: MakeWant) -> DesiredService:
    """A service of ``reef`` whose package is on object storage."""
    made: DesiredService = make_want(uid="uid-reef", package_uri="s3://b/o/reef/models/reef/1")
    mode = Scaling(mode="Knative") if request.param == "knative" else made.scaling
    return replace(made, namespace="reef", scaling=mode)


def server(want: DesiredService) -> End:
    return End(want.namespace, marks.labels(want, want.name))


@pytest.fixture
def network(want: DesiredService) -> Network:
    """The installation's policies, the operator's for a model server in each tenant's namespace, and a stranger's namespace."""
    bodies = objects(VALUES)
    namespaces = {
        body["metadata"]["name"]: body["metadata"]["labels"] for body in bodies if body["kind"] == "Namespace"
    }
    policies = [body for body in bodies if body["kind"] == "NetworkPolicy"]
    wants = (want, of_bay(want))
    policies += [model_server_network.network_policy(each, given(VALUES), each.name) for each in wants]
    return Network(policies, namespaces)


def of_bay(want: DesiredService) -> DesiredService:
    return replace(want, namespace="bay", uid="uid-bay")


def cases(want: DesiredService) -> list[tuple[str, End, End, int, bool]]:
    """Source, target, port, and whether the connection is allowed; hostile pairs after those that are needed."""
    model, other = server(want), server(of_bay(want))
    operator, step = End("pelagos-system", OPERATOR), End("reef", STEP)
    dns, mlflow, kubeflow = End("kube-system", {"k8s-app": "kube-dns"}), End("mlflow"), End("kubeflow")
    storage, api, metadata, internet = (End(address=each) for each in (STORAGE, API_SERVER, METADATA, INTERNET))
    client, gateway = End("reef", {"app": "notebook"}), End("gateways", {"app": "gateway"})
    prometheus = End("monitoring", PROMETHEUS)
    disguised = End("evil", {**OPERATOR, **PROMETHEUS, **STEP, "app": "gateway"})
    return [
        ("the operator asks the API server", operator, api, 6443, True),
        ("the operator looks names up", operator, dns, 53, True),
        ("the operator tracks", operator, mlflow, 5000, True),
        ("the operator runs pipelines", operator, kubeflow, 8888, True),
        ("the operator reads storage", operator, storage, 9000, True),
        ("the operator probes models", operator, model, 9000, True),
        ("a step tracks", step, mlflow, 5000, True),
        ("a step stores", step, storage, 9000, True),
        ("a step reports to Kubeflow", step, kubeflow, 8887, True),
        ("a step looks names up", step, dns, 53, True),
        ("a model server fetches its package", model, storage, 9000, True),
        ("a model server looks names up", model, dns, 53, True),
        ("a gateway asks a model", gateway, model, 8080, True),
        ("Prometheus reads a model server", prometheus, model, 8002, True),
        ("Prometheus reads the operator", prometheus, operator, 8080, True),
        ("a model server of one tenant asks that of another", other, model, 8080, False),
        ("a model server tracks", model, mlflow, 5000, False),
        ("a model server runs pipelines", model, kubeflow, 8888, False),
        ("a model server asks the API server", model, api, 6443, False),
        ("a model server asks the API server's other port", model, api, 443, False),
        ("a model server asks the cloud's metadata", model, metadata, 80, False),
        ("a model server calls home", model, internet, 443, False),
        ("a model server reaches the storage's host by SSH", model, storage, 22, False),
        ("a model server reaches the operator", model, operator, 8080, False),
        ("a model server reaches a step", model, step, 8080, False),
        ("a step calls home", step, internet, 443, False),
        ("a step asks the cloud's metadata", step, metadata, 80, False),
        ("a step reaches the operator", step, operator, 8080, False),
        ("a step reaches another tenant's models", step, other, 9000, False),
        ("a step reaches another tenant's step", step, End("bay", STEP), 8080, False),
        ("the operator calls home", operator, internet, 443, False),
        ("the operator asks the cloud's metadata", operator, metadata, 80, False),
        ("the operator reaches other pods of a tenant", operator, client, 8080, False),
        ("a stranger in disguise asks a model", disguised, model, 8080, False),
        ("a stranger in disguise reads metrics", disguised, model, 8002, False),
        ("a stranger in disguise reads the operator", disguised, operator, 8080, False),
        ("a stranger in disguise reaches a step", disguised, step, 8080, False),
        ("another pod among the gateways asks a model", End("gateways", {"app": "x"}), model, 8080, False),
        ("a gateway reads metrics", gateway, model, 8002, False),
        ("a gateway reaches Envoy's administration", gateway, model, 9901, False),
        ("another pod where Prometheus is reads metrics", End("monitoring", {"app": "x"}), model, 8002, False),
        ("Prometheus asks a model", prometheus, model, 9000, False),
        ("something outside asks a model", internet, model, 8080, False),
    ]


def test_a_table_of_who_may_reach_whom(network: Network, want: DesiredService) -> None:
    found = {name: network.allows(source, target, port) for name, source, target, port, _ in cases(want)}

    assert found == {name: may for name, _, _, _, may in cases(want)}


def test_a_tenants_own_pods_ask_its_models_as_far_as_its_own_policies_let_them_out(
    network: Network, want: DesiredService
) -> None:
    client = End("reef", {"app": "notebook"})
    assert not network.allows(client, server(want), 8080), "nothing of a tenant talks by default"

    out: dict[str, Any] = {
        "podSelector": {"matchLabels": {"app": "notebook"}},
        "policyTypes": ["Egress"],
        "egress": [{}],
    }
    let = replace(
        network, policies=[*network.policies, {"metadata": {"namespace": "reef", "name": "out"}, "spec": out}]
    )
    assert let.allows(client, server(want), 8080)
    assert not let.allows(client, server(want), 8002)
    assert not let.allows(client, server(of_bay(want)), 8080)


def test_no_rule_is_to_anywhere_or_from_anywhere(network: Network) -> None:
    assert open_rules(network.policies) == []


@pytest.mark.parametrize("name", sorted(SETS))
def test_no_values_make_a_rule_that_is_open(name: str) -> None:
    assert open_rules(body for body in objects(SETS[name]) if body["kind"] == "NetworkPolicy") == []


@pytest.mark.parametrize("part", ["apiServer", "dns", "tracking", "kubeflow", "launcher", "storage"])
def test_a_peer_that_is_not_named_is_nobody_and_not_everybody(part: str) -> None:
    empty = {"networkPolicies": {part: {"peers": [], "ports": [{"port": 443, "protocol": "TCP"}]}}}
    cut = values({"networkPolicies": NETWORK, "tenants": TENANTS}, empty)
    # The schema refuses an unnamed API server; the templates do not rely on that.
    bodies = rendering.helm(cut, namespace=NAMESPACE, options=["--skip-schema-validation"])
    policies = [body for body in bodies if body["kind"] == "NetworkPolicy"]

    assert open_rules(policies) == []
    network = Network(policies, {})
    for address in (STORAGE if part != "storage" else METADATA, API_SERVER if part != "apiServer" else METADATA):
        allowed = network.allows(End("pelagos-system", OPERATOR), End(address=address), 443)
        assert not allowed


def test_helm_refuses_policies_that_would_cut_the_operator_off() -> None:
    bad = changed(DEFAULTS, {"networkPolicies": {"enabled": True}})
    good = changed(DEFAULTS, {"networkPolicies": NETWORK})

    jsonschema.validate(good, SCHEMA)
    jsonschema.validate(DEFAULTS, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(DEFAULTS, {"networkPolicies": {"clients": [{}]}}), SCHEMA)


REMOTE = "s3://b/o/reef/models/reef/1"
PLACES: Mapping[str, tuple[str, End | None]] = {
    "http://minio.minio:9000": ("in the cluster", End("minio")),
    "https://s3.storage.svc": ("in the cluster", End("storage")),
    "http://s3.storage.svc.cluster.local:8333": ("in the cluster", End("storage")),
    f"http://{STORAGE}:9000": ("a number", End(address=STORAGE)),
    "https://s3.eu-central-1.example.org": ("outside", None),
    "": ("AWS", None),
}


@pytest.mark.parametrize("endpoint", PLACES, ids=lambda endpoint: PLACES[endpoint][0])
def test_without_words_about_it_the_storage_is_where_its_address_says_or_the_service_is_refused(
    endpoint: str, make_want: MakeWant
) -> None:
    options = given(values(), s3_endpoint=endpoint)
    want = replace(make_want(uid="u", package_uri=REMOTE), namespace="reef")
    _, place = PLACES[endpoint]
    if place is None:
        with pytest.raises(RejectedError, match="PELAGOS_STORAGE_PEERS") as refused:
            model_server_network.network_policy(want, options, "x")
        assert (endpoint or "that of AWS") in str(refused.value)
        return
    network = Network([model_server_network.network_policy(want, options, "x")], {})

    assert open_rules(network.policies) == []
    assert any(network.allows(server(want), place, port) for port in (80, 443, 8333, 9000))
    assert not network.allows(server(want), End(address=INTERNET), 443)
    assert not network.allows(server(want), End("elsewhere"), 9000)


def test_a_server_that_mounts_its_package_may_call_nobody(make_want: MakeWant) -> None:
    want = replace(make_want(uid="u", package_uri="/objects/reef/models/reef/1"), namespace="reef")
    network = Network([model_server_network.network_policy(want, given(values()), "x")], {})

    for end, port, protocol in ((End("kube-system"), 53, "UDP"), (End(address=STORAGE), 9000, "TCP")):
        assert not network.allows(server(want), end, port, protocol)


def test_of_a_pod_in_both_engines_the_policy_selects_the_pods(want: DesiredService) -> None:
    """KServe's pods carry the labels of the InferenceService's predictor."""
    made = kserve_manifests.inference_service(replace(want, package_uri=REMOTE), "", given(VALUES))
    policy = model_server_network.network_policy(want, given(VALUES), "x")

    assert policy["spec"]["podSelector"]["matchLabels"].items() <= made["spec"]["predictor"]["labels"].items()
    assert rendering.by_identity([policy])
