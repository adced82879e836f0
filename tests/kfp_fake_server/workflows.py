"""A run as Argo has it: the Workflow that a real server creates for it, and the names of its pods. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from kfp_fake_server import steps

if TYPE_CHECKING:
    from kfp_fake_server.store import Run, Task

Struct = dict[str, Any]

RUN_LABEL = "pipeline/runid"
NODE_ID = "workflows.argoproj.io/node-id"
NODE_NAME = "workflows.argoproj.io/node-name"
WORKFLOW = "workflows.argoproj.io/workflow"
_PHASES = {
    "PENDING": "Pending",
    "RUNNING": "Running",
    "CANCELING": "Running",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "CANCELED": "Failed",
}
_TERMINATED = "workflow shutdown with strategy:  Terminate"


def name(run: Run) -> str:
    """The name of the run's Workflow."""
    return f"{steps.flow_name(run.struct)[:40]}-{run.identifier[:5]}"


def node(run: Run, path: str) -> str:
    """The id of a node: the Workflow's name and a hash of the path, in digits."""
    return f"{run.workflow}-{zlib.crc32(path.encode())}"


def pod_name(run: Run, task: Task) -> str:
    """The name of the pod of a step or of its driver."""
    what = {"root-driver": "system-dag-driver", "executor": "metadata-0-system-container-impl"}
    return f"{run.workflow}-{what.get(task.name, 'system-container-driver')}-{task.node.rpartition('-')[2]}"


def render(run: Run) -> Struct:
    """The Workflow. Messages about a pod are in the pod's own node; the nodes around it say only that a child failed."""
    nodes = {task.node: _node(task) for task in run.tasks}
    ended = run.state in {"FAILED", "SUCCEEDED", "CANCELED"}
    status: Struct = {"phase": _PHASES[run.state], "startedAt": run.created_at, "nodes": nodes}
    said = run.message or (_TERMINATED if run.state == "CANCELED" else "")
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "name": run.workflow,
            "labels": {
                RUN_LABEL: run.identifier,
                "workflows.argoproj.io/phase": status["phase"],
                "workflows.argoproj.io/completed": str(ended).lower(),
            },
        },
        "spec": {"entrypoint": "entrypoint", "serviceAccountName": run.service_account},
        "status": status | ({"message": said} if said else {}) | ({"finishedAt": run.finished_at} if ended else {}),
    }


def _node(task: Task) -> Struct:
    phase = task.phase if task.pod else _PHASES[task.state]
    if task.pod and task.state == "CANCELED":
        phase = "Failed"
    told = {
        "id": task.node,
        "name": task.path,
        "displayName": task.name,
        "type": "Pod" if task.pod else "DAG",
        "phase": phase,
        "startedAt": task.created_at,
        "children": list(task.children),
    }
    return told | ({"message": task.message} if task.message else {})
