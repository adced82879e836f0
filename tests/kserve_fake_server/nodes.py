"""Runs Deployments of a real API server without nodes: acts as Deployment controller, scheduler and kubelet.

Pods are real objects of the API server. A pod's containers are processes of this machine, started with the container's own
command and environment. Ports are fixed, so each pod gets its own loopback address. Rolling updates follow
``maxUnavailable`` and ``maxSurge``; a container that ends is restarted with growing pauses. ``Faults`` are failures of clusters.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from kserve_fake_server.processes import Containers, Running
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.model_server.object_kinds import DEPLOYMENTS
from pelagos.ports.errors import OutageError, RejectedError

PODS = Collection("v1", "Pod", "pods")
SECRETS = Collection("v1", "Secret", "secrets")
HASH = "pod-template-hash"
NODE = "fake-server"
TICK = 0.15
_numbers = itertools.count(1)


@dataclass
class Faults:
    """Failures of a cluster, as its error messages; empty: none. ``unplaceable`` stops the scheduler, and so on."""

    unplaceable: str = ""
    without_image: str = ""
    quota: str = ""
    frozen: bool = False


@dataclass
class Node:
    """``claims`` are the folders behind PersistentVolumeClaims by name; pods write below ``folder``."""

    rest: KubernetesRest
    claims: Mapping[str, Path]
    environments: Path
    folder: Path
    faults: Faults = field(default_factory=Faults)
    running: dict[str, Running] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cluster = KubernetesObjects(self.rest)
        self.containers = Containers(self.claims, self.environments, self.folder)

    async def run(self) -> None:
        """Work until canceled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
            while True:
                # The API server may be away, and another client may have changed the same object.
                with contextlib.suppress(OutageError, RejectedError):
                    await self.tick(session)
                await asyncio.sleep(TICK)

    async def stop(self) -> None:
        """End all processes."""
        ended = await asyncio.gather(*(running.end() for running in self.running.values()), return_exceptions=True)
        self.running.clear()
        for error in (each for each in ended if isinstance(each, BaseException)):
            raise error

    def kill(self, pod: str) -> None:
        """Kill the process of a pod, as the kernel would."""
        self.running[pod].kill()

    async def tick(self, session: aiohttp.ClientSession) -> None:
        """Advance everything by one step."""
        if self.faults.frozen:
            return
        pods = await self.cluster.list(PODS)
        deployments = await self.cluster.list(DEPLOYMENTS)
        for deployment in deployments:
            await self._roll(deployment, [pod for pod in pods if _owner(pod) == deployment["metadata"]["uid"]])
        known = {deployment["metadata"]["uid"] for deployment in deployments}
        # Pods without an owner belong to other tests, which act for a node themselves.
        for pod in (pod for pod in pods if _owner(pod)):
            if _owner(pod) not in known:
                await self.cluster.delete(PODS, pod)
            await self._sync(pod, session)

    async def _roll(self, deployment: Body, pods: Sequence[Body]) -> None:
        """Do one step of a rolling update, and report it."""
        spec = deployment["spec"]
        wanted, template = spec.get("replicas", 1), _hash(spec["template"])
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and _phase(pod) != "Failed"]
        new = [pod for pod in alive if pod["metadata"]["labels"].get(HASH) == template]
        old = [pod for pod in alive if pod not in new]
        failure = ""
        order = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        surge, unavailable = int(order.get("maxSurge", 1)), int(order.get("maxUnavailable", 0))
        if len(new) < wanted and len(alive) < wanted + surge:
            failure = await self._create(deployment, template)
        ready = sum(_is_ready(pod) for pod in alive)
        # Pods that are not ready go first: they answer nobody. One pod at most in each step, while enough stay available.
        for pod in [*(pod for pod in old if not _is_ready(pod)), *(pod for pod in old if _is_ready(pod))]:
            if not _is_ready(pod) or ready > wanted - unavailable or wanted == 0:
                ready -= _is_ready(pod)
                await self.cluster.delete(PODS, pod)
                break
        for pod in new[wanted:]:
            await self.cluster.delete(PODS, pod)
        await self._report(deployment, new, alive, failure)

    async def _create(self, deployment: Body, template: str) -> str:
        """Create a pod; returns the cluster's message when its quota forbids one."""
        if self.faults.quota:
            return self.faults.quota
        metadata, spec = deployment["metadata"], deployment["spec"]["template"]["spec"]
        labels = deployment["spec"]["template"]["metadata"].get("labels", {}) | {HASH: template}
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name'][:40]}-{template}-{next(_numbers)}",
                "namespace": metadata["namespace"],
                "labels": labels,
                "annotations": deployment["spec"]["template"]["metadata"].get("annotations", {}),
                "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": False}],
            },
            "spec": spec if self.faults.unplaceable else spec | {"nodeName": NODE},
        }
        answer = await self.rest.ask("POST", PODS.path(metadata["namespace"]), body)
        return "" if answer.status < 400 else answer.message

    async def _report(self, deployment: Body, new: Sequence[Body], alive: Sequence[Body], failure: str) -> None:
        wanted = deployment["spec"].get("replicas", 1)
        available = sum(_is_ready(pod) for pod in alive)
        complete = len(new) == len(alive) == wanted == available
        conditions = [
            _condition("Available", available >= wanted, "MinimumReplicasAvailable", f"{available} of {wanted}"),
            _condition("Progressing", True, "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated", ""),
        ]
        if failure:
            conditions.append(_condition("ReplicaFailure", True, "FailedCreate", failure))
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(alive),
            "updatedReplicas": len(new),
            "readyReplicas": available,
            "availableReplicas": available,
            "conditions": conditions,
        }
        await self._patch_status(DEPLOYMENTS, deployment, status)

    async def _sync(self, pod: Body, session: aiohttp.ClientSession) -> None:
        """Act as the kubelet for one pod."""
        name = pod["metadata"]["name"]
        running = self.running.get(name)
        if "deletionTimestamp" in pod["metadata"]:
            # As with a kubelet, the object is deleted only after its processes have ended.
            if running is not None:
                await running.end()
                del self.running[name]
            await self.rest.ask("DELETE", PODS.path(pod["metadata"]["namespace"], name), {"gracePeriodSeconds": 0})
            return
        if _phase(pod) == "Failed":
            return
        trouble = self._trouble(pod)
        if trouble is not None:
            await self._patch_status(PODS, pod, trouble)
            return
        if running is None:
            # Not in a thread: a canceled one would start a process that nobody keeps track of.
            running = self.running[name] = self.containers.start(pod, await self._secrets(pod))
        running.step()
        status = running.status(ready=await _answers(running, pod, session))
        await self._patch_status(PODS, pod, status)

    def _trouble(self, pod: Body) -> dict[str, Any] | None:
        """The status of a pod that cannot start; None if it can."""
        if "nodeName" not in pod["spec"]:
            if not self.faults.unplaceable:
                return None
            scheduled = _condition("PodScheduled", False, "Unschedulable", self.faults.unplaceable)
            return {"phase": "Pending", "conditions": [scheduled]}
        if self.faults.without_image and pod["metadata"]["name"] not in self.running:
            waiting = {"waiting": {"reason": "ImagePullBackOff", "message": self.faults.without_image}}
            first = (pod["spec"].get("initContainers") or pod["spec"]["containers"])[0]
            state = {"name": first["name"], "image": first["image"], "imageID": "", "ready": False, "restartCount": 0}
            kind = "initContainerStatuses" if pod["spec"].get("initContainers") else "containerStatuses"
            return {"phase": "Pending", kind: [state | {"state": waiting}]}
        return None

    async def _secrets(self, pod: Body) -> dict[str, dict[str, str]]:
        """The content of the Secrets that the pod's containers take environment variables from."""
        spec = pod["spec"]
        containers = [*spec.get("initContainers", ()), *spec["containers"]]
        names = {source["secretRef"]["name"] for each in containers for source in each.get("envFrom", ())}
        values = [value.get("valueFrom", {}) for each in containers for value in each.get("env", ())]
        names |= {value["secretKeyRef"]["name"] for value in values if "secretKeyRef" in value}
        found = {}
        for name in names:
            secret = await self.cluster.get(SECRETS, pod["metadata"]["namespace"], name)
            data = (secret or {}).get("data") or {}
            found[name] = {key: base64.b64decode(value).decode() for key, value in data.items()}
        return found

    async def _patch_status(self, kind: Collection, body: Body, status: Mapping[str, Any]) -> None:
        """Write the status if it differs."""
        before = body.get("status") or {}
        merged = dict(before) | dict(status)
        if _plain(merged) != _plain(before):
            name = f"{body['metadata']['name']}/status"
            await self.cluster.patch(kind, body["metadata"]["namespace"], name, {"status": status})


async def _answers(running: Running, pod: Body, session: aiohttp.ClientSession) -> bool:
    """Run the readiness probe of the pod's spec; whether it succeeds."""
    probe = pod["spec"]["containers"][0].get("readinessProbe", {}).get("httpGet")
    if not running.is_alive or probe is None:
        return running.is_alive
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with session.get(f"http://{running.address}:{probe['port']}{probe['path']}") as answer:
            return answer.status == 200
    return False


def _condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}


def _plain(status: Mapping[str, Any]) -> str:
    """The status without the times that a server adds, as text for comparison."""
    conditions = [
        {key: each.get(key) for key in ("type", "status", "reason", "message")} for each in status.get("conditions", ())
    ]
    return json.dumps(dict(status) | {"conditions": conditions}, sort_keys=True, default=str)


def _is_ready(pod: Body) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _phase(pod: Body) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _owner(pod: Body) -> str:
    owners = pod["metadata"].get("ownerReferences") or ()
    return str(next((owner["uid"] for owner in owners if owner["kind"] == "Deployment"), ""))


def _hash(template: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
