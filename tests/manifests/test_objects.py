"""Rules for every object of an installation: labels, schemas of Kubernetes, least privilege, settings that exist."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from pydantic.alias_generators import to_camel, to_snake

import audit_rbac
import rendering
from pelagos import engine_registry
from pelagos.api import meta, tenant_settings
from pelagos.api.service_logins import SECRET
from pelagos.ports.pods import ServerPods, StepPods
from pelagos.settings import Settings
from value_sets import DEFAULTS, OVERLAYS, SCHEMA, SETS, changed, objects, values

RECOMMENDED = {f"app.kubernetes.io/{name}" for name in ("instance", "version", "component", "part-of", "managed-by")}
NEWEST, OLDEST = "1.37", "1.25"
USER = "system:serviceaccount:pelagos-system:pelagos-operator"
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate", "deletecollection"}
NAMES = sorted(SETS)


def deployments(name: str) -> list[dict[str, Any]]:
    """Deployments of the operator."""
    found = [body for body in objects(SETS[name]) if body["kind"] == "Deployment"]
    return [body for body in found if body["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"]


def deployment(name: str) -> dict[str, Any]:
    (found,) = deployments(name)
    return found


def environment(deployed: dict[str, Any]) -> dict[str, Any]:
    container = deployed["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


PEOPLE = {"pelagos-view", "pelagos-edit"}


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Rules of the roles that are not for people."""
    for name in NAMES:
        for body in objects(SETS[name]):
            if body["metadata"]["name"] in PEOPLE:
                continue
            for rule in body.get("rules", ()):
                yield f"{name}: {body['metadata']['name']}", rule


@pytest.mark.parametrize("overlay", rendering.OVERLAYS)
def test_every_object_has_the_recommended_labels(overlay: str) -> None:
    for body in rendering.without_definitions(rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay)):
        assert body["metadata"]["labels"].keys() >= RECOMMENDED, body["metadata"]


@pytest.mark.parametrize("name", NAMES)
def test_no_value_takes_labels_away(name: str) -> None:
    for body in objects(SETS[name]):
        assert body["metadata"]["labels"].keys() >= RECOMMENDED, body["metadata"]


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
@pytest.mark.parametrize("name", ["everything", "networkpolicies", "single-namespace"])
def test_every_object_keeps_to_the_schema_of_kubernetes(name: str, version: str) -> None:
    for body in objects(SETS[name]):
        if "kserve" in body["apiVersion"] or (version == OLDEST and "admission" in body["apiVersion"]):
            continue
        if version == OLDEST and body["kind"] == "PodDisruptionBudget":
            del body["spec"]["unhealthyPodEvictionPolicy"]  # Known from 1.26 on; older servers drop it.
        kubernetes_validate.validate(body, version, strict=True)


def test_no_right_is_wider_than_it_has_to_be() -> None:
    for where, rule in rules():
        assert not FORBIDDEN_VERBS & set(rule["verbs"]), where
        assert "*" not in rule["apiGroups"] + rule["resources"], where
        # The operator reads none, and creates that of the steps' keys; a tenant's steps read that of Kubeflow's artifacts.
        if "secrets" in rule["resources"] and rule.get("resourceNames") != ["mlpipeline-minio-artifact"]:
            # The logins of servers on another platform: written by the operator, read by the gateway.
            logins = {"patch"} if "operator" in where else {"get", "list", "watch"}
            assert set(rule["verbs"]) == (logins if rule.get("resourceNames") == [SECRET] else {"create"}), where
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"], where


TENANTS = {"tenants": [{"namespace": "reef"}, {"namespace": "bay"}]}


@pytest.mark.parametrize("serving", ["deployment", "kserve"])
def test_for_all_namespaces_the_operator_has_its_own_kinds_and_nothing_of_others(serving: str) -> None:
    several = values({"engines": {"serving": serving}, "kubeflow": {"multiUser": True}}, TENANTS)
    granted = audit_rbac.grants(objects(several), USER)

    everywhere = {(grant.group, grant.resource) for grant in granted if not grant.namespace and not grant.name}
    assert everywhere == {
        ("pelagos.dev", plural + part)
        for plural in ("datasets", "trainingruns", "modelservices", "trials")
        for part in ("", "/status")
    } | {("kueue.x-k8s.io", "workloadpriorityclasses")}  # cluster-scoped, and only to be listed
    # By name, and only to be read: definitions, and KServe objects of ours for all tenants.
    single = {(grant.resource, grant.verb) for grant in granted if not grant.namespace and grant.name}
    kserve = {("clusterservingruntimes", "get"), ("clusterstoragecontainers", "get")} if serving == "kserve" else set()
    assert single == {("customresourcedefinitions", "get")} | kserve
    verbs = {grant.verb for grant in granted if not grant.namespace}
    assert verbs == {"get", "list", "watch", "patch"}


