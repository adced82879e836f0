"""The status of a model server's pods: which are ready, how often they died, and what is wrong in the cluster's words. Pure.

Called by deployment and kserve with pods as the API server shows them. The chain of checks reads as the specification.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pelagos.engines.model_server import marks, storage_initializer
from pelagos.ports.serving import ServiceState

Pod = Mapping[str, Any]
PATIENCE = timedelta(seconds=30)
"""A pod that takes longer than this to be created waits for something: its image, a volume, a node."""
LOADING_PATIENCE = timedelta(seconds=100)
"""How long a server may load before that is reported. Large models take longer, and a restart would not make them faster."""
_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_CANNOT_BEGIN = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_REFUSED_BY_SERVER = re.compile(
    r"failed to load '[^']*' version \d+: (?:Internal: |Invalid argument: )?(.*?)(?:\\n|\"?$)", re.M
)
_NO_GPU = "CudaDriverHelper"
"""Part of the one error line that Triton logs on every machine without a GPU; it is ignored."""
_SIGNALS = {137: "killed (signal 9)", 139: "crashed (signal 11)", 143: "ended (signal 15)"}


@dataclass(frozen=True)
class Problem:
    """A problem of a pod, and the endpoint state that it means."""

    state: ServiceState
    message: str


def name(pod: Pod) -> str:
    """The pod's name."""
    return str(pod["metadata"]["name"])


def is_ending(pod: Pod) -> bool:
    """Whether the pod is being deleted, or has ended."""
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def is_ready(pod: Pod) -> bool:
    """Whether the pod serves, according to the cluster."""
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not is_ending(pod)


def of_digest(pods: Iterable[Pod], digest: str) -> list[Pod]:
    """The pods that were created for this digest."""
    return [pod for pod in pods if marks.annotation(pod, marks.DIGEST_ANNOTATION) == digest]


def address(pod: Pod) -> str:
    """The pod's IP address; "" until it has one."""
    return str(pod.get("status", {}).get("podIP", ""))


def deaths(pods: Iterable[Pod]) -> int:
    """How often containers were restarted, in the pods that still exist."""
    counts = (int(each.get("restartCount", 0)) for pod in pods for each in _containers(pod))
    return sum(counts)


