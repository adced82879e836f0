"""Engines that serve on a cluster, against a real API server; nodes and KServe are fake servers that run real Triton servers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane import ControlPlane, start_control_plane
from kserve_fake_server import published
from kserve_fake_server.controller import Controller
from kserve_fake_server.nodes import PODS, Node
from model_packages import ENVIRONMENTS
from pelagos.api import meta
from pelagos.engines.deployment.engine import TritonDeployment
from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.kserve.engine import Kserve
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import Answer, KubernetesRest
from pelagos.engines.model_server.engine import ClusterServing
from pelagos.engines.model_server.options import Options
from pelagos.ports.errors import OutageError
from pelagos.ports.objects import Objects
from pelagos.ports.placement import Placement, Toleration
from pelagos.ports.serving import DesiredService, ObservedService, Scaling, ServiceState, Serving
from pelagos.ports.tenants import Tenant

CLAIM = "objects"
RUNTIME = Path(__file__).parents[1] / "manifests/kserve/clusterservingruntime.yaml"
RUNTIMES = "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes"
STORAGE_CONTAINER = RUNTIME.with_name("clusterstoragecontainer.yaml")
STORAGE_CONTAINERS = "/apis/serving.kserve.io/v1alpha1/clusterstoragecontainers"
_numbers = itertools.count(1)


@dataclass
class ServingCluster:
    """``root`` is the object store's folder and the content of the claim ``objects``; each test has its own ``namespace``."""

    plane: ControlPlane
    root: Path
    namespace: str
    rest: KubernetesRest
    cluster: KubernetesObjects
    node: Node
    kserve: Controller | None
    serving: ClusterServing

    async def pods(self, uid: str) -> list[Body]:
        """All pods of a service that are not being deleted."""
        found = await self.cluster.list(PODS, self.namespace, {meta.UID_LABEL: uid})
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def all(self, kind: Collection, uid: str) -> list[Body]:
        """All objects of a kind that carry the uid."""
        return await self.cluster.list(kind, self.namespace, {meta.UID_LABEL: uid})

    def in_namespace(self, want: DesiredService, **changes: Any) -> DesiredService:
        """The desired state, in this test's namespace."""
        return replace(want, namespace=self.namespace, **changes)


def options(root: Path, **changes: Any) -> Options:
    """Options of an installation whose objects are on the claim ``objects``."""
    fields: dict[str, Any] = {
        "image": "pelagos/serving:test",
        "objects_root": str(root),
        "objects_claim": CLAIM,
        "reach": "pod",
    }
    return Options(**(fields | changes))


class PatientRest(KubernetesRest):
    """Waits longer: on a busy machine an API server may be slower than an operator waits, which would then try again."""

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
        timeout: float = 60,
    ) -> Answer:
        """Send a request, with a timeout of at least 60 seconds."""
        return await super().ask(method, path, body, content=content, timeout=max(60.0, timeout))


@contextlib.asynccontextmanager
async def serving_cluster(
    plane: ControlPlane,
    engine: str,
    root: Path,
    folder: Path,
    given: Options | None = None,
    objects: Objects | None = None,
) -> AsyncIterator[ServingCluster]:
    """A namespace with fake servers for what the API server lacks, and the engine ``kserve`` or ``deployment``.

    The objects are those of the folder ``root``, unless ``objects`` are given with the options for them.
    """
    namespace = f"serving-{next(_numbers)}"
    plane.create_namespace(namespace)
    rest = PatientRest(plane.url, tls=plane.tls(), token=plane.token)
    cluster = KubernetesObjects(rest)
    node = Node(rest, {CLAIM: root}, ENVIRONMENTS, folder / "node")
    controller = (
        Controller(rest, validate=published.validator("V1beta1InferenceService")) if engine == "kserve" else None
    )
    kind = Kserve if engine == "kserve" else TritonDeployment
    serving = kind(cluster, objects or FolderObjects(root), given or options(root), lambda _uid: namespace)
    tasks = [asyncio.create_task(part.run()) for part in (node, controller) if part is not None]
    try:
        yield ServingCluster(plane, root, namespace, rest, cluster, node, controller, serving)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await node.stop()
        for each in (namespace, "default"):
            await clear(rest, each)
        await serving.close()
        await cluster.close()
    errors = controller.errors if controller is not None else []
    assert errors == [], errors
    failed = [task.exception() for task in tasks if not task.cancelled()]
    assert failed == [], failed


async def clear(rest: KubernetesRest, namespace: str) -> None:
    """Delete all objects that the fake servers of the next test would find."""
    for path in (
        "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices",
        "/apis/apps/v1/namespaces/{}/deployments",
        "/api/v1/namespaces/{}/pods",
    ):
        await rest.ask("DELETE", path.format(namespace), {"gracePeriodSeconds": 0})


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server with KServe's kinds, for the engines that serve on a cluster."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    install_kserve(running)
    yield running
    running.stop()


def install_kserve(plane: ControlPlane) -> None:
    """Create the kinds of KServe, our runtime, and the rights of its storage initializer."""
    plane.apply_crds([published.KINDS])
    plane.request("POST", RUNTIMES, yaml.safe_load(RUNTIME.read_text(encoding="utf-8")))
    plane.request("POST", STORAGE_CONTAINERS, yaml.safe_load(STORAGE_CONTAINER.read_text(encoding="utf-8")))


def everything(want: DesiredService, mode: str) -> DesiredService:
    """The desired state with every field that can be set in a mode of KServe."""
    placement = Placement(
        memory="8Gi", gpus=2, gpu_product="NVIDIA-L4", shared_memory="1Gi", node_selector={"zone": "a"},
        tolerations=(Toleration("a", "Exists", "", "NoExecute"),),
    )  # fmt: skip
    tenant = Tenant(service_account="lab", image_pull_secrets=("registry",), objects_secret="s3")
    knative = Scaling(mode="Knative", minimum=0, maximum=9, concurrency=4)
    return replace(
        want,
        package_uri="s3://bucket/p/1",
        placement=placement,
        tenant=tenant,
        scaling=knative if mode == "Knative" else Scaling(minimum=2, maximum=9),
        name="x" * 200,
    )


async def until(serving: Serving, uid: str, *states: ServiceState, seconds: float = 120) -> ObservedService:
    """Wait until the endpoint is in one of ``states``; returns what is observed."""
    seen = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while seen is None or seen.state not in states:
                await asyncio.sleep(0.1)
                # On a busy machine the API server may be late once.
                with contextlib.suppress(OutageError):
                    seen = await serving.observe(uid)
    assert seen is not None
    assert seen.state in states, seen
    return seen
