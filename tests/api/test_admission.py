"""Admission policies: valid and committed; tests/integration/test_rules_on_a_server.py evaluates them on a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import builders
from pelagos.api import admission, kinds, tenant_settings

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


def test_the_cases_say_yes_and_no_to_every_key() -> None:
    for key in ("experimentPrefix", "storagePrefix", "queue", "imagePullSecrets", "maxGpus"):
        verdicts = {tenant_settings.problem({key: data[key]}) is None for data in DATA if key in data}
        assert verdicts == {True, False}, key


def test_the_limit_is_read_from_the_operators_own_namespace_where_there_is_one() -> None:
    (binding,) = (
        body for body in OBJECTS if body["kind"].endswith("Binding") and body["metadata"]["name"] == admission.GPU_LIMIT
    )

    assert binding["spec"]["paramRef"] == {"namespace": HOME, "selector": {}, "parameterNotFoundAction": "Allow"}


def test_the_limit_is_about_the_kinds_that_ask_for_gpus() -> None:
    (rule,) = BY_NAME[admission.GPU_LIMIT]["spec"]["matchConstraints"]["resourceRules"]

    asking = [kind.plural for kind in kinds.KINDS if _asks_for_gpus(kind)]
    assert sorted(rule["resources"]) == sorted(asking)


def _asks_for_gpus(kind: kinds.Kind) -> bool:
    spec = kind.spec.model_validate(builders.BASES[kind.kind])
    return hasattr(getattr(spec, "resources", None), "gpus")


def test_patterns_mean_the_same_in_both_languages() -> None:
    """RE2 has neither look-around nor back-references."""
    for setting in tenant_settings.TENANT_SETTINGS:
        assert not re.search(r"\(\?|\\[0-9]", setting.pattern), setting.key
