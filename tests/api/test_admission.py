"""Admission policies: valid, committed, and of one mind with the operator about every case."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import builders
import cel
from pelagos.api import admission, kinds, tenant_settings
from pelagos.decisions import limits
from pelagos.ports.tenants import Tenant

COMPONENT = Path(__file__).parents[2] / "manifests/components/admission"
HOME = "pelagos-system"
OBJECTS = admission.rendered(HOME)
BY_NAME = {body["metadata"]["name"]: body for body in OBJECTS if body["kind"] == "ValidatingAdmissionPolicy"}
DATA: list[dict[str, str]] = [
    {},
    {"queue": ""},
    {"queue": "gpu-queue", "serviceAccount": "workload", "dataClaim": "data"},
    {"experimentPrefix": "institute/plankton "},
    {"experimentPrefix": "/institute"},
    {"storagePrefix": "institute/plankton.v2"},
    {"storagePrefix": "/institute"},
    {"storagePrefix": "institute/"},
    {"storagePrefix": "institute/../other"},
    {"storagePrefix": "institute\n"},
    {"storagePrefix": "a\nb"},
    {"storagePrefix": "a" * 200},
    {"storagePrefix": "a" * 201},
    {"queue": "GPU"},
    {"objectsSecret": "s3.example", "trackingSecret": "-"},
    {"imagePullSecrets": "one, two three"},
    {"imagePullSecrets": "one;two"},
    {"sharedWith": "bay, kelp"},
    {"sharedWith": "Bay"},
    {"queues": "fast slow"},
    {"maxGpus": "0"},
    {"maxGpus": "-1"},
    {"maxGpus": "12345"},
    {"colour": "blue"},
]


REQUEST = {"operation": "CREATE", "namespace": "reef"}
CHANGE = {"operation": "UPDATE", "namespace": "reef"}


def config_map(**content: Any) -> dict[str, Any]:
    return {"metadata": {"name": tenant_settings.name_of("reef"), "namespace": HOME}, **content}


def test_the_committed_policies_are_these() -> None:
    committed = list(yaml.safe_load_all((COMPONENT / "objects.yaml").read_text(encoding="utf-8")))

    assert [body["metadata"].pop("labels")["app.kubernetes.io/component"] for body in committed] == ["admission"] * 4
    assert committed == OBJECTS


@pytest.mark.parametrize("version", ["1.30", "1.33"])
@pytest.mark.parametrize("body", OBJECTS, ids=lambda body: f"{body['kind']}-{body['metadata']['name']}")
def test_policies_and_bindings_are_valid_for_servers_that_know_them(body: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(body, version, strict=True)


def test_every_policy_is_bound_and_refuses() -> None:
    bound = {
        body["spec"]["policyName"]: body["spec"]["validationActions"]
        for body in OBJECTS
        if body["kind"] == "ValidatingAdmissionPolicyBinding"
    }

    assert bound == {name: ["Deny"] for name in admission.POLICIES}
    assert BY_NAME.keys() == set(admission.POLICIES)
    assert {body["spec"]["failurePolicy"] for body in BY_NAME.values()} == {"Fail"}


@pytest.mark.parametrize("data", DATA, ids=str)
def test_tenant_settings_are_refused_when_written_exactly_when_the_operator_would_refuse_them(
    data: dict[str, str],
) -> None:
    refused = cel.violated(BY_NAME[admission.VALUES], object=config_map(data=data))

    assert bool(refused) is (tenant_settings.problem(data) is not None)
    for key in data:
        if refused and key in tenant_settings.KEYS and len(data) == 1:
            assert refused[0].startswith(f"pelagos-tenant-<namespace>: {key}: allowed is ")


def test_the_cases_say_yes_and_no_to_every_key() -> None:
    for key in ("experimentPrefix", "storagePrefix", "queue", "imagePullSecrets", "maxGpus"):
        verdicts = {tenant_settings.problem({key: data[key]}) is None for data in DATA if key in data}
        assert verdicts == {True, False}, key


def test_binary_data_is_refused_and_no_data_is_not() -> None:
    policy = BY_NAME[admission.VALUES]

    assert cel.violated(policy, object=config_map(binaryData={"queue": "Z3B1"})) != []
    assert cel.violated(policy, object=config_map()) == []


def test_other_config_maps_are_left_alone() -> None:
    other = {"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "..."}}

    assert cel.violated(BY_NAME[admission.VALUES], object=other) == []


def test_a_config_map_that_is_not_read_any_more_is_refused_where_it_is_written() -> None:
    body = {"metadata": {"name": "pelagos-config", "namespace": "reef"}, "data": {"storagePrefix": "bay"}}

    (message,) = cel.violated(BY_NAME[admission.VALUES], object=body)

    assert message.startswith("pelagos-config is not read any more")


def resource(gpus: int | None, replicas: int | None = None, fewest: int | None = None) -> dict[str, Any]:
    numbers = {name: number for name, number in (("min", fewest), ("max", replicas)) if number is not None}
    scaling = {"scaling": numbers} if numbers else {}
    return {"spec": {"resources": {} if gpus is None else {"gpus": gpus}} | scaling}


@pytest.mark.parametrize("limit", ["", "0", "2", "9999"])
@pytest.mark.parametrize("gpus", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("replicas", [None, 1, 2])
@pytest.mark.parametrize("fewest", [None, 1, 2])
def test_gpus_of_a_new_resource_are_judged_as_the_operator_does(
    gpus: int | None, replicas: int | None, fewest: int | None, limit: str
) -> None:
    tenant = Tenant(max_gpus=int(limit) if limit else None)
    want = limits.exceeded(gpus or 0, None, tenant, replicas=max(replicas or 1, fewest or 1))

    params = config_map(data={"maxGpus": limit})
    asking = resource(gpus, replicas, fewest)
    found = cel.violated(BY_NAME[admission.GPU_LIMIT], object=asking, params=params, request=REQUEST)

    assert found == ([want.message] if want else [])


@pytest.mark.parametrize(("before", "after", "refused"), [(4, 4, False), (4, 3, False), (4, 5, True), (1, 3, True)])
def test_a_resource_from_before_the_limit_can_be_changed_but_not_grow(before: int, after: int, refused: bool) -> None:
    found = cel.violated(
        BY_NAME[admission.GPU_LIMIT],
        object=resource(after),
        oldObject=resource(before),
        params=config_map(data={"maxGpus": "2"}),
        request=CHANGE,
    )

    assert bool(found) is refused


def test_more_replicas_of_a_resource_from_before_the_limit_are_refused() -> None:
    policy, params = BY_NAME[admission.GPU_LIMIT], config_map(data={"maxGpus": "2"})

    assert (
        cel.violated(
            policy,
            object=resource(2, 2),
            oldObject=resource(2, 2),
            params=params,
            request=CHANGE,
        )
        == []
    )
    assert (
        cel.violated(
            policy,
            object=resource(2, 3),
            oldObject=resource(2, 2),
            params=params,
            request=CHANGE,
        )
        != []
    )


def test_only_the_config_map_of_the_resources_own_namespace_counts() -> None:
    """The binding hands over all of the operator's namespace, one by one."""
    policy = BY_NAME[admission.GPU_LIMIT]
    (binding,) = (
        body for body in OBJECTS if body["kind"].endswith("Binding") and body["metadata"]["name"] == admission.GPU_LIMIT
    )
    others = ({"name": "pelagos-tenant-bay"}, {"name": "pelagos-tenant-reef-2"}, {"name": "kube-root-ca.crt"})

    assert binding["spec"]["paramRef"] == {"namespace": HOME, "selector": {}, "parameterNotFoundAction": "Allow"}
    for metadata in others:
        params = {"metadata": metadata, "data": {"maxGpus": "0"}}
        assert cel.violated(policy, object=resource(8), params=params, request=REQUEST) == []


