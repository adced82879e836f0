"""The pods of a run's steps in the API server: which run they belong to, and their progress. Pure; called by ``pelagos logs``.

A step's pod has our labels and annotations (``placement``). The server's own tasks have other names and do not name the pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pelagos.engines.kubeflow.placement import ATTEMPT_ANNOTATION, RUN_ANNOTATION, STEP

Pod = Mapping[str, Any]
SELECTOR: Mapping[str, str] = {"app.kubernetes.io/name": STEP}
CONTAINER = "main"
"""The container that runs the step, next to Argo's helpers and KFP's launcher."""


def of_run(pods: Iterable[Pod], run: str) -> list[Pod]:
    """The pods that belong to ``run``."""
    return [pod for pod in pods if _annotations(pod).get(RUN_ANNOTATION) == run]


def attempt(pod: Pod) -> int:
    """The attempt that the pod was created for; 1 when its annotation is missing or no number."""
    told = str(_annotations(pod).get(ATTEMPT_ANNOTATION, ""))
    return int(told) if told.isdecimal() and len(told) < 10 else 1


def has_begun(pod: Pod, container: str) -> bool:
    """Whether the container has, or had, a log."""
    state = _status(pod, container)
    return bool((state.get("state") or {}).keys() & {"running", "terminated"} or state.get("lastState"))


def has_ended(pod: Pod, container: str) -> bool:
    """Whether the container has terminated and is not being restarted."""
    return "terminated" in (_status(pod, container).get("state") or {})


def restarts(pod: Pod, container: str) -> int:
    """How often the container was restarted."""
    return int(_status(pod, container).get("restartCount") or 0)


def waits_for(pod: Pod) -> str:
    """Why no container has started, in the cluster's words."""
    status = pod.get("status") or {}
    for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for each in status.get("conditions") or ():
        if each.get("type") == "PodScheduled" and each.get("status") == "False":
            return f"{each.get('reason', '')}: {each.get('message', '')}".strip(": ")
    return f"its phase is {status.get('phase', 'Pending')}"


def _annotations(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}


def _status(pod: Pod, container: str) -> Mapping[str, Any]:
    status = pod.get("status") or {}
    every = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return next((each for each in every if each.get("name") == container), {})
