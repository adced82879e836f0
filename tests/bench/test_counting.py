"""Figures that are read from others: requests from the API server's metrics, processor time from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench import fleet, measuring, traffic

METRICS = """
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="pelagos.dev",resource="datasets",subresource="status",verb="PATCH"} 6
apiserver_request_total{code="409",group="pelagos.dev",resource="datasets",subresource="status",verb="PATCH"} 1
apiserver_request_total{code="201",group="",resource="events",subresource="",verb="POST"} 4
apiserver_request_total{code="200",group="pelagos.dev",resource="datasets",subresource="",verb="WATCH"} 9
apiserver_request_total{code="200",group="",resource="namespaces",subresource="",verb="GET"} 8
"""


def test_requests_are_counted_by_verb_without_watches_and_others_resources() -> None:
    assert traffic.count_requests(METRICS) == {("PATCH", "datasets", "status"): 7, ("POST", "events", ""): 4}


def test_the_time_of_children_counts(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(20_000_000))'], check=True)"
    used = measuring.run([sys.executable, "-c", code], tmp_path / "log")
    assert used.cpu > 0.1


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(measuring.MeasurementError, match="no such thing"):
        measuring.run([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "log")


def test_candidates_take_turns() -> None:
    order: list[str] = []

    def candidate(name: str) -> str:
        order.append(name)
        return name

    found = measuring.alternate({"a": lambda: candidate("a"), "b": lambda: candidate("b")}, 2, lambda _: None)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": ["a", "a"], "b": ["b", "b"]}


def test_this_process_is_the_root_of_its_tree() -> None:
    assert os.getpid() in measuring.tree(os.getpid())
    assert measuring.resident_bytes(os.getpid()) > 10**6
    assert measuring.cpu_seconds(os.getpid(), alone=True) > 0


def test_creations_by_users_are_no_writes_of_the_operator() -> None:
    made = traffic.count_requests(METRICS) + Counter({("POST", "datasets", ""): 3, ("GET", "datasets", ""): 5})
    assert fleet.writes(made) == {"PATCH datasets/status": 7, "POST events": 4}
    assert fleet.patches(fleet.writes(made)) == 7


def test_a_process_stays_on_its_cores_with_all_threads() -> None:
    code = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print('up', flush=True)"
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        measuring.pin(process.pid, {core})
        threads = [int(entry.name) for entry in Path(f"/proc/{process.pid}/task").iterdir()]
        assert len(threads) == 2
        assert [os.sched_getaffinity(thread) for thread in threads] == [{core}, {core}]
