"""Replicas of a ModelService, set by people and others' autoscalers: through its scale subresource on a real API server."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

import rendering
from integration.test_life_of_a_training import SERVICE, launched, succeed, trained
from pelagos.api import meta
from sites import Site, condition, is_ready

__all__ = ["launched"]

AUTOSCALER = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
"""The identity of Kubernetes' own autoscaler, whose rights each API server defines."""


@pytest.fixture
async def serving(launched: Site) -> Site:
    """A ModelService that is Ready, with one replica."""
    await launched.create("ModelService", "detector", SERVICE)
    await succeed(launched, "training", trained())
    await launched.wait("ModelService", "detector", is_ready)
    return launched


async def kubectl_scale(site: Site, kind: str, name: str, replicas: int) -> subprocess.CompletedProcess[str]:
    command = [rendering.kubectl(), "--kubeconfig", str(site.plane.kubeconfig), "--namespace", site.namespace]
    scale = [*command, "--cache-dir", str(site.home / "cache"), "scale", kind, name, f"--replicas={replicas}"]
    return await asyncio.to_thread(subprocess.run, scale, capture_output=True, text=True, timeout=60, check=False)


def has_replicas(number: int) -> Any:
    return lambda body: is_ready(body) and body.get("status", {}).get("replicas") == number


async def test_kubectl_scales_a_service_that_stays_ready(serving: Site) -> None:
    done = await kubectl_scale(serving, "modelservice", "detector", 3)

    assert (done.returncode, done.stdout) == (0, "modelservice.pelagos.dev/detector scaled\n")
    body = await serving.wait("ModelService", "detector", has_replicas(3))
    assert body["spec"]["scaling"]["min"] == 3
    (want,) = serving.fakes.serving.wants
    assert (want.scaling.minimum, want.scaling.maximum) == (3, 3)
    assert serving.fakes.serving.started == 1, "no server was replaced"

    await kubectl_scale(serving, "modelservice", "detector", 1)
    await serving.wait("ModelService", "detector", has_replicas(1))


async def test_an_autoscaler_of_others_reads_replicas_and_selector_and_writes_what_it_wants(serving: Site) -> None:
    path = serving.path("ModelService", "detector") + "/scale"
    found = await serving.call("GET", path)
    uid = (await serving.get("ModelService", "detector"))["metadata"]["uid"]

    assert (found["apiVersion"], found["kind"]) == ("autoscaling/v1", "Scale")
    assert (found["spec"], found["status"]["replicas"]) == ({"replicas": 1}, 1)
    assert f"{meta.UID_LABEL}={uid}" in found["status"]["selector"].split(",")

    await serving.call("PUT", path, found | {"spec": {"replicas": 2}})
    await serving.wait("ModelService", "detector", has_replicas(2))
    assert (await serving.call("GET", path))["status"]["replicas"] == 2

    # It may: Kubernetes lets its own autoscaler scale any resource with the subresource.
    for verb in ("get", "update"):
        about = {"group": meta.GROUP, "resource": "modelservices", "subresource": "scale", "verb": verb}
        review = {"spec": {"user": AUTOSCALER, "resourceAttributes": about | {"namespace": serving.namespace}}}
        answer = await serving.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert answer["status"]["allowed"], verb


async def test_more_than_a_maximum_that_is_given_is_refused_in_words(serving: Site) -> None:
    await serving.patch("ModelService", "detector", {"spec": {"scaling": {"max": 4}}})

    done = await kubectl_scale(serving, "modelservice", "detector", 5)

    words = "spec.scaling.min, which kubectl scale sets, must not be above spec.scaling.max; raise max, or leave it out"
    if done.returncode:  # a server that checks CEL rules
        assert words in done.stderr
        return
    body = await serving.wait("ModelService", "detector", lambda found: not is_ready(found))
    assert words in condition(body, "Stalled")["message"]
    assert [want.scaling.minimum for want in serving.fakes.serving.wants] == [1], "what serves stays as it is"


@pytest.mark.parametrize(("kind", "name"), [("dataset", "plankton"), ("trainingrun", "detector")])
async def test_what_has_no_replicas_cannot_be_scaled(launched: Site, kind: str, name: str) -> None:
    done = await kubectl_scale(launched, kind, name, 2)

    assert done.returncode != 0
