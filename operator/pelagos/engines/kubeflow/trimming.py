"""Reduces Kubernetes objects to the fields that judgements need. Pure; called by `sight`.

A pod or a Workflow takes 0.1 MB of memory or more, and the facts about thousands of runs are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pelagos.engines.kubeflow import facts
from pelagos.engines.kubeflow.facts import Body
from pelagos.engines.kubeflow.placement import PRIORITY_LABEL, QUEUE_LABEL, RUN_ANNOTATION

MOST_NODES = 200
_LONGEST_NAME = 253
_STATES = ("waiting", "running", "terminated")
_STATE = ("exitCode", "reason", "message", "startedAt", "finishedAt")
_CONDITION = ("type", "status", "reason", "message")


def pods(found: Iterable[Body]) -> tuple[Body, ...]:
    """Pods with only the fields that are used."""
    return tuple(map(_pod, found))


def workflow(found: Body) -> Body:
    """A Workflow's nodes that are pods, at most MOST_NODES, and its overall phase and message."""
    status = facts.status(found)
    nodes = facts.mapping(status.get("nodes")).items()
    fields = ("id", "name", "type", "phase")
    of_pods = [(key, facts.mapping(node)) for key, node in nodes if facts.mapping(node).get("type") == facts.POD_NODE]
    kept = {
        key: _of(node, fields) | {"message": facts.words(node.get("message"))} for key, node in of_pods[:MOST_NODES]
    }
    told = _of(status, ("phase", "finishedAt")) | {"message": facts.words(status.get("message"))}
    return {"status": told | {"nodes": kept}}


def workload(found: Body) -> Body:
    """A Kueue Workload's name, owners, and the conditions that say what it waits for."""
    owners = facts.listed(facts.mapping(found.get("metadata")).get("ownerReferences"))
    metadata = _of(facts.mapping(found.get("metadata")), ("name", "creationTimestamp"))
    told = facts.listed(facts.status(found).get("conditions"))
    kept = [each for each in told if each.get("type") in {"QuotaReserved", "Admitted"}]
    return {
        "metadata": metadata | {"ownerReferences": [_of(each, ("uid",)) for each in owners]},
        "status": {"conditions": [_of(each, (*_CONDITION, "lastTransitionTime")) for each in kept]},
    }


def stopped(pod: Body, said: str) -> Body:
    """The last known state of a deleted pod, with Kueue's message about ending it as a condition."""
    told = {"type": facts.STOPPED, "status": "True", "message": said}
    return {**pod, "status": {**facts.status(pod), "conditions": [told]}}


def event(found: Body) -> Body:
    """An event's message, reason and times, and the name of the object that it is about."""
    kept = _of(found, ("type", "reason", "lastTimestamp", "eventTime"))
    about = _of(facts.mapping(found.get("involvedObject")), ("name",))
    return kept | {"involvedObject": about, "message": facts.words(found.get("message"))}


def _pod(found: Body) -> Body:
    metadata, spec, status = (facts.mapping(found.get(part)) for part in ("metadata", "spec", "status"))
    notes = _of(facts.notes(found), (RUN_ANNOTATION, facts.NODE_ID, facts.NODE_NAME))
    named = facts.step_of(found)[:_LONGEST_NAME]
    told = {"conditions": _conditions(found, "PodScheduled", "DisruptionTarget", facts.STOPPED)}
    told["containerStatuses"] = [_container(each) for each in facts.listed(status.get("containerStatuses"))]
    before = [_container(each) for each in facts.listed(status.get("initContainerStatuses"))]
    told["initContainerStatuses"] = [each for each in before if not _has_succeeded(each)]
    return {
        "metadata": _of(metadata, ("name", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"))
        | {"labels": _of(facts.labels(found), (QUEUE_LABEL, PRIORITY_LABEL)), "annotations": notes},
        "spec": _of(spec, ("nodeName", "schedulingGates"))
        | ({"containers": [{"args": [facts.FUNCTION, named]}]} if named else {}),
        "status": _of(status, ("phase", "reason", "message")) | told,
    }


def _container(found: Body) -> Body:
    states = facts.mapping(found.get("state"))
    state = {kind: _of(facts.mapping(states[kind]), _STATE) for kind in _STATES if kind in states}
    # The image is only mentioned when it cannot be pulled.
    return _of(found, ("name", "image") if "waiting" in state else ("name",)) | {"state": state}


def _has_succeeded(container: Body) -> bool:
    return facts.mapping(container["state"].get("terminated")).get("exitCode") == 0


def _conditions(found: Body, *kinds: str) -> list[Body]:
    told = facts.listed(facts.status(found).get("conditions"))
    return [_of(each, _CONDITION) for each in told if each.get("type") in kinds]


def _of(found: Body, fields: Iterable[str]) -> dict[str, Any]:
    return {field: found[field] for field in fields if field in found}
