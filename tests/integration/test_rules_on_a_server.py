"""A real API server's CEL, in our definitions and admission policies, gives the same messages as the operator. By dry runs."""

from __future__ import annotations

import itertools
import json
import time
import urllib.error
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import builders
from api import test_documented_gates
from api.test_admission import DATA
from api.test_processors import WRITTEN
from api.test_rules import CASES
from control_plane import ControlPlane
from pelagos.api import admission, kinds, meta, tenant_settings
from pelagos.api.kinds import Kind
from pelagos.decisions import limits
from pelagos.ports.tenants import Tenant

HOME = "pelagos-system"
OLDEST = (1, 30)
"""Every server since this version has policies; rules in definitions exist since 1.25."""
POLICIES = "/apis/admissionregistration.k8s.io/v1"
_SECONDS = 60.0
MOST = 1_024_000
"""Thousandths of cores."""
LIMITS = ("", "0", "2", "9999", "many")
"""Limits of GPUs in tenants' settings: none, some, and one from before the policies, which sets no limit."""
CONFIG_MAPS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "binary data": (HOME, {"metadata": {"name": "pelagos-tenant-reef"}, "binaryData": {"queue": "Z3B1"}}, True),
    "no data": (HOME, {"metadata": {"name": "pelagos-tenant-reef"}}, False),
    "of others": ("default", {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "..."}}, False),
    "not read any more": ("reef-0", {"metadata": {"name": "pelagos-config"}, "data": {"storagePrefix": "bay"}}, True),
}


@pytest.fixture(scope="module")
def judge(plane: ControlPlane) -> Iterator[ControlPlane]:
    """A server with our policies, and a tenant's namespace for each limit of GPUs."""
    if plane.version < OLDEST:
        pytest.skip(f"this server of {plane.version} knows no admission policies")
    plane.create_namespace(HOME)
    for number, limit in enumerate(LIMITS):
        plane.create_namespace(f"reef-{number}")
        settings = config_map({"data": {"maxGpus": limit}} if limit else {"data": {}}, f"reef-{number}")
        plane.request("POST", f"/api/v1/namespaces/{HOME}/configmaps", settings)
    made = []
    for body in admission.rendered(HOME):
        plural = (
            "validatingadmissionpolicies" if body["kind"].endswith("Policy") else "validatingadmissionpolicybindings"
        )
        plane.request("POST", f"{POLICIES}/{plural}", body)
        made.append(f"{POLICIES}/{plural}/{body['metadata']['name']}")
    until_judged(plane, "configmaps", config_map({"data": {"colour": "blue"}}), HOME)
    until_judged(plane, "trainingruns", resource(kinds.TRAINING_RUN, 9), "reef-1")
    yield plane
    for path in reversed(made):
        plane.request("DELETE", path)


def config_map(content: Mapping[str, Any], namespace: str = "reef") -> dict[str, Any]:
    return {"metadata": {"name": tenant_settings.name_of(namespace)}, **content}


def until_judged(plane: ControlPlane, plural: str, body: Mapping[str, Any], namespace: str) -> None:
    """Wait until policies are in effect, shortly after they are stored."""
    deadline = time.monotonic() + _SECONDS
    while not refusals(plane, plural, body, namespace):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def refusals(plane: ControlPlane, plural: str, body: Mapping[str, Any], namespace: str = "default") -> list[str]:
    """Why the server would refuse it; empty if it would not."""
    root = "/api/v1" if plural == "configmaps" else f"/apis/{meta.API_VERSION}"
    return causes(plane, "POST", f"{root}/namespaces/{namespace}/{plural}?dryRun=All", body)


def causes(plane: ControlPlane, method: str, path: str, body: Mapping[str, Any]) -> list[str]:
    try:
        plane.request(method, path, body)
    except urllib.error.HTTPError as error:
        if error.code != 422:
            raise
        return [cause["message"] for cause in json.loads(error.__notes__[0])["details"]["causes"]]
    return []


