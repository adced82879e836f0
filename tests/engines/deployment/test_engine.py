"""What only a Deployment adds: its policies and autoscaler, roll-outs without a lost request, and limits of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane import ControlPlane
from pelagos.engines.deployment.engine import TritonDeployment
from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.model_server import pod_status
from pelagos.engines.model_server.network import POLICIES
from pelagos.engines.model_server.object_kinds import AUTOSCALERS, BUDGETS, DEPLOYMENTS, SERVICES
from pelagos.engines.triton import inference
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import DesiredService, Scaling, ServiceState
from serving_clusters import ServingCluster, options, serving_cluster, until

MakeWant = Callable[..., DesiredService]
UID = "uid-of-deployment"
ALL = (DEPLOYMENTS, SERVICES, AUTOSCALERS, POLICIES, BUDGETS)


@pytest.fixture
async def site(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(plane, "deployment", tmp_path.parent, tmp_path) as made:
        yield made


async def counts(site: ServingCluster) -> dict[str, int]:
    return {kind.kind: len(await site.all(kind, UID)) for kind in ALL}


async def test_all_that_belongs_to_an_endpoint_comes_and_goes_with_it(
    site: ServingCluster, make_want: MakeWant
) -> None:
    want = site.in_namespace(make_want(uid=UID), scaling=Scaling(minimum=1, maximum=3, cpu=70))
    await site.serving.apply(want)
    assert set((await counts(site)).values()) == {1}
    (scaler,) = await site.all(AUTOSCALERS, UID)
    assert scaler["spec"]["targetCPUUtilizationPercentage"] == 70
    # An autoscaler that is no longer wanted would work against the desired number.
    await site.serving.apply(replace(want, scaling=Scaling(minimum=2, maximum=2), digest="two"))
    assert (await counts(site))["HorizontalPodAutoscaler"] == 0
    (deployment,) = await site.all(DEPLOYMENTS, UID)
    assert deployment["spec"]["replicas"] == 2
    # A budget for a single server would keep its node from ever being drained.
    await site.serving.apply(replace(want, scaling=Scaling(), digest="one"))
    assert (await counts(site))["PodDisruptionBudget"] == 0
    await site.serving.remove(UID)
    assert set((await counts(site)).values()) == {0}


async def test_what_an_interrupted_change_left_is_removed_by_the_next_life_of_the_operator(
    site: ServingCluster, make_want: MakeWant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is the budget for a single server, which releases before this one created."""
    site.node.faults.frozen = True
    want = site.in_namespace(make_want(uid=UID), scaling=Scaling(minimum=1, maximum=3))
    await site.serving.apply(want)
    fewer = replace(want, scaling=Scaling(), digest="fewer")

    async def away(*_: object) -> None:
        raise OutageError("serving", "connection reset by peer")

    with monkeypatch.context() as broken:
        broken.setattr(site.cluster, "delete", away)
        with pytest.raises(OutageError):
            await site.serving.apply(fewer)
    assert (await counts(site))["HorizontalPodAutoscaler"] == 1

    root = Path(want.package_uri).parent
    another = TritonDeployment(site.cluster, FolderObjects(root), options(site.root), lambda _uid: site.namespace)
    for life in (site.serving, another):
        seen = await life.observe(UID)
        assert seen is not None
        assert seen.digest == ""
    await another.apply(fewer)

    left = await counts(site)
    assert (left["HorizontalPodAutoscaler"], left["PodDisruptionBudget"]) == (0, 0)
    seen = await another.observe(UID)
    assert seen is not None
    assert seen.digest == "fewer"
    await another.close()


async def test_replicas_stay_while_an_autoscaler_takes_over(site: ServingCluster, make_want: MakeWant) -> None:
    site.node.faults.frozen = True
    want = site.in_namespace(make_want(uid=UID), scaling=Scaling(minimum=3, maximum=3))
    await site.serving.apply(want)
    scaled = replace(want, scaling=Scaling(minimum=3, maximum=6), digest="scaled")
    for _ in range(2):
        await site.serving.apply(scaled)
        (deployment,) = await site.all(DEPLOYMENTS, UID)
        assert deployment["spec"]["replicas"] == 3
    # The autoscaler decides, and the engine does not undo it.
    await site.cluster.patch(DEPLOYMENTS, site.namespace, "detector/scale", {"spec": {"replicas": 5}})
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert seen.digest == "scaled"
    await site.serving.apply(scaled)
    (deployment,) = await site.all(DEPLOYMENTS, UID)
    assert deployment["spec"]["replicas"] == 5
    # Neither does a new model: fewer servers than before would have to handle the same requests.
    await site.serving.apply(replace(scaled, confidence="0.6", digest="another"))
    (deployment,) = await site.all(DEPLOYMENTS, UID)
    assert deployment["spec"]["replicas"] == 5


async def test_another_number_of_servers_replaces_none(site: ServingCluster, make_want: MakeWant) -> None:
    want = site.in_namespace(make_want(uid=UID), pods_digest="pods")
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    (before,) = await site.pods(UID)
    await site.serving.apply(replace(want, scaling=Scaling(minimum=1, maximum=3), digest="scaled"))
    seen = await until(site.serving, UID, ServiceState.LOADED, seconds=60)
    assert (seen.digest, seen.pods_digest) == ("scaled", "pods")
    (after,) = await site.pods(UID)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    (deployment,) = await site.all(DEPLOYMENTS, UID)
    assert deployment["metadata"]["generation"] > 1


