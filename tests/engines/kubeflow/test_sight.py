"""Observing thousands of runs costs few requests of the API server, and little of the operator's memory."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

from kubeflow_worlds import Cluster
from pelagos.api import reasons
from pelagos.engines.kubeflow import obstacles
from pelagos.engines.kubeflow.queues import MOST_WORKLOADS
from pelagos.engines.kubeflow.sight import MOST_PODS, Sight
from pelagos.engines.kubeflow.trimming import MOST_NODES
from pelagos.ports.errors import UnboundError

SHORTEST = timedelta(seconds=5)


def held(run: str, name: str = "") -> dict[str, Any]:
    """A pod of a run that Kueue holds back, as large as those of real servers."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"{run}-pod",
            "namespace": "reef",
            "uid": f"uid-{name or run}",
            "labels": {"pipeline/runid": run, "kueue.x-k8s.io/queue-name": "gpus"},
            "annotations": {
                "pelagos.dev/run": run,
                "workflows.argoproj.io/node-name": "workflow.root.train.executor",
                "workflows.argoproj.io/template": "x" * 100_000,
            },
            "managedFields": [{"manager": "argo", "fieldsV1": {f"f:{number}": {} for number in range(1000)}}],
        },
        "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}], "volumes": [{"name": "v"}] * 1000},
        "status": {"phase": "Pending"},
    }


def workload(run: str) -> dict[str, Any]:
    return {
        "kind": "Workload",
        "metadata": {"name": run, "namespace": "reef", "ownerReferences": [{"uid": f"uid-{run}", "name": "p" * 1000}]},
        "spec": {"podSets": [{"template": "x" * 100_000}]},
        "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": f"{run} needs more"}]},
    }


def counted(cluster: Cluster) -> Counter[str]:
    """Counts lists of objects, by kind, from now on."""
    asked: Counter[str] = Counter()
    listed = cluster.shown.list

    async def list_(kind: Any, *arguments: Any, **named: Any) -> list[dict[str, Any]]:
        asked[kind.plural] += 1
        return await listed(kind, *arguments, **named)

    cluster.shown.list = list_  # type: ignore[method-assign]
    return asked


async def test_what_waits_in_a_namespace_is_read_once_for_all_of_its_runs(cluster: Cluster) -> None:
    runs = [f"run-{number}" for number in range(20)]
    cluster.shown.more = [*map(held, runs), *map(workload, runs), {"kind": "LocalQueue", "metadata": {"name": "gpus"}}]
    asked, sight = counted(cluster), Sight(cluster.shown, cluster.clock, SHORTEST)

    for run in runs:
        await sight.look(run, "reef", "RUNNING", ["train"], is_over=False)

    # Once for all runs as well: which pods of the queue hold them up.
    assert (asked["pods"], asked["workloads"]) == (len(runs) + 1, 1)
    for run in runs:
        seen = sight.seen(run)
        assert seen is not None
        waits = obstacles.of_waiting(seen, ["train"])
        assert waits is not None
        assert waits.message == f"step train waits in the queue gpus: {run} needs more"

    cluster.later(minutes=1)
    await sight.look("run-3", "reef", "RUNNING", ["train"], is_over=False)
    assert asked["workloads"] == 2


async def test_without_the_right_to_see_queues_what_waits_in_them_is_told(cluster: Cluster) -> None:
    cluster.shown.more = [held("run"), workload("run")]
    sight = Sight(cluster.shown, cluster.clock, SHORTEST)

    async def forbidden(*_: Any) -> None:
        raise UnboundError("kubernetes", "localqueues is forbidden")

    cluster.shown.get = forbidden  # type: ignore[assignment]
    await sight.look("run", "reef", "RUNNING", ["train"], is_over=False)

    seen = sight.seen("run")
    assert seen is not None
    waits = obstacles.of_waiting(seen, ["train"])
    assert waits is not None
    assert (waits.reason, waits.message) == (reasons.QUEUED, "step train waits in the queue gpus: run needs more")


async def test_little_is_remembered_of_a_run_however_much_is_there(cluster: Cluster) -> None:
    pods = [held("run", f"pod-{number}") for number in range(3 * MOST_PODS)]
    nodes = {
        f"n{number}": {"id": f"n{number}", "type": "Pod", "message": "x" * 5000} for number in range(3 * MOST_NODES)
    }
    metadata = {"name": "w", "namespace": "reef", "labels": {"pipeline/runid": "run"}}
    whole = {"kind": "Workflow", "metadata": metadata, "spec": "x" * 100_000, "status": {"nodes": nodes}}
    usual = [held("usual"), workload("usual")]
    cluster.shown.more = [*pods, *usual, *(workload(f"other-{number}") for number in range(100)), whole]
    sight = Sight(cluster.shown, cluster.clock, SHORTEST)

    await sight.look("run", "reef", "RUNNING", ["train"], is_over=False)
    await sight.look("usual", "reef", "RUNNING", ["train"], is_over=False)

    found, common = sight.seen("run"), sight.seen("usual")
    assert found is not None
    assert common is not None
    assert (len(found.pods), len(found.nodes)) == (MOST_PODS, MOST_NODES)
    assert len(json.dumps([found.pods, found.workflow, found.workloads])) < 300_000
    assert len(json.dumps([common.pods, common.workflow, common.workloads])) < 1000


async def test_where_not_all_is_shown_nothing_counts_as_lost_or_unsaid(cluster: Cluster) -> None:
    ended = [held("run", f"pod-{number}") | {"status": {"phase": "Succeeded"}} for number in range(MOST_PODS + 1)]
    waiting = {"kind": "LocalQueue", "metadata": {"name": "gpus"}}
    others = [workload(f"other-{number}") for number in range(MOST_WORKLOADS)]
    cluster.shown.more = [*ended, held("waits"), *others, workload("waits"), waiting]
    sight = Sight(cluster.shown, cluster.clock, SHORTEST)

    for minutes in (0, 2, 5, 9):
        cluster.later(minutes=minutes)
        await sight.look("run", "reef", "RUNNING", ["train"], is_over=False)
    await sight.look("waits", "reef", "RUNNING", ["train"], is_over=False)

    seen = sight.seen("waits")
    assert seen is not None
    waits = obstacles.of_waiting(seen, ["train"])
    assert waits is not None
    assert waits.message == "step train waits in the queue gpus: the cause cannot be seen"
    assert sight.lost("run") is None