@pytest.mark.parametrize("serving", ["deployment", "kserve"])
def test_all_else_is_granted_in_each_tenants_namespace_alike(serving: str) -> None:
    granted = audit_rbac.grants(objects(values({"engines": {"serving": serving}}, TENANTS)), USER)
    by_place: dict[str, set[tuple[str, ...]]] = {}
    for grant in granted:
        by_place.setdefault(grant.namespace, set()).add((grant.group, grant.resource, grant.verb, grant.name))

    assert by_place.keys() == {"", "pelagos-system", "reef", "bay"}
    assert by_place["reef"] == by_place["bay"]
    main = "deployments" if serving == "deployment" else "inferenceservices"
    assert main in {resource for _, resource, _, _ in by_place["reef"]}
    assert {resource for _, resource, _, _ in by_place["pelagos-system"]} == {"leases", "configmaps"}


def test_without_tenants_nothing_is_bound_but_the_kinds() -> None:
    granted = audit_rbac.grants(objects(values()), USER)

    assert {grant.namespace for grant in granted} == {"", "pelagos-system"}


def test_what_has_a_known_name_is_granted_by_name() -> None:
    named = {resource for _, rule in rules() if "resourceNames" in rule for resource in rule["resources"]}

    assert named >= {"configmaps", "leases", "customresourcedefinitions"}


def test_a_right_of_one_namespace_reaches_nothing_outside() -> None:
    for body in objects(SETS["single-namespace"]):
        assert not body["kind"].startswith("Cluster")


def test_every_right_says_why_and_is_granted_to_someone() -> None:
    granted = [rule for _, rule in rules()]
    for right in engine_registry.rights():
        assert right.why.endswith(".")
        assert right.rule in granted


def test_the_chart_takes_the_engines_for_serving_that_there_are_and_says_what_each_is() -> None:
    engines = {engine.name: engine.summary for engine in engine_registry.SERVING.on_cluster}
    chosen = SCHEMA["properties"]["engines"]["properties"]["serving"]

    assert chosen["enum"] == sorted(engines)
    assert chosen["description"] == "; ".join(f"{name}: {engines[name]}" for name in sorted(engines)) + "."


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_the_pod_exists_and_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"PELAGOS_{field.upper()}" for field in Settings.model_fields}
    for deployed in deployments(name):
        ours = {key: value for key, value in environment(deployed).items() if key.startswith("PELAGOS_")}

        assert ours.keys() <= known
        for key, value in ours.items():
            monkeypatch.setenv(key, "pelagos-system" if value is None else value)
        settings = Settings()
        assert settings.pipelines_engine == "kubeflow"
        assert settings.leader_election
        assert settings.lease_name == deployed["metadata"]["name"]
        assert settings.serving_engine == SETS[name]["engines"]["serving"]
        assert (settings.namespace is None) == (SETS[name]["scope"]["kind"] == "Cluster")


def test_steps_and_servers_trust_the_authorities_that_are_named() -> None:
    assert environment(deployment("everything"))["PELAGOS_CA_CONFIG_MAP"] == "private-ca"
    assert "PELAGOS_CA_CONFIG_MAP" not in environment(deployment("cluster"))


@pytest.mark.parametrize("name", NAMES)
def test_model_servers_are_told_where_the_prometheus_runs_that_may_read_their_metrics(name: str) -> None:
    for deployed in deployments(name):
        named = SETS[name]["networkPolicies"]["monitoringNamespace"]
        assert environment(deployed)["PELAGOS_MONITORING_NAMESPACE"] == named


KUBEFLOW_ASKS = {
    "runs": {"create", "get", "list", "terminate", "delete"},
    "experiments": {"create", "get", "list", "delete"},
}
"""Verbs of the pipeline server's SubjectAccessReviews about callers of its API; audit logs show them as Kubeflow's requests."""


