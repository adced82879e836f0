"""What only KServe adds: statuses that cannot be trusted, its runtime, and objects that others may change.

The API server and Triton are real. KServe's controller and the nodes are fake servers; every InferenceService is compared with
the models that KServe publishes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from control_plane import ControlPlane
from kserve_fake_server import published
from pelagos.engines.kserve import engine as kserve
from pelagos.engines.kserve.manifests import inference_service, recorded
from pelagos.engines.kubernetes.objects import Body, Collection
from pelagos.engines.model_server import pod_status
from pelagos.engines.model_server.object_kinds import INFERENCE_SERVICES
from pelagos.ports.errors import OutageError, RejectedError, UnfinishedError
from pelagos.ports.serving import DesiredService, Scaling, ServiceState, spec_digest
from serving_clusters import (
    RUNTIME,
    RUNTIMES,
    ServingCluster,
    everything,
    options,
    serving_cluster,
    until,
)

MakeWant = Callable[..., DesiredService]
UID = "uid-of-kserve"


@pytest.fixture
async def site(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(plane, "kserve", tmp_path.parent, tmp_path) as made:
        yield made


async def found(site: ServingCluster) -> Body:
    (service,) = await site.all(INFERENCE_SERVICES, UID)
    return service


async def until_gone(site: ServingCluster) -> None:
    """Wait until KServe's controller has removed its finalizer."""
    async with asyncio.timeout(30):
        while await site.serving.observe(UID) is not None:  # noqa: ASYNC110 - others decide
            await asyncio.sleep(0.1)


async def test_what_waits_for_the_finalizer_of_kserve_is_not_called_gone(
    site: ServingCluster, make_want: MakeWant
) -> None:
    """Its servers are still running; a deletion may be reported only when nothing serves any more."""
    assert site.kserve is not None
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    site.kserve.faults.held.add("detector")
    for _ in range(2):
        with pytest.raises(
            UnfinishedError, match=r"InferenceService detector .* waits for inferenceservice\.finalizers"
        ):
            await site.serving.remove(UID)
    assert [pod for pod in await site.pods(UID) if pod_status.is_ready(pod)]
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert (seen.digest, seen.replicas) == ("", 0)
    assert "until then its servers continue" in seen.message
    # If it is requested again before it is removed, the engine waits for the removal as well.
    with pytest.raises(OutageError, match=r"waits for inferenceservice\.finalizers.* created again when that is done"):
        await site.serving.apply(want)

    site.kserve.faults.held.clear()
    await until_gone(site)
    await site.serving.remove(UID)