def created(pod: Pod) -> datetime | None:
    """When the pod was created, by the cluster's clock."""
    told = pod["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(told) if told else None


def problem(pods: Sequence[Pod], now: Callable[[Pod], datetime]) -> Problem | None:
    """The problem of the newest pod that has one; ended pods count only when there are no others.

    ``now`` gives the time for a pod by the cluster's clock, which also set the pod's times.
    """
    alive = [pod for pod in pods if not is_ending(pod)]
    newest_first = sorted(alive, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True)
    for pod in newest_first:
        for check in CHECKS:
            found = check(pod, now(pod))
            if found is not None:
                return found
    failed = [pod for pod in pods if pod.get("status", {}).get("phase") == "Failed"]
    if alive or not failed:
        return None
    status = failed[-1]["status"]
    words = status.get("message") or status.get("reason") or "its node gave no reason"
    return Problem(ServiceState.DEAD, f"pod {name(failed[-1])} was ended by its node: {words}")


def unplaceable(pod: Pod, now: datetime) -> Problem | None:
    """No node fits: because of resources, selector, taints, or a missing volume."""
    del now
    for each in pod.get("status", {}).get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return Problem(
                ServiceState.WAITING, f"no node for pod {name(pod)}: {each.get('message', each.get('reason', ''))}"
            )
    return None


def is_unplaceable(pods: Iterable[Pod]) -> bool:
    """Whether no node fits one of the pods that should start."""
    conditions = (each for pod in pods if not is_ending(pod) for each in pod.get("status", {}).get("conditions") or ())
    return any(each["type"] == "PodScheduled" and each["status"] == "False" for each in conditions)


def lack_room(pods: Iterable[Pod], message: str) -> bool:
    """Whether pods wait for room, or a quota prevents more (``message``). Only then does ending an old pod first help."""
    return is_unplaceable(pods) or "exceeded quota" in message


def without_image(pod: Pod, now: datetime) -> Problem | None:
    """The image cannot be pulled."""
    del now
    for each in _all_containers(pod):
        waiting = _waiting(each)
        if waiting.get("reason") in _IMAGE:
            message = f"pod {name(pod)} has no image {each.get('image', '')}: {_words(waiting)}"
            return Problem(ServiceState.WAITING, message)
    return None


def misconfigured(pod: Pod, now: datetime) -> Problem | None:
    """The container cannot be created: a Secret or one of its keys is missing, or the node refuses."""
    del now
    for each in _all_containers(pod):
        waiting = _waiting(each)
        if waiting.get("reason") in _CANNOT_BEGIN:
            return Problem(ServiceState.WAITING, f"pod {name(pod)} cannot start its container: {_words(waiting)}")
    return None


def ended(pod: Pod, now: datetime) -> Problem | None:
    """The server, or the container that fetches its package, ended. The cluster restarts it, with growing pauses."""
    del now
    for each in _all_containers(pod):
        state = each.get("state") or {}
        crashed = _waiting(each).get("reason") == "CrashLoopBackOff"
        last = state.get("terminated") or ((each.get("lastState") or {}).get("terminated") if crashed else None)
        if last is None:
            continue
        if each not in _init_containers(pod):
            return _end(pod, last)
        if last.get("exitCode") != 0:
            return _end(pod, last) if is_refusal(last) else _unfetched(pod, each, last)
    return None


def starting_again(pod: Pod, now: datetime) -> Problem | None:
    """The server was restarted after it refused its model, and will refuse it again."""
    del now
    for each in _containers(pod):
        last = (each.get("lastState") or {}).get("terminated")
        if last is not None and not each.get("ready") and is_refusal(last):
            return _end(pod, last)
    return None


def slow(pod: Pod, now: datetime) -> Problem | None:
    """The node takes long to create the containers: it pulls the image, or waits for a volume."""
    made = created(pod)
    if made is None or now - made < PATIENCE:
        return None
    # A container that ran once has its image and volumes. It is being recreated, and the kubelet adds pauses by itself.
    has_run = any(
        int(each.get("restartCount", 0)) or "running" in (each.get("state") or {}) for each in _all_containers(pod)
    )
    for each in _all_containers(pod):
        if _waiting(each).get("reason") in ("ContainerCreating", "PodInitializing") and not has_run:
            node, since = pod.get("spec", {}).get("nodeName", "?"), pod["metadata"]["creationTimestamp"]
            message = f"pod {name(pod)} on node {node} has been waiting to start since {since}:  "
            return Problem(
                ServiceState.WAITING,
                f"{message}its image is being fetched, or a volume is missing (kubectl describe pod)",
            )
    return None


def long_unready(pod: Pod, now: datetime) -> Problem | None:
    """A container has run for long without serving. Its probes end it if that lasts; nothing else should."""
    for each in _all_containers(pod):
        since = ((each.get("state") or {}).get("running") or {}).get("startedAt")
        if since and not is_ready(pod) and now - datetime.fromisoformat(since) > LOADING_PATIENCE:
            doing = "fetching the package" if each in _init_containers(pod) else "loading the model, or not answering,"
            message = f"pod {name(pod)} has been {doing} since {since}; the cluster restarts it if that lasts"
            return Problem(ServiceState.WAITING, message)
    return None


Check = Callable[[Pod, datetime], Problem | None]
CHECKS: tuple[Check, ...] = (unplaceable, without_image, misconfigured, ended, starting_again, slow, long_unready)


def why(terminated: Mapping[str, Any]) -> str:
    """Why a container ended, from its termination message, reason and exit code."""
    message = str(terminated.get("message", "")).strip()
    refused = _REFUSED_BY_SERVER.findall(message)
    if refused:
        return str(refused[-1])
    if terminated.get("reason") == "OOMKilled":
        return "out of memory; raise spec.resources.memory"
    code = int(terminated.get("exitCode", 0))
    if code in _SIGNALS:
        # The log lines before a signal are unrelated to it.
        return _SIGNALS[code]
    lines = [line for line in message.splitlines() if line.strip() and _NO_GPU not in line]
    return lines[-1].removeprefix("pelagos: ")[:500] if lines else f"exit code {code}"


def _unfetched(pod: Pod, container: Mapping[str, Any], terminated: Mapping[str, Any]) -> Problem:
    """The container that fetches the package failed. This does not count as a server's death, since none has started."""
    title = str(container.get("name", ""))
    advice = storage_initializer.advice(pod, terminated) if title == storage_initializer.NAME else ""
    own = storage_initializer.cause(str(terminated.get("message", "")))
    words = advice if terminated.get("reason") == "OOMKilled" and advice else why({**terminated, "message": own})
    said = f"init container {title} of pod {name(pod)} ended: {words}"
    return Problem(ServiceState.FETCH_FAILED, f"{said}. {advice}" if advice and advice != words else said)


def _end(pod: Pod, terminated: Mapping[str, Any]) -> Problem:
    state = ServiceState.LOAD_FAILED if is_refusal(terminated) else ServiceState.DEAD
    words = why(terminated)
    return Problem(state, words if state is ServiceState.LOAD_FAILED else f"pod {name(pod)} ended: {words}")


def is_refusal(terminated: Mapping[str, Any]) -> bool:
    """Whether a person must correct something: the package, or a graph that the server does not accept."""
    is_refused = _REFUSED_BY_SERVER.search(str(terminated.get("message", ""))) is not None
    return is_refused or terminated.get("exitCode") == os.EX_DATAERR


def _waiting(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return (status.get("state") or {}).get("waiting") or {}


def _words(waiting: Mapping[str, Any]) -> str:
    return str(waiting.get("message") or waiting.get("reason"))


def _containers(pod: Pod) -> list[Mapping[str, Any]]:
    return list(pod.get("status", {}).get("containerStatuses") or ())


def _init_containers(pod: Pod) -> list[Mapping[str, Any]]:
    return list(pod.get("status", {}).get("initContainerStatuses") or ())


def _all_containers(pod: Pod) -> list[Mapping[str, Any]]:
    return [*_init_containers(pod), *_containers(pod)]