@pytest.mark.parametrize("scope", ["Cluster", "Namespace"])
def test_a_kubeflow_server_of_several_users_hears_that_the_operator_may_what_it_does(scope: str) -> None:
    tenants = [{"namespace": "reef"}] if scope == "Cluster" else []
    several = values({"kubeflow": {"multiUser": True}, "scope": {"kind": scope}, "tenants": tenants})
    granted = audit_rbac.grants(objects(several), "system:serviceaccount:pelagos-system:pelagos-operator")

    verbs: dict[str, set[str]] = {}
    for grant in granted:
        if grant.group == "pipelines.kubeflow.org":
            assert grant.namespace == ("reef" if scope == "Cluster" else "pelagos-system")
            verbs.setdefault(grant.resource, set()).add(grant.verb)
    assert verbs == KUBEFLOW_ASKS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_else_has_rights_on_pipelines(overlay: str) -> None:
    assert "pipelines.kubeflow.org" not in str([body.get("rules") for body in objects(SETS[overlay])])


def test_each_shard_has_its_own_selector_pods_and_lease() -> None:
    shards = SETS["shards"]["operator"]["shards"]
    watched = [environment(deployed)["PELAGOS_WATCH_SELECTOR"] for deployed in deployments("shards")]
    pods = [deployed["spec"]["selector"]["matchLabels"] for deployed in deployments("shards")]
    (leases,) = (
        {*rule["resourceNames"]}
        for where, rule in rules()
        if where == "shards: pelagos-operator-leader" and "resourceNames" in rule
    )

    assert watched == [shard["selector"] for shard in shards]
    assert [labels["pelagos.dev/shard"] for labels in pods] == [shard["name"] for shard in shards]
    assert leases == {environment(deployed)["PELAGOS_LEASE_NAME"] for deployed in deployments("shards")}


def test_a_limit_of_no_gpus_reaches_the_tenant_settings() -> None:
    found = {
        (body["metadata"]["namespace"], body["metadata"]["name"]): body["data"].get("maxGpus")
        for body in objects(SETS["everything"])
        if body["kind"] == "ConfigMap"
    }

    own = "pelagos-system"
    assert found == {(own, "pelagos-tenant-marine-lab"): None, (own, "pelagos-tenant-plankton"): "0"}
    for body in objects(SETS["everything"]):
        if body["kind"] == "ConfigMap":
            assert tenant_settings.problem(body["data"]) is None