async def test_a_webhook_that_is_away_is_named_and_what_serves_goes_on(
    site: ServingCluster, plane: ControlPlane, make_want: MakeWant
) -> None:
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    name = "inferenceservice.kserve-webhook-server.validator"
    rule = {"apiGroups": ["serving.kserve.io"], "apiVersions": ["v1beta1"], "operations": ["CREATE", "UPDATE"]}
    webhook = {
        "name": name,
        "clientConfig": {"url": "https://127.0.0.1:1/validate"},
        "rules": [rule | {"resources": ["inferenceservices"]}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    plane.request("POST", path, {"metadata": {"name": "kserve"}, "webhooks": [webhook]})
    changed = replace(want, confidence="0.6", digest="changed")
    try:
        async with asyncio.timeout(60):
            while True:  # an API server starts to call a new webhook within a second
                with contextlib.suppress(OutageError):
                    await site.serving.apply(replace(want, digest="not yet"))
                    await asyncio.sleep(0.2)
                    continue
                break
        with pytest.raises(
            OutageError, match=rf"the admission webhook {name} does not answer.* running servers continue"
        ):
            await site.serving.apply(changed)
        assert (await site.serving.probe(UID)).correct
    finally:
        plane.request("DELETE", f"{path}/kserve")
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OutageError):
                await site.serving.apply(changed)
                break
            await asyncio.sleep(0.2)
    assert (await until(site.serving, UID, ServiceState.LOADED)).digest == "changed"


async def test_ready_alone_is_not_believed(site: ServingCluster, make_want: MakeWant) -> None:
    """KServe reports Ready while the server keeps dying."""
    assert site.kserve is not None
    site.kserve.faults.ready_while_crashing.add("detector")
    want = site.in_namespace(make_want(uid=UID))
    (site.root / "crashing").mkdir(exist_ok=True)
    await site.serving.apply(replace(want, model_name="../not/a/folder"))
    seen = await until(site.serving, UID, ServiceState.DEAD, ServiceState.LOAD_FAILED, ServiceState.LOADED)
    conditions = {each["type"]: each["status"] for each in (await found(site))["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert seen.state is ServiceState.LOAD_FAILED
    assert "cannot be the name of a folder" in seen.message
    assert seen.replicas == 0


async def test_a_status_that_is_late_hides_no_roll_out(site: ServingCluster, make_want: MakeWant) -> None:
    """KServe has not processed a change yet: everything in its status is about the previous version."""
    assert site.kserve is not None
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    before = await until(site.serving, UID, ServiceState.LOADED)
    site.kserve.faults.ignored.add("detector")
    changed = replace(want, confidence="0.6", digest="changed")
    await site.serving.apply(changed)
    for _ in range(5):
        seen = await site.serving.observe(UID)
        assert seen is not None
        assert (seen.digest, seen.state) == ("changed", ServiceState.STARTING)
        assert "the old version is still served" in seen.message
        assert seen.grpc_url == before.grpc_url
        await asyncio.sleep(0.2)
    site.kserve.faults.ignored.clear()
    assert (await until(site.serving, UID, ServiceState.LOADED)).digest == "changed"
    assert (await site.serving.probe(UID)).correct


async def test_another_number_of_servers_replaces_none(site: ServingCluster, make_want: MakeWant) -> None:
    """KServe copies all annotations to the pods, and replaces them when one differs."""
    want = site.in_namespace(make_want(uid=UID), pods_digest="pods", digest="pods")
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    (before,) = await site.pods(UID)
    scaling = Scaling(minimum=1, maximum=3)
    await site.serving.apply(replace(want, scaling=scaling, digest=spec_digest("pods", scaling)))
    assert (await found(site))["spec"]["predictor"]["maxReplicas"] == 3
    await asyncio.sleep(1)  # KServe looks several times
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert (seen.digest, seen.pods_digest, seen.state) == (spec_digest("pods", scaling), "pods", ServiceState.LOADED)
    (after,) = await site.pods(UID)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


@pytest.mark.parametrize(("fault", "words"), [("unplaceable", "0/1 nodes are available"), ("quota", "exceeded quota")])
async def test_servers_that_cannot_be_added_leave_the_others_serving_and_are_told(
    site: ServingCluster, make_want: MakeWant, fault: str, words: str
) -> None:
    want = site.in_namespace(make_want(uid=UID), pods_digest="pods", digest="pods")
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    setattr(site.node.faults, fault, words)
    scaling = Scaling(minimum=2, maximum=2)
    await site.serving.apply(replace(want, scaling=scaling, digest=spec_digest("pods", scaling)))
    async with asyncio.timeout(60):
        while True:
            seen = await site.serving.observe(UID)
            assert seen is not None
            assert (seen.state, seen.replicas) == (ServiceState.LOADED, 1)
            if words in seen.message:
                break
            await asyncio.sleep(0.1)
    assert seen.pod_selector == f"pelagos.dev/uid={UID},app.kubernetes.io/name=pelagos-model-server"


@pytest.mark.parametrize(
    "scaling",
    [
        Scaling(),
        Scaling(minimum=2, maximum=5, cpu=60),
        Scaling(mode="Knative", minimum=0, maximum=2),
        Scaling(mode="Knative", maximum=4, concurrency=3),
        Scaling(mode="Knative", maximum=4, cpu=70),
    ],
)
def test_what_an_inference_service_was_made_for_can_be_told_again(make_want: MakeWant, scaling: Scaling) -> None:
    digest = spec_digest("pods", scaling)
    want = replace(make_want(), package_uri="s3://b/p", pods_digest="pods", digest=digest, scaling=scaling)
    made = inference_service(want, "", options(Path("/objects")))
    told = recorded(made)
    assert told is not None
    assert (told.digest, told.pod_template_digest) == (want.digest, "pods")
    assert inference_service(told, "", options(Path("/objects"))) == made
    # Somebody else scales it.
    made["spec"]["predictor"]["maxReplicas"] = 9
    told = recorded(made)
    assert told is not None
    assert told.digest != want.digest


async def test_a_service_that_kserve_never_finds_ready_is_not(site: ServingCluster, make_want: MakeWant) -> None:
    assert site.kserve is not None
    site.kserve.faults.stuck.add("detector")
    await site.serving.apply(site.in_namespace(make_want(uid=UID)))
    async with asyncio.timeout(60):
        while not [pod for pod in await site.pods(UID) if pod_status.is_ready(pod)]:  # noqa: ASYNC110 - others decide
            await asyncio.sleep(0.2)
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert (seen.state, seen.message) == (ServiceState.STARTING, "KServe: predictor is not ready")


async def test_what_is_deleted_behind_our_back_is_made_again(site: ServingCluster, make_want: MakeWant) -> None:
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    await site.cluster.delete(INFERENCE_SERVICES, await found(site))
    await until_gone(site)
    await site.serving.apply(want)
    assert (await until(site.serving, UID, ServiceState.LOADED)).restarts == 0


async def test_what_is_as_wanted_is_not_written_and_what_was_changed_is_put_right(
    site: ServingCluster, make_want: MakeWant
) -> None:
    want = site.in_namespace(make_want(uid=UID), scaling=Scaling(minimum=1, maximum=3))
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    version = (await found(site))["metadata"]["resourceVersion"]
    for _ in range(3):
        await site.serving.apply(want)
    assert (await found(site))["metadata"]["resourceVersion"] == version
    # Fields that others add stay.
    await site.cluster.patch(
        INFERENCE_SERVICES, site.namespace, "detector", {"metadata": {"annotations": {"note": "mine"}}}
    )
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert seen.digest == want.digest
    # Fields that are ours are restored.
    patch = {"spec": {"predictor": {"maxReplicas": 1}}}
    await site.cluster.patch(INFERENCE_SERVICES, site.namespace, "detector", patch)
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert seen.digest == ""
    await site.serving.apply(want)
    service = await found(site)
    assert service["spec"]["predictor"]["maxReplicas"] == 3
    assert service["metadata"]["annotations"]["note"] == "mine"
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert seen.digest == want.digest


async def test_a_runtime_that_is_missing_is_said_with_the_command_that_helps(
    site: ServingCluster, plane: ControlPlane, make_want: MakeWant
) -> None:
    want = site.in_namespace(make_want(uid=UID))
    plane.request("DELETE", f"{RUNTIMES}/pelagos-triton")
    try:
        with pytest.raises(RejectedError, match=r"kubectl apply --validate=false -k manifests/overlays/kserve"):
            await site.serving.apply(want)
        assert await site.serving.observe(UID) is None
    finally:
        plane.request("POST", RUNTIMES, yaml.safe_load(RUNTIME.read_text(encoding="utf-8")))
    await site.serving.apply(want)
    # It is deleted while the service exists: KServe refuses, and its reason is passed on.
    plane.request("DELETE", f"{RUNTIMES}/pelagos-triton")
    try:
        seen = await until(site.serving, UID, ServiceState.WAITING)
        assert "RuntimeNotRecognized: Waiting for runtime to become available" in seen.message
    finally:
        plane.request("POST", RUNTIMES, yaml.safe_load(RUNTIME.read_text(encoding="utf-8")))


async def test_a_cluster_without_kserve_is_said_to_be_one(
    site: ServingCluster, make_want: MakeWant, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Collection("serving.kserve.io/v9", "InferenceService", "inferenceservices")
    monkeypatch.setattr(kserve, "INFERENCE_SERVICES", absent)
    monkeypatch.setattr(kserve.Kserve, "main", absent)
    assert await site.serving.observe(UID) is None
    with pytest.raises(RejectedError, match=r"install KServe, or set PELAGOS_SERVING_ENGINE=deployment"):
        await site.serving.apply(site.in_namespace(make_want(uid=UID)))
    await site.serving.remove(UID)


async def test_an_inference_service_of_somebody_else_is_left_alone(site: ServingCluster, make_want: MakeWant) -> None:
    assert site.kserve is not None
    site.kserve.faults.ignored.add("detector")
    body = {
        "apiVersion": INFERENCE_SERVICES.api_version,
        "kind": "InferenceService",
        "metadata": {"name": "detector", "namespace": site.namespace},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}}}},
    }
    await site.rest.ask("POST", INFERENCE_SERVICES.path(site.namespace), body)
    want = site.in_namespace(make_want(uid=UID))
    with pytest.raises(RejectedError, match=r"already a InferenceService detector .* rename the ModelService"):
        await site.serving.apply(want)
    ours = {"metadata": {"labels": {"pelagos.dev/uid": "earlier"}}}
    await site.cluster.patch(INFERENCE_SERVICES, site.namespace, "detector", ours)
    with pytest.raises(OutageError, match=r"an earlier ModelService is still being deleted"):
        await site.serving.apply(want)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_everything_that_can_be_asked_for_is_allowed_by_the_published_models(make_want: MakeWant, mode: str) -> None:
    want = everything(make_want(), mode)
    made = inference_service(want, "name: 'x'", options(Path("/objects")))
    published.validator("V1beta1InferenceService")(made)
    predictor = made["spec"]["predictor"]
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode
    assert predictor["model"]["storageUri"] == "s3://bucket/p/1"
    assert predictor["minReplicas"] == (0 if mode == "Knative" else 2)
    assert predictor["automountServiceAccountToken"] is False
    assert len(f"{made['metadata']['name']}-predictor-{want.namespace}") <= 63
    # Knative refuses a Service that asks for these.
    assert ("lifecycle" in predictor["model"]) == (mode == "Standard")
    assert ("terminationGracePeriodSeconds" in predictor) == (mode == "Standard")


@pytest.mark.parametrize(
    ("file", "kind"),
    [("clusterservingruntime", "V1alpha1ClusterServingRuntime"), ("servingruntime", "V1alpha1ServingRuntime")],
)
def test_our_runtimes_are_allowed_by_the_published_models(file: str, kind: str) -> None:
    body = yaml.safe_load((RUNTIME.parent / f"{file}.yaml").read_text(encoding="utf-8"))
    published.validator(kind)(body)
    (container,) = body["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "pelagos_pipelines.serving.entrypoint"]
