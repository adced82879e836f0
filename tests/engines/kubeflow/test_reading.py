"""A server's report of a run becomes a truthful state and a helpful message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pelagos.api import reasons
from pelagos.engines.kubeflow import reading
from pelagos.engines.kubeflow.reading import Judgement
from pelagos.ports.pipelines import PipelineRun, RunState

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SPEC: dict[str, Any] = {"root": {"dag": {"tasks": {"train": {}, "evaluate": {}, "export": {}}}}}


def time(minutes_ago: float) -> str:
    return (NOW - timedelta(minutes=minutes_ago)).isoformat().replace("+00:00", "Z")


def task(name: str, state: str, message: str = "", **fields: Any) -> dict[str, Any]:
    error = {"error": {"code": 13, "message": message}} if message else {}
    return {"display_name": name, "state": state, "task_id": f"id-{name}", "start_time": time(50)} | error | fields


def executor(state: str, message: str = "", **fields: Any) -> list[dict[str, Any]]:
    """The tasks of the step train as real servers list them: driver, group, and pod."""
    group = task("train", state, "child 'pod-1' failed" if message else "", child_tasks=[{"pod_name": "pod-1"}])
    root = task("root", state, "child 'x' failed" if message else "")
    return [
        root,
        task("train-driver", "SUCCEEDED"),
        group,
        task("executor", state, message, pod_name="pod-1", **fields),
    ]


def make_run(state: str, tasks: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "run_id": "r1",
        "display_name": "training-1-a2",
        "state": state,
        "created_at": time(60),
        "finished_at": "1970-01-01T00:00:00Z",
        "pipeline_spec": {"pipeline_spec": SPEC, "platform_spec": _platform({})},
        "run_details": {"task_details": tasks or []},
    } | fields


def _platform(config: dict[str, Any]) -> dict[str, Any]:
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-train": config}}}}}


def with_platform(config: dict[str, Any]) -> dict[str, Any]:
    return {"pipeline_spec": SPEC, "platform_spec": _platform(config)}


def read(run: dict[str, Any], *, canceled: bool = False) -> PipelineRun:
    return reading.read(run, Judgement(NOW, "https://kfp.example.org", canceled))


@pytest.mark.parametrize(
    ("told", "want"),
    [
        ("RUNTIME_STATE_UNSPECIFIED", RunState.PENDING),
        ("PENDING", RunState.PENDING),
        ("PAUSED", RunState.PENDING),
        ("RUNNING", RunState.RUNNING),
        ("CANCELING", RunState.RUNNING),
        ("SUCCEEDED", RunState.SUCCEEDED),
        ("SKIPPED", RunState.SUCCEEDED),
        ("FAILED", RunState.FAILED),
        ("CANCELED", RunState.CANCELED),
        ("A_STATE_OF_TOMORROW", RunState.RUNNING),
    ],
)
def test_every_state_of_the_server_has_one_of_ours(told: str, want: RunState) -> None:
    run = read(make_run(told))

    assert run.state is want
    assert (run.finished_at is None) == (want in {RunState.PENDING, RunState.RUNNING})
    assert (run.name, run.attempt, run.url) == ("training-1", 2, "https://kfp.example.org/#/runs/details/r1")


def test_a_state_that_is_not_known_is_reported() -> None:
    assert "'A_STATE_OF_TOMORROW'" in read(make_run("A_STATE_OF_TOMORROW")).message
    assert read(make_run("")).state is RunState.PENDING


def test_the_error_is_that_of_the_pod_and_names_its_step() -> None:
    run = read(make_run("FAILED", executor("FAILED", "Error (exit code 1): ValueError: the nets were empty")))

    assert run.message == "step train failed: Error (exit code 1): ValueError: the nets were empty"


def test_of_a_long_error_the_beginning_and_the_end_are_reported() -> None:
    words = "Error (exit code 1): Traceback\n" + "  File x.py\n" * 1000 + "ValueError: the nets were empty\n"
    message = read(make_run("FAILED", executor("FAILED", words))).message

    assert message.startswith("step train failed: Error (exit code 1): Traceback")
    assert message.endswith("ValueError: the nets were empty")
    assert len(message) < 1100


def test_of_several_errors_the_first_counts() -> None:
    late = task("export", "FAILED", "Error (exit code 1): late", end_time=time(1))
    early = task("evaluate", "FAILED", "Error (exit code 1): early", end_time=time(2))

    assert read(make_run("FAILED", [late, early])).message == "step evaluate failed: Error (exit code 1): early"


@pytest.mark.parametrize(
    "words",
    [
        "Evicted: The node was low on resource: memory.",
        "pod deleted",
        "Preempted: preempted to admit a critical pod",
        "NodeLost: Node gpu-3 which was running pod train is unresponsive",
        "Terminated: Pod was terminated in response to imminent node shutdown.",
        "NodeShutdown",
        "Error (exit code 137)",
        "main: Error (exit code 143)",
    ],
)
def test_a_pod_that_was_ended_from_outside_is_an_interruption(words: str) -> None:
    run = read(make_run("FAILED", executor("FAILED", words)))

    assert run.state is RunState.INTERRUPTED
    assert run.message.startswith(f"the pod of step train ended without an outcome: {words}")
    assert ("spec.resources.memory" in run.message) == ("137" in words)


def test_too_little_memory_is_a_failure_that_names_the_field() -> None:
    run = read(make_run("FAILED", executor("FAILED", "OOMKilled (exit code 137)")))

    assert run.state is RunState.FAILED
    assert "ran out of memory" in run.message
    assert "spec.resources.memory" in run.message


def test_the_time_limit_is_a_failure() -> None:
    words = "DeadlineExceeded: Pod was active on the node longer than the specified deadline"

    assert read(make_run("FAILED", executor("FAILED", words))).state is RunState.FAILED


def test_an_error_of_the_run_is_told_when_no_step_has_one() -> None:
    history = [{"update_time": time(3), "state": "FAILED", "error": {"code": 13, "message": "invalid spec: no image"}}]

    assert read(make_run("FAILED", state_history=history)).message == "invalid spec: no image"
    assert "does not say why" in read(make_run("FAILED")).message


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ({}, "step train waits; the pipeline server does not give the cause"),
        (
            {"kueue.x-k8s.io/queue-name": "reef"},
            "step train waits in the queue reef; the pipeline server does not give the cause",
        ),
    ],
)
def test_where_nothing_is_known_of_a_step_that_waits_that_is_said(labels: dict[str, str], want: str) -> None:
    tasks = executor("PENDING")
    run = read(make_run("RUNNING", tasks, pipeline_spec=with_platform({"podMetadata": {"labels": labels}})))

    assert (run.state, run.message, run.reason) == (RunState.PENDING, want, reasons.QUEUED)


def test_a_run_with_a_step_at_work_is_running_though_another_waits() -> None:
    tasks = [task("train", "RUNNING"), task("evaluate", "PENDING")]

    assert read(make_run("RUNNING", tasks)).state is RunState.RUNNING


def test_a_run_of_which_nothing_new_is_told_is_interrupted_after_its_time_limit_and_a_grace() -> None:
    spec = with_platform({"activeDeadlineSeconds": "1800"})
    shortly, long = timedelta(minutes=44), timedelta(minutes=46)

    for passed, want in ((shortly, RunState.RUNNING), (long, RunState.INTERRUPTED)):
        begun = (NOW - passed).isoformat()
        tasks = [task("train", "RUNNING", start_time=begun)]
        run = read(make_run("RUNNING", tasks, pipeline_spec=spec, created_at=begun))
        assert run.state is want, passed

    assert "nothing new" in run.message
    assert run.finished_at == NOW - long


def test_a_run_without_time_limit_is_given_a_day() -> None:
    day = timedelta(days=1)
    for passed, want in ((day, RunState.RUNNING), (day + timedelta(seconds=1), RunState.INTERRUPTED)):
        run = make_run("RUNNING", [task("train", "RUNNING", start_time=None)], created_at=(NOW - passed).isoformat())
        assert read(run).state is want


def test_a_run_that_waits_for_capacity_is_never_silent() -> None:
    run = make_run(
        "RUNNING", [task("train", "PENDING", start_time=None)], created_at=(NOW - timedelta(days=9)).isoformat()
    )

    assert read(run).state is RunState.PENDING


def test_a_run_that_we_ended_is_canceled_whatever_the_server_calls_it() -> None:
    history = [{"update_time": time(3), "state": "CANCELING"}, {"update_time": time(2), "state": "FAILED"}]

    assert read(make_run("FAILED"), canceled=True).state is RunState.CANCELED
    assert read(make_run("FAILED", state_history=history)).state is RunState.CANCELED
    assert read(make_run("CANCELING"), canceled=True).state is RunState.CANCELED
    assert read(make_run("SUCCEEDED"), canceled=True).state is RunState.SUCCEEDED


def test_a_run_begins_when_its_first_pod_does_and_ends_not_before() -> None:
    run = read(make_run("SUCCEEDED", executor("SUCCEEDED"), finished_at=time(5)))
    odd = read(make_run("FAILED", executor("FAILED", "no", start_time=time(4)), finished_at=time(5)))

    assert run.started_at == NOW - timedelta(minutes=50)
    assert run.finished_at == NOW - timedelta(minutes=5)
    assert odd.started_at == odd.finished_at == NOW - timedelta(minutes=5)


def test_what_is_missing_or_malformed_is_no_reason_to_fail() -> None:
    run = read({"display_name": "not ours", "run_id": "r1", "created_at": "yesterday", "state": "RUNNING"})

    assert (run.name, run.attempt, run.started_at) == ("not ours", 1, None)


def test_groups_that_contain_each_other_do_not_hang_the_operator() -> None:
    first = task("a", "FAILED", "boom", child_tasks=[{"task_id": "id-b"}])
    second = task("b", "RUNNING", child_tasks=[{"task_id": "id-a"}])

    assert "boom" in read(make_run("FAILED", [first, second])).message


def test_only_names_with_an_attempt_are_ours() -> None:
    assert reading.identity({"display_name": "training-1-a12"}) == ("training-1", 12)
    assert reading.identity({"display_name": "training-1-a0"}) is None
    assert reading.identity({"display_name": "training-1"}) is None
    assert reading.identity({}) is None
    assert reading.display_name("training-1", 12) == "training-1-a12"
