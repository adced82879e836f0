"""How KServe's statuses are interpreted, by recorded examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from pelagos.engines.kserve.engine import Kserve
from pelagos.engines.kubernetes.objects import KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.model_server import marks
from pelagos.engines.model_server.engine import View
from pelagos.engines.model_server.options import Options
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.serving import DesiredService, Scaling, ServiceState

WANT = DesiredService(
    uid="0f", namespace="lab", name="detector", model_name="detector", package_uri="/objects/ab", onnx_sha256="ab",
    manifest_sha256="cd",
    max_batch_size=4, max_queue_delay=0, instances=1, confidence="0.25", iou="0.7", cpu=1, digest="sha256:1",
)  # fmt: skip
KNATIVE = replace(WANT, scaling=Scaling(mode="Knative", minimum=0, maximum=2))
POD = {"metadata": {"name": "detector-1", "uid": "1"}, "status": {"phase": "Running"}}
ENGINE = Kserve(
    KubernetesObjects(KubernetesRest("http://127.0.0.1:1", tls=None)),
    ObjectsFake(),
    Options(image="i", objects_root="/objects"),
    lambda _uid: "lab",
)


def condition(kind: str, status: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": status} | more


def view(want: DesiredService, pods: list[dict[str, Any]], *conditions: dict[str, str], **status: Any) -> View:
    metadata = {"name": "detector", "namespace": "lab", "annotations": {}}
    return View({"metadata": metadata, "status": status | {"conditions": list(conditions)}}, want, cast("Any", pods))


def revisions(created: str, ready: str) -> dict[str, dict[str, str]]:
    return {"predictor": {"latestCreatedRevision": created, "latestReadyRevision": ready}}


MADE = {"annotations": {marks.DIGEST_ANNOTATION: WANT.pod_template_digest}}
"""Metadata of a pod of the desired version."""
READY = condition("Ready", "True")
NO_QUOTA = condition("PredictorReady", "False", message="quota", reason="FailedCreate")
REFUSED = condition(
    "PredictorReady",
    "False",
    message='pods "detector-predictor-1" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != '
    'false (container "storage-initializer" must set securityContext.allowPrivilegeEscalation=false)',
    reason="FailedCreate",
)
FAILED = {
    "states": {"targetModelState": "FailedToLoad", "activeModelState": ""},
    "transitionStatus": "BlockedByFailedLoad",
}


@pytest.mark.parametrize(
    ("seen", "done", "state", "words"),
    [
        (view(WANT, []), False, "Starting", "KServe has not processed it yet"),
        (view(WANT, [POD], READY), True, "Starting", ""),
        (view(KNATIVE, [], READY), True, "Idle", ""),
        (view(KNATIVE, [POD], READY), True, "Starting", ""),
        (view(WANT, [], READY), True, "Starting", ""),
        # The previous version is the one that is ready.
        (view(KNATIVE, [], READY, components=revisions("2", "1")), False, "Starting", "revision 2 is not ready yet"),
        (view(KNATIVE, [], READY, components=revisions("2", "2")), True, "Idle", ""),
        (
            view(WANT, [], READY | {"status": "False"}, NO_QUOTA),
            False,
            "Waiting",
            "no pod can be created: quota",
        ),
        # KServe's storage initializer has no securityContext.
        (
            view(WANT, [], READY | {"status": "False"}, REFUSED),
            False,
            "Waiting",
            "the ClusterStorageContainer pelagos does",
        ),
        (
            view(WANT, [], condition("Ready", "False"), condition("Stopped", "True")),
            False,
            "Waiting",
            "serving.kserve.io/stop",
        ),
        (
            view(
                WANT, [], condition("Ready", "False"),
                modelStatus=FAILED | {"lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such key", "exitCode": 1}},
            ),
            False,
            "LoadFailed",
            "no such key",
        ),
        # Pods are the better source, and are current.
        (view(WANT, [POD], condition("Ready", "False", message="m"), modelStatus=FAILED), False, "Starting", "KServe: m"),
        (
            view(
                WANT, [POD], READY,
                modelStatus={
                    "transitionStatus": "InvalidSpec",
                    "lastFailureInfo": {"reason": "RuntimeDisabled", "message": "Specified runtime is disabled"},
                },
            ),
            False,
            "LoadFailed",
            "RuntimeDisabled: Specified runtime is disabled",
        ),
    ],
)  # fmt: skip
async def test_what_kserve_tells(seen: View, done: bool, state: str, words: str) -> None:
    told = await ENGINE.told(seen)
    assert (told.done, told.state) == (done, ServiceState(state))
    assert words in told.message


def left_out(uri: str, **pod: Any) -> str:
    seen = view(WANT, [{"metadata": {"name": "detector-1", "uid": "1"} | MADE, "spec": pod}], READY)
    model = {"spec": {"predictor": {"model": {"storageUri": uri}}}}
    found = ENGINE.left_out(replace(seen, main={**seen.main, **model}))
    return f"{found.state}: {found.message}" if found is not None else ""


def test_a_pod_that_kserves_webhook_has_not_seen_is_told_from_a_server_that_died() -> None:
    said = left_out("s3://bucket/ab")

    assert "no init container storage-initializer into pod detector-1" in said
    assert "MutatingWebhookConfiguration inferenceservice.serving.kserve.io" in said
    assert said.startswith(f"{ServiceState.FETCH_FAILED}: ")
    assert left_out("s3://bucket/ab", initContainers=[{"name": "of-another-name"}]) == ""
    assert left_out("pvc://objects/ab") == ""


@pytest.mark.parametrize(
    ("predictor", "grpc"),
    [
        ({"url": "http://detector-predictor.lab.svc.cluster.local"}, "detector-predictor.lab.svc.cluster.local:80"),
        ({"url": "https://detector.lab.example.com"}, "detector.lab.example.com:443"),
        ({"url": "https://detector.lab.example.com:8443/"}, "detector.lab.example.com:8443"),
        ({}, ""),
    ],
)
def test_knatives_gateway_is_told_by_its_host(predictor: dict[str, str], grpc: str) -> None:
    annotations = {"serving.kserve.io/deploymentMode": "Knative"}
    main = {"metadata": {"annotations": annotations}, "status": {"components": {"predictor": predictor}}}
    assert ENGINE.urls(main, None).grpc == grpc