@pytest.mark.parametrize(("fault", "words"), [("unplaceable", "0/1 nodes are available"), ("quota", "exceeded quota")])
async def test_servers_that_cannot_be_added_leave_the_others_serving_and_are_told(
    site: ServingCluster, make_want: MakeWant, fault: str, words: str
) -> None:
    want = site.in_namespace(make_want(uid=UID), pods_digest="pods")
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    setattr(site.node.faults, fault, words)
    scaling = Scaling(minimum=2, maximum=2)
    await site.serving.apply(replace(want, scaling=scaling, digest="scaled"))
    async with asyncio.timeout(60):
        while True:
            seen = await site.serving.observe(UID)
            assert seen is not None
            assert (seen.state, seen.replicas) == (ServiceState.LOADED, 1)
            if words in seen.message:
                break
            await asyncio.sleep(0.1)
    assert seen.pod_selector == f"pelagos.dev/uid={UID},app.kubernetes.io/name=pelagos-model-server"


async def test_a_rolling_update_loses_no_request(site: ServingCluster, make_want: MakeWant) -> None:
    """A client that, like a Service, asks any ready pod gets an answer at every moment."""
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    await until(site.serving, UID, ServiceState.LOADED)
    image = (Path(want.package_uri) / "probe.png").read_bytes()
    answers: list[int] = []
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            ready = [pod for pod in await site.pods(UID) if pod_status.is_ready(pod)]
            assert ready, "no pod is ready"
            prediction, _ = await inference.infer(f"{ready[0]['status']['podIP']}:9000", "detector", image, 10)
            answers.append(len(prediction["detections"]))

    client = asyncio.create_task(ask())
    await site.serving.apply(replace(want, confidence="0.7", digest="stricter"))
    seen = await until(site.serving, UID, ServiceState.LOADED)
    assert seen.digest == "stricter"
    async with asyncio.timeout(60):
        while not client.done() and answers[-1] == answers[0]:  # noqa: ASYNC110 - the client asks in its own time
            await asyncio.sleep(0.1)
    stop.set()
    await client
    # The old version answered, then the new one, and nothing else.
    assert len(set(answers)) == 2
    assert answers == sorted(answers, reverse=True)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unplaceable", "0/1 nodes are available: 1 Insufficient cpu."),
        ("without_image", 'Back-off pulling image "pelagos/serving:test"'),
        ("quota", 'pods "detector" is forbidden: exceeded quota: compute'),
    ],
)
async def test_what_the_cluster_cannot_do_now_is_said_in_its_words_and_heals(
    site: ServingCluster, make_want: MakeWant, fault: str, words: str
) -> None:
    setattr(site.node.faults, fault, words)
    await site.serving.apply(site.in_namespace(make_want(uid=UID)))
    seen = await until(site.serving, UID, ServiceState.WAITING, seconds=60)
    assert words in seen.message
    assert seen.lacks_room is (fault != "without_image")
    setattr(site.node.faults, fault, "")
    if fault == "unplaceable":
        # Only a real scheduler binds a pending pod.
        for pod in await site.pods(UID):
            await site.rest.ask("DELETE", f"/api/v1/namespaces/{site.namespace}/pods/{pod['metadata']['name']}")
    assert (await until(site.serving, UID, ServiceState.LOADED)).message == ""


async def test_a_version_that_does_not_start_leaves_the_old_one_served(
    site: ServingCluster, make_want: MakeWant
) -> None:
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    before = await until(site.serving, UID, ServiceState.LOADED)
    site.node.faults.quota = "exceeded quota"
    await site.serving.apply(replace(want, confidence="0.6", digest="next"))
    seen = await until(site.serving, UID, ServiceState.WAITING, seconds=60)
    assert (seen.digest, seen.replicas) == ("next", 0)
    assert seen.message == "no pod can be created: exceeded quota; the old version is still served"
    assert seen.grpc_url == before.grpc_url
    assert [pod for pod in await site.pods(UID) if pod_status.is_ready(pod)]
    # Going back needs no new pod.
    await site.serving.apply(want)
    assert (await until(site.serving, UID, ServiceState.LOADED)).digest == want.digest


async def test_a_deployment_without_its_service_is_put_right(site: ServingCluster, make_want: MakeWant) -> None:
    site.node.faults.frozen = True
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    (service,) = await site.all(SERVICES, UID)
    await site.cluster.delete(SERVICES, service)
    site.serving._accepted.clear()  # as a minute later, or after the operator starts
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert (seen.digest, seen.grpc_url) == ("", "")
    await site.serving.apply(want)
    seen = await site.serving.observe(UID)
    assert seen is not None
    assert seen.digest == want.digest
    assert seen.grpc_url == f"detector.{site.namespace}.svc:9000"


async def test_scaling_to_zero_needs_kserve(site: ServingCluster, make_want: MakeWant) -> None:
    want = site.in_namespace(make_want(uid=UID), scaling=Scaling(mode="Knative", minimum=0))
    with pytest.raises(RejectedError, match=r"spec\.scaling\.deploymentMode: Knative needs KServe"):
        await site.serving.apply(want)
    assert await site.serving.observe(UID) is None