def of_kind(kind: Kind, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": meta.API_VERSION, "kind": kind.kind, "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize(("kind", "changes", "want"), CASES)
def test_a_server_says_of_every_case_what_the_operator_says(
    judge: ControlPlane, kind: Kind, changes: builders.Yaml, want: str | None
) -> None:
    found = refusals(judge, kind.plural, of_kind(kind, builders.changed(builders.BASES[kind.kind], changes)))

    messages = {rule.message: rule.field for rule in kind.spec.rules()}
    broken = [field for message, field in messages.items() if any(message in each for each in found)]
    assert broken == ([want] if want else [])
    assert len(found) == len(broken)


@pytest.mark.parametrize("written", test_documented_gates.FOUND)
def test_a_server_takes_all_documented_gates(judge: ControlPlane, written: builders.Yaml) -> None:
    body = of_kind(kinds.TRAINING_RUN, builders.changed(builders.TRAINING_RUN, written))

    assert refusals(judge, kinds.TRAINING_RUN.plural, body) == []


@pytest.mark.parametrize(("written", "thousandths"), [(written, thousandths) for written, _, thousandths in WRITTEN])
def test_a_server_counts_cores_to_the_thousandth_however_they_are_written(
    judge: ControlPlane, written: int | str, thousandths: int
) -> None:
    def is_refused(limit: int) -> bool:
        resources = {"cpu": written, "limits": {"cpu": f"{limit}m"}}
        body = of_kind(kinds.TRAINING_RUN, builders.changed(builders.TRAINING_RUN, {"resources": resources}))
        return bool(refusals(judge, kinds.TRAINING_RUN.plural, body))

    allowed = [limit for limit in (thousandths - 1, thousandths, thousandths + 1) if 0 < limit <= MOST]
    assert [limit for limit in allowed if is_refused(limit)] == [limit for limit in allowed if limit < thousandths]


def test_frozen_fields_are_refused_by_the_server_when_they_change_or_come_or_go(judge: ControlPlane) -> None:
    root = f"/apis/{meta.API_VERSION}/namespaces/default/{kinds.TRAINING_RUN.plural}"
    stored = judge.request("POST", root, of_kind(kinds.TRAINING_RUN, builders.TRAINING_RUN))
    changes: dict[str, builders.Yaml] = {
        "datasetRef": {"datasetRef": {"name": "others"}},
        "model": {"model": {"weights": {"path": "a.pt"}}},
        "hyperparameters": {"hyperparameters": {"epochs": 11}},
        "register": {"register": {"alias": "challenger"}},
    }

    told = {
        field: causes(judge, "PUT", f"{root}/a?dryRun=All", stored | {"spec": builders.changed(stored["spec"], change)})
        for field, change in changes.items()
    }
    judge.request("DELETE", f"{root}/a")

    frozen = {field: words for field, words in told.items() if words}
    assert frozen.keys() == changes.keys() & set(kinds.TRAINING_RUN.frozen)
    for field, words in frozen.items():
        assert f"spec.{field} is immutable; create a new TrainingRun instead" in words[0]


@pytest.mark.parametrize("data", DATA, ids=str)
def test_tenant_settings_are_refused_when_written_exactly_when_the_operator_would_refuse_them(
    judge: ControlPlane, data: dict[str, str]
) -> None:
    found = refusals(judge, "configmaps", config_map({"data": data}), HOME)

    assert bool(found) is (tenant_settings.problem(data) is not None)
    for key in data:
        if found and key in tenant_settings.KEYS and len(data) == 1:
            assert f"pelagos-tenant-<namespace>: {key}: allowed is " in found[0]


@pytest.mark.parametrize("what", CONFIG_MAPS)
def test_config_maps_are_refused_or_left_alone(judge: ControlPlane, what: str) -> None:
    namespace, body, refused = CONFIG_MAPS[what]
    found = refusals(judge, "configmaps", body, namespace)

    assert bool(found) is refused
    if what == "not read any more":
        assert "pelagos-config is not read any more" in found[0]


def resource(kind: Kind, gpus: int | None, scaling: Mapping[str, int] | None = None) -> dict[str, Any]:
    changes: dict[str, Any] = {} if gpus is None else {"resources": {"gpus": gpus}}
    if scaling is not None:
        changes["scaling"] = scaling
    return of_kind(kind, builders.changed(builders.BASES[kind.kind], changes))


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    ("kind", "scaling", "replicas"),
    [
        (kinds.TRAINING_RUN, None, 1),
        (kinds.MODEL_SERVICE, None, 1),
        (kinds.MODEL_SERVICE, {"max": 1}, 1),
        (kinds.MODEL_SERVICE, {"max": 2}, 2),
        (kinds.MODEL_SERVICE, {"min": 2}, 2),
        (kinds.MODEL_SERVICE, {"min": 2, "max": 1}, 2),
        (kinds.MODEL_SERVICE, {"min": 1, "max": 2}, 2),
    ],
    ids=lambda value: getattr(value, "kind", str(value)),
)
def test_gpus_of_a_new_resource_are_judged_as_the_operator_does(
    judge: ControlPlane, kind: Kind, scaling: Mapping[str, int] | None, replicas: int, limit: str
) -> None:
    tenant = Tenant(max_gpus=int(limit) if limit.isdigit() else None)
    for gpus in (None, 0, 1, 2, 3):
        want = limits.exceeded(gpus or 0, None, tenant, replicas=replicas)
        found = refusals(judge, kind.plural, resource(kind, gpus, scaling), f"reef-{LIMITS.index(limit)}")

        assert len(found) == (1 if want else 0), gpus
        assert want is None or want.message in found[0]


def test_a_resource_from_before_the_limit_can_be_changed_but_not_grow(judge: ControlPlane) -> None:
    root = f"/apis/{meta.API_VERSION}/namespaces/default/{kinds.MODEL_SERVICE.plural}"
    # In a namespace without a limit first, and then with one.
    judge.request("POST", root, resource(kinds.MODEL_SERVICE, 2, {"max": 2}))
    settings = config_map({"data": {"maxGpus": "2"}}, "default")
    judge.request("POST", f"/api/v1/namespaces/{HOME}/configmaps", settings)
    until_judged(judge, kinds.MODEL_SERVICE.plural, resource(kinds.MODEL_SERVICE, 3), "default")
    stored = judge.request("GET", f"{root}/a")

    def is_refused(gpus: int, replicas: int) -> bool:
        spec = stored["spec"] | {"resources": {"gpus": gpus}, "scaling": {"min": 1, "max": replicas}}
        return bool(causes(judge, "PUT", f"{root}/a?dryRun=All", stored | {"spec": spec}))

    verdicts = {case: is_refused(*case) for case in itertools.product((1, 2, 3), (1, 2, 3))}
    judge.request("DELETE", f"/api/v1/namespaces/{HOME}/configmaps/{settings['metadata']['name']}")
    judge.request("DELETE", f"{root}/a")

    assert {case for case, refused in verdicts.items() if not refused} == {
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (3, 1),
    }
