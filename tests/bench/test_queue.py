"""Figures of a queue of trainings: which GPU was free while others waited, and when a status was true."""

from __future__ import annotations

import time
from typing import Any

import pytest
from bench.queueing import GPU, Pod, Seen, Size

from bench import queueing


def test_a_gpu_is_free_from_the_end_of_a_pod_to_the_next_on_its_node() -> None:
    pods = [
        Pod("a", created=1, node="one", bound=1, running=2, ended=10),
        Pod("b", created=2, node="one", bound=10.5, running=11, ended=20),
        Pod("c", created=1, node="two", bound=1, running=2, ended=12),
        Pod("d", created=2, node="two", bound=15, running=15, ended=30),
    ]
    assert queueing.gaps(pods) == [0.5, 3]


def test_a_gpu_for_which_nobody_waits_is_not_counted() -> None:
    late = Pod("b", created=11, node="one", bound=12, running=12, ended=20)
    assert queueing.gaps([Pod("a", created=1, node="one", bound=1, running=2, ended=10), late]) == []
    assert queueing.gaps([]) == []


def test_the_least_time_is_that_of_gpus_that_are_never_idle() -> None:
    assert Size(nodes=50, trainings=1000, seconds=15).least == 300


def test_times_count_of_what_has_both() -> None:
    assert queueing.after({"a": 1, "b": 2, "c": 3}, {"a": 4, "c": 3.5}) == [3, 0.5]


def pod(name: str, phase: str, node: str = "", limits: dict[str, str] | None = None) -> dict[str, Any]:
    container = {"resources": {"limits": {GPU: "1"} if limits is None else limits}}
    spec = {"containers": [container], **({"nodeName": node} if node else {})}
    return {"metadata": {"name": name, "labels": {"pelagos.dev/uid": "u"}}, "spec": spec, "status": {"phase": phase}}


def test_pods_without_a_gpu_are_not_looked_at() -> None:
    seen = Seen()
    seen.take_pod(pod("with", "Pending"))
    seen.take_pod(pod("with", "Running", "one"))
    seen.take_pod(pod("with", "Succeeded", "one"))
    seen.take_pod(pod("without", "Running", "one", {"cpu": "1"}))

    (found,) = seen.pods.values()
    assert (found.owner, found.node) == ("u", "one")
    assert 0 < found.bound <= found.running <= found.ended


def training(status: str, reason: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": status, "reason": reason}]
    return {"metadata": {"name": "t", "uid": "u"}, "status": {"conditions": conditions, "pipelineRun": {"id": "r"}}}


def test_what_is_said_before_it_is_known_that_a_pod_waits_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, times = Seen(), iter(range(1, 10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(times)))
    for reason in ("Running", "Unschedulable", "Running", "Running"):
        seen.take_training(training("Unknown", reason))
    seen.take_training(training("True", "Completed"))

    assert seen.running == {"t": 3}
    assert seen.ready == {"t": 5}
    assert seen.owners == {"u": "t"}