def test_the_operator_runs_alone_and_is_replaced_before_it_is_started_anew() -> None:
    spec = deployment("cluster")["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    # The Lease is released within the grace period; waiting until it expires would be slower.
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > SETS["cluster"]["operator"]["leaseSeconds"]


def test_of_two_operators_one_stands_by_on_another_node() -> None:
    spec = deployment("two replicas")["spec"]

    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    for deployed in [deployment("two replicas"), *deployments("two replicas of each shard")]:
        (apart,) = deployed["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert apart["topologyKey"] == "kubernetes.io/hostname"
        assert apart["labelSelector"] == deployed["spec"]["selector"]
    assert "topologySpreadConstraints" not in deployment("cluster")["spec"]["template"]["spec"]


def budgets(name: str) -> dict[str, dict[str, Any]]:
    return {
        body["metadata"]["name"]: body["spec"] for body in objects(SETS[name]) if body["kind"] == "PodDisruptionBudget"
    }


@pytest.mark.parametrize("name", ["two replicas", "two replicas of each shard"])
def test_a_drain_takes_one_of_two_operators_at_a_time_and_never_waits_for_broken_ones(name: str) -> None:
    pods = {each["metadata"]["name"]: each["spec"]["selector"] for each in deployments(name)}

    assert budgets(name) == {
        operator: {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector}
        for operator, selector in pods.items()
    }


@pytest.mark.parametrize("given", [values(), values({"operator": {"replicas": 2, "podDisruptionBudget": False}})])
def test_a_single_operator_keeps_no_node_and_who_has_budgets_of_their_own_gets_none(given: dict[str, Any]) -> None:
    assert "PodDisruptionBudget" not in {body["kind"] for body in objects(given)}


def test_where_the_cluster_gives_users_none_is_named_and_all_else_stays_restricted() -> None:
    pod = deployment("openshift")["spec"]["template"]["spec"]

    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_what_a_platform_adds_to_the_operator_is_there() -> None:
    found = deployment("everything")
    pod = found["spec"]["template"]["spec"]
    (account,) = (
        body
        for body in objects(SETS["everything"])
        if body["kind"] == "ServiceAccount" and body["metadata"]["name"] == "pelagos-operator"
    )

    assert found["metadata"]["annotations"] == {"example.org/owner": "data team"}
    # A label for all objects overrides one of the pod, or it would be there twice.
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert (labels["example.org/mesh"], labels["example.org/cost-centre"]) == ("off", "42")
    assert environment(found)["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert pod["securityContext"]["supplementalGroups"] == [2000]
    security = pod["containers"][0]["securityContext"]
    assert security["seLinuxOptions"] == {"level": "s0:c1"}
    assert security["readOnlyRootFilesystem"]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]


def test_labels_of_a_platform_are_on_every_object_and_select_none() -> None:
    for body in objects(SETS["everything"]):
        assert body["metadata"]["labels"]["example.org/cost-centre"] == "42", body["metadata"]
        assert "cost-centre" not in str(body.get("spec", {}).get("selector"))


@pytest.mark.parametrize("name", NAMES)
def test_no_variable_is_named_twice(name: str) -> None:
    for deployed in deployments(name):
        named = [entry["name"] for entry in deployed["spec"]["template"]["spec"]["containers"][0]["env"]]
        assert len(named) == len({*named})
        own = {entry["name"] for entry in SETS[name]["operator"]["env"]}
        # Values that the chart sets cannot be set again.
        refused = SCHEMA["properties"]["operator"]["properties"]["env"]["items"]["properties"]["name"]["not"]["enum"]
        assert {*named} - own <= {*refused}


def test_the_operator_leaves_a_node_that_is_gone_within_seconds() -> None:
    patience = {
        each["key"]: each["tolerationSeconds"]
        for each in deployment("cluster")["spec"]["template"]["spec"]["tolerations"]
        if each["effect"] == "NoExecute"
    }

    assert patience == {"node.kubernetes.io/not-ready": 5, "node.kubernetes.io/unreachable": 5}


def test_the_users_files_keep_their_owner() -> None:
    pod = deployment("claims")["spec"]["template"]["spec"]
    claims = {each["name"]: each["persistentVolumeClaim"] for each in pod["volumes"] if "persistentVolumeClaim" in each}

    assert claims["data"]["readOnly"] is True
    assert "readOnly" not in claims["objects"]
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_only_the_operators_own_pod_and_steps_get_a_token() -> None:
    accounts = [body for body in objects(SETS["everything"]) if body["kind"] == "ServiceAccount"]

    holders = {body["metadata"]["name"] for body in accounts if body["automountServiceAccountToken"]}
    assert holders == {"pelagos-pipelines"}
    assert deployment("everything")["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_the_token_for_kubeflow_is_for_nobody_else() -> None:
    volumes = deployment("everything")["spec"]["template"]["spec"]["volumes"]
    (projected,) = (volume["projected"] for volume in volumes if "projected" in volume)

    (source,) = projected["sources"]
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"


def test_mounted_files_are_those_that_the_settings_name() -> None:
    container = deployment("everything")["spec"]["template"]["spec"]["containers"][0]
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = [
        value for value in environment(deployment("everything")).values() if str(value).startswith("/etc/pelagos/")
    ]

    assert len(files) == 7
    assert all({file, str(Path(file).parent)} & folders for file in files)


def keys(node: Mapping[str, Any], path: str = "") -> set[str]:
    """Every key that a schema or values name, except for those of Kubernetes."""
    if path in (".engines.stepPods", ".engines.serverPods"):
        return set()
    if "$ref" in str(node.get("allOf")):
        node = SCHEMA["definitions"]["peers"]
    below = node.get("properties", {})
    return {f"{path}.{name}" for name in below}.union(*(keys(child, f"{path}.{name}") for name, child in below.items()))


def test_values_and_schema_name_the_same_keys() -> None:
    named = keys(SCHEMA)

    for path in named:
        assert isinstance(functools.reduce(lambda node, name: node[name], path.split(".")[1:], DEFAULTS), object)
    assert {f".{part}.{name}" for part, inner in DEFAULTS.items() if isinstance(inner, dict) for name in inner} <= named


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_takes_what_can_be_installed(name: str) -> None:
    jsonschema.validate(SETS[name], SCHEMA)
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_schema_allows_what_the_code_allows() -> None:
    parts = {name: part.get("properties", {}) for name, part in SCHEMA["properties"].items()}
    rules = rendering.documents((rendering.CHART / "files/rules.yaml").read_text())[0]

    # The role of an engine that needs rights, or of a Kubeflow server with several users.
    here = {engine.name for engine in engine_registry.SERVING.on_cluster if engine.rights}
    assert here <= set(parts["engines"]["serving"]["enum"])
    assert {*here, "core", "kubeflow"} == rules["tenants"].keys()
    shard = parts["operator"]["shards"]["items"]["properties"]
    assert shard["selector"]["pattern"] == meta.SELECTOR
    tenant = SCHEMA["properties"]["tenants"]["items"]["properties"]
    assert tenant["namespace"]["not"] == {"pattern": tenant_settings.SYSTEM_NAMESPACES}


def test_the_schema_takes_of_additions_to_pods_what_the_settings_take() -> None:
    parts = SCHEMA["properties"]["engines"]["properties"]
    for name, model in (("stepPods", StepPods), ("serverPods", ServerPods)):
        assert parts[name]["properties"].keys() == {to_camel(field) for field in model.model_fields}
    assert parts["podUser"]["pattern"] == Settings.model_json_schema()["properties"]["pod_user"]["pattern"]


def test_the_schema_has_the_bounds_of_settings() -> None:
    settings = Settings.model_json_schema()["properties"]
    ceilings = SCHEMA["properties"]["ceilings"]["properties"]
    numbers = {f"max_{to_snake(name)}": value for name, value in ceilings.items()}
    numbers["gateway_millicores"] = SCHEMA["properties"]["engines"]["properties"]["gatewayMillicores"]

    for name, value in numbers.items():
        for bound in ("minimum", "maximum"):
            assert value[bound] == settings[name][bound], name


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"typo": 1}, "typo"),
        ({"engines": {"serving": "local"}}, "local"),
        ({"kubeflow": {"url": "ml-pipeline:8888"}}, "ml-pipeline:8888"),
        ({"storage": {"objects": ""}}, ""),
        ({"operator": {"leaseSeconds": 1}}, "1"),
        ({"image": {"digest": "latest"}}, "latest"),
        ({"tenants": [{}]}, "namespace"),
        ({"tenants": [{"namespace": "kube-system"}]}, "kube-system"),
        ({"tenants": [{"namespace": "reef", "maxGpus": "many"}]}, "many"),
        ({"operator": {"shards": [{"name": "north"}]}}, "selector"),
        ({"operator": {"env": [{"name": "PELAGOS_TRACKING_URI", "value": "x"}]}}, "PELAGOS_TRACKING_URI"),
        ({"operator": {"env": [{"value": "x"}]}}, "name"),
        ({"operator": {"podLabels": {"app.kubernetes.io/name": "mine"}}}, "app.kubernetes.io/name"),
        ({"operator": {"podAnnotations": {"example.org/number": 1}}}, "1"),
        ({"commonLabels": {"pelagos.dev/shard": "north"}}, "pelagos.dev/shard"),
        ({"engines": {"serverPods": {"env": {"HTTPS-PROXY": "http://proxy"}}}}, "HTTPS-PROXY"),
        ({"engines": {"stepPods": {"priorityClassName": "high"}}}, "priorityClassName"),
        ({"engines": {"serverPods": {"labels": {"pelagos.dev/uid": "x"}}}}, "pelagos.dev/uid"),
        ({"engines": {"podUser": "0"}}, "0"),
        ({"operator": {"shards": [{"name": "north", "selector": "shard > 3"}]}}, "shard > 3"),
        ({"operator": {"shards": [{"name": "North", "selector": "shard=north"}]}}, "North"),
    ],
)
def test_the_schema_refuses_mistakes(change: dict[str, Any], named: str) -> None:
    mistaken = changed(DEFAULTS, change)

    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate(mistaken, SCHEMA)
    assert named in str(refused.value)


def test_every_value_is_described_in_a_sentence() -> None:
    lines = (rendering.CHART / "values.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r" {0,2}[a-z]\w*:", line) and lines[number - 1 :]]

    described = [number for number in keys if lines[number - 1].strip().startswith("#")]
    # Deeper keys are Kubernetes' own fields.
    assert [lines[number] for number in keys if number not in described] == []