def test_without_tenant_settings_or_with_unreadable_ones_there_is_no_limit() -> None:
    for params in (config_map(), config_map(data={}), config_map(data={"maxGpus": "many"})):
        assert cel.violated(BY_NAME[admission.GPU_LIMIT], object=resource(64), params=params, request=REQUEST) == []


def test_the_limit_is_about_the_kinds_that_ask_for_gpus() -> None:
    (rule,) = BY_NAME[admission.GPU_LIMIT]["spec"]["matchConstraints"]["resourceRules"]

    asking = [kind.plural for kind in kinds.KINDS if _asks_for_gpus(kind)]
    assert sorted(rule["resources"]) == sorted(asking)


def _asks_for_gpus(kind: kinds.Kind) -> bool:
    base = {"Dataset": builders.DATASET, "TrainingRun": builders.TRAINING_RUN, "ModelService": builders.MODEL_SERVICE}
    spec = kind.spec.model_validate(base[kind.kind])
    return hasattr(getattr(spec, "resources", None), "gpus")


def test_patterns_mean_the_same_in_both_languages() -> None:
    """RE2 knows neither look-around nor back-references."""
    for setting in tenant_settings.TENANT_SETTINGS:
        assert not re.search(r"\(\?|\\[0-9]", setting.pattern), setting.key
