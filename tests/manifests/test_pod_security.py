"""All pods that we install may run where Pod Security `restricted` is enforced; and the check finds what may not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

import pod_security
import rendering
from value_sets import SETS, objects

MUTATIONS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "hostNetwork is true": ("pod", {"hostNetwork": True}),
    "hostPID is true": ("pod", {"hostPID": True}),
    "hostIPC is true": ("pod", {"hostIPC": True}),
    "volume host is of kind hostPath": ("pod", {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
    "sysctl kernel.msgmax": ("pod security", {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    "AppArmor profile unconfined": (
        "metadata",
        {"annotations": {"container.apparmor.security.beta.kubernetes.io/operator": "unconfined"}},
    ),
    "windowsOptions.hostProcess is true": ("pod security", {"windowsOptions": {"hostProcess": True}}),
    "seLinuxOptions": ("pod security", {"seLinuxOptions": {"type": "spc_t"}}),
    "appArmorProfile": ("pod security", {"appArmorProfile": {"type": "Unconfined"}}),
    "seccompProfile is Unconfined": ("pod security", {"seccompProfile": {"type": "Unconfined"}}),
    "runAsNonRoot is false": ("pod security", {"runAsNonRoot": False}),
    "runAsUser is 0": ("pod security", {"runAsUser": 0}),
    "operator: privileged": ("container security", {"privileged": True}),
    "operator: allowPrivilegeEscalation is not false": ("container security", {"allowPrivilegeEscalation": None}),
    "operator: procMount": ("container security", {"procMount": "Unmasked"}),
    "operator: capabilities.drop lacks ALL": ("container security", {"capabilities": {"drop": ["NET_RAW"]}}),
    "operator: capabilities.add": ("container security", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "operator: runAsNonRoot is not true": ("pod security", {"runAsNonRoot": None}),
    "operator: seccompProfile is not set": ("pod security", {"seccompProfile": None}),
    "operator: hostPort": ("container", {"ports": [{"containerPort": 8080, "hostPort": 80}]}),
    "operator: a probe or hook names a host": (
        "container",
        {"livenessProbe": {"httpGet": {"path": "/", "port": 80, "host": "10.0.0.1"}}},
    ),
}


def operator_pod() -> tuple[dict[str, Any], dict[str, Any]]:
    (deployment,) = (body for body in objects(SETS["everything"]) if body["kind"] == "Deployment")
    template = copy.deepcopy(deployment["spec"]["template"])
    return template["metadata"], template["spec"]


@pytest.mark.parametrize("overlay", rendering.OVERLAYS)
def test_no_pod_breaks_the_standard(overlay: str) -> None:
    bodies = rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay)
    pods = [pod for body in bodies for pod in pod_security.templates(body)]

    assert pods
    assert [problem for metadata, pod in pods for problem in pod_security.violations(metadata, pod)] == []


@pytest.mark.parametrize("name", SETS)
def test_no_value_makes_a_pod_break_the_standard(name: str) -> None:
    pods = [pod for body in objects(SETS[name]) for pod in pod_security.templates(body)]

    assert [problem for metadata, pod in pods for problem in pod_security.violations(metadata, pod)] == []


@pytest.mark.parametrize("problem", MUTATIONS)
def test_the_check_finds_what_the_standard_forbids(problem: str) -> None:
    metadata, pod = operator_pod()
    container = pod["containers"][0]
    places = {
        "metadata": metadata,
        "pod": pod,
        "pod security": pod["securityContext"],
        "container": container,
        "container security": container["securityContext"],
    }
    place, change = MUTATIONS[problem]
    for key, value in change.items():
        if value is None:
            places[place].pop(key)
        else:
            places[place][key] = value

    assert problem in pod_security.violations(metadata, pod)


def test_namespaces_enforce_it() -> None:
    namespaces = [body for body in objects(SETS["everything"]) if body["kind"] == "Namespace"]

    assert len(namespaces) == 2
    for body in namespaces:
        for mode in ("enforce", "audit", "warn"):
            assert body["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
