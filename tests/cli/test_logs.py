"""``pelagos logs``: output of steps and model servers, of the right attempt, safe to print; or why there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.logs.lines import LONGEST
from pelagos.cli.main import app
from pelagos.engines.kubeflow import kept_logs
from pelagos.engines.kubeflow.kept_logs import Ended, Kept
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.records import Server, State
from resource_servers import BREAK, ApiServer, api, kubeconfig
from untrusted_text import HOSTILE, is_fit

__all__ = ["api"]

UID = "3c9a8f4e-0000-4000-8000-000000000001"
RUN = f"trainingrun-{UID}-0123456789ab"
LOG = f"""--- {RUN}, attempt 1, 2026-01-01T00:00:00.000+00:00
--- step train 2026-01-01T00:00:01.000+00:00
early
--- Failed 2026-01-01T00:00:02.000+00:00 it was
--- {RUN}, attempt 2, 2026-01-01T00:00:03.000+00:00
--- step train-evaluate 2026-01-01T00:00:04.000+00:00
one
two
--- step export 2026-01-01T00:00:05.000+00:00
three
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["logs", *map(str, arguments)])


def failure(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return result.stderr.partition("Error: ")[2].strip()


def resource(api: ApiServer, kind: str = "TrainingRun", name: str = "cod", **status: Any) -> dict[str, Any]:
    stated = {"pipelineRun": {"id": RUN, "url": "x"}} | status
    body = api.add(name, stated if kind != "ModelService" else status, kind=kind)
    body["metadata"]["uid"] = UID
    return body


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    """The same server, but not that of an embedded installation."""
    kubeconfig(tmp_path / "cluster", api.url)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "cluster"))
    return api


def written(home: Path, text: str = LOG) -> Path:
    path = home / "runs" / RUN / "log.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def pod(name: str, step: str, attempt: int = 1, state: str = "terminated", **more: Any) -> dict[str, Any]:
    """A pod as Argo creates it: the step's command follows the arguments of Argo's and KFP's programs."""
    command = ["/var/run/argo/argoexec", "emissary", "--", "/kfp-launcher/launch"]
    arguments = ["--pipeline_name", "training", "--", "python", "--function_to_execute", step]
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "creationTimestamp": f"2026-01-01T00:00:{len(name):02}Z",
            "labels": {"pelagos.dev/uid": UID, "app.kubernetes.io/name": "pelagos-pipeline-step"},
            "annotations": {"pelagos.dev/run": RUN, "pelagos.dev/attempt": str(attempt)},
        },
        "spec": {"containers": [{"name": "wait"}, {"name": "main", "command": command, "args": arguments}]},
        "status": {"containerStatuses": [{"name": "main", "restartCount": 0, "state": {state: {}}}]} | more,
    }


def server_pod(name: str, restarts: int = 0, state: str = "running", **more: Any) -> dict[str, Any]:
    labels = {"pelagos.dev/uid": UID, "app.kubernetes.io/name": "pelagos-model-server"}
    states = [{"name": "server", "restartCount": restarts, "state": {state: {}}, "lastState": {}}]
    return {
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": name, "labels": labels},
        "spec": {"containers": [{"name": "gateway"}, {"name": "server"}]},
        "status": {"containerStatuses": states} | more,
    }


def meanwhile(act: Callable[[], None], seconds: float = 1.0) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_a_run_of_this_machine_is_printed_step_by_step_from_its_latest_attempt(api: ApiServer, tmp_path: Path) -> None:
    resource(api)
    path = written(tmp_path)

    done = run("cod")

    assert done.exit_code == 0, done.output
    assert done.stdout == LOG[LOG.index(f"--- {RUN}, attempt 2") :]
    headings = [line for line in done.stderr.splitlines() if line.endswith(f"({path})")]
    assert [heading.rpartition(" (")[0] for heading in headings] == [
        "--- attempt 2",
        "--- step train-evaluate, attempt 2",
        "--- step export, attempt 2",
    ]


def test_one_step_and_its_end_can_be_chosen_and_the_attempt_before(api: ApiServer, tmp_path: Path) -> None:
    resource(api)
    written(tmp_path)

    assert run("cod", "--step", "train", "--tail", 1).stdout == "two\n"
    assert run("cod", "--step", "train", "--previous").stdout.splitlines()[1:] == ["early", LOG.splitlines()[3]]
    assert run("cod", "--step", "train-evaluate", "--tail", 1).stdout == "two\n"
    assert failure(run("cod", "--step", "prepare")).endswith(
        "no lines of a step prepare; it has train-evaluate, export"
    )


READY = {"type": "Ready", "status": "True", "reason": "Completed", "message": "the result is complete"}


@pytest.mark.parametrize(("state", "conditions"), [("Succeeded", []), ("Failed", [READY]), ("Interrupted", [READY])])
def test_a_log_of_this_machine_is_followed_until_its_run_ends(
    api: ApiServer, tmp_path: Path, state: str, conditions: list[dict[str, str]]
) -> None:
    body = resource(api)
    path = written(tmp_path)

    def go_on() -> None:
        with path.open("a") as file:
            file.write("four\n--- step publish 2026-01-01T00:00:06.000+00:00\nfive\n")
        body["status"]["pipelineRun"]["state"] = state
        body["status"]["conditions"] = conditions

    timer = meanwhile(go_on)
    done = run("cod", "--follow", "--step", "publish")
    timer.join()

    assert (done.exit_code, done.stdout.splitlines()[1:]) == (0, ["five"]), done.output


def test_a_failed_run_that_is_tried_again_is_followed_into_its_next_attempt(api: ApiServer, tmp_path: Path) -> None:
    body = resource(api, pipelineRun={"id": RUN, "url": "x", "state": "Failed"})
    path = written(tmp_path)

    def give_up() -> None:
        with path.open("a") as file:
            file.write(f"--- {RUN}, attempt 3, 2026-01-01T00:00:07.000+00:00\nlast\n")
        body["status"]["conditions"] = [
            {"type": "Stalled", "status": "True", "reason": "PipelineFailed", "message": "."}
        ]

    timer = meanwhile(give_up, 3.0)
    done = run("cod", "--follow", "--tail", 0)
    timer.join()

    assert done.stdout.splitlines()[1:] == ["last"], done.output


def test_a_model_server_of_this_machine_shows_the_log_of_its_newest_process(api: ApiServer, tmp_path: Path) -> None:
    resource(api, "ModelService")
    assert failure(run("cod")) == "it has no model server on this machine"
    folder = tmp_path / "services" / UID
    (folder / "2").mkdir(parents=True)
    (folder / "2" / "triton.log").write_text("now\n")
    (folder / "2" / "triton.log.1").write_text("before\n")
    records.write(folder, State(Server(2, "m", "d", 1, datetime.now(UTC), None)))

    assert run("cod").stdout == "now\n"
    assert run("cod", "--previous").stdout == "before\n"
    assert run("cod", "--follow").stdout == "now\n"  # It has no process that could write more.
    assert "has no steps" in failure(run("cod", "--step", "train"))


def test_pods_of_a_run_are_printed_in_their_order_from_the_latest_attempt(cluster: ApiServer) -> None:
    resource(cluster)
    cluster.pods = [pod("run-export", "export", 2), pod("run-old", "train", 1), pod("run-train", "train_evaluate", 2)]
    cluster.pods.append(pod("other-run", "train", 9))
    cluster.pods[-1]["metadata"]["annotations"]["pelagos.dev/run"] = "another"
    cluster.logs = {(f"run-{name}", "main", False): [f"{name}\n".encode()] for name in ("old", "train", "export")}

    done = run("cod")

    assert (done.exit_code, done.stdout) == (0, "train\nexport\n"), done.output
    assert "step train-evaluate, attempt 2 (pod run-train)" in done.stderr
    assert run("cod", "--step", "export", "--tail", "1").stdout == "export\n"
    assert run("cod", "--previous").stdout == "old\n"
    assert failure(run("cod", "-s", "sort")).endswith("has no pod of a step sort; it has train-evaluate, export")


def test_pods_in_the_namespace_of_all_pipelines_are_found_there(
    cluster: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource(cluster)
    cluster.pods = [pod("run-train", "train")]
    cluster.pods[0]["metadata"]["namespace"] = "kubeflow"
    cluster.logs = {("run-train", "main", False): [b"x\n"]}
    monkeypatch.setenv("PELAGOS_KUBEFLOW_NAMESPACE", "kubeflow")

    assert run("cod").stdout == "x\n"
    assert [path.split("/")[4] for path in cluster.asked if "/pods" in path] == ["kubeflow", "kubeflow"]


def test_pods_are_followed_one_after_the_other_until_the_run_ends(cluster: ApiServer) -> None:
    body = resource(cluster)
    waiting = pod("run-train", "train", state="waiting")
    waiting["status"] = {
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}]
    }
    cluster.pods = [waiting]
    first: list[bytes | None] = [b"one\ntw"]
    cluster.logs = {("run-train", "main", False): first, ("run-evaluate", "main", False): [b"three\n", None]}

    def begin() -> None:
        cluster.pods = [pod("run-train", "train", state="running")]

    def go_on() -> None:
        first.extend((b"o\n", None))
        cluster.pods = [pod("run-train", "train"), pod("run-evaluate", "evaluate")]
        body["status"]["pipelineRun"]["state"] = "Succeeded"

    timers = meanwhile(begin, 1.0), meanwhile(go_on, 3.0)
    done = run("cod", "--follow")
    for timer in timers:
        timer.join()

    assert (done.exit_code, done.stdout) == (0, "one\ntwo\nthree\n"), done.output
    assert "(pod run-train) has not started: Unschedulable: no cpu" in done.stderr


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        (
            {"name": "runs", "position": 3, "since": "2026-01-01T12:00:00Z", "reason": "no quota\x1b[31m"},
            "waits in the queue runs at place 3 since 2026-01-01T12:00:00Z: no quota",
        ),
        ({"name": "runs"}, "waits in the queue runs\n"),
        ({"name": "runs", "admittedAt": "2026-01-01T12:00:00Z"}, None),
    ],
)
def test_of_a_run_that_waits_in_a_queue_its_place_is_said(
    cluster: ApiServer, queue: dict[str, Any], words: str | None
) -> None:
    resource(cluster)["status"]["queue"] = queue
    cluster.pods = [pod("run-train", "train", state="waiting")]

    done = run("cod")

    assert ("in the queue" in done.stderr) is (words is not None)
    assert words is None or words in done.stderr
    assert "\x1b" not in done.stderr


def test_a_log_that_breaks_off_is_followed_further_while_its_run_goes_on(cluster: ApiServer) -> None:
    body = resource(cluster)
    cluster.pods = [pod("run-train", "train", state="running")]
    pieces: list[bytes | None] = [b"one\n", BREAK]
    cluster.logs = {("run-train", "main", False): pieces}

    def go_on() -> None:
        pieces.extend((b"two\n", None))
        body["status"]["pipelineRun"]["state"] = "Succeeded"

    timer = meanwhile(go_on, 3.0)
    done = run("cod", "--follow")
    timer.join()

    assert (done.exit_code, done.stdout) == (0, "one\ntwo\n"), done.output
    assert "the log broke off" in done.stderr
    assert "some may be missing" in done.stderr


def test_lines_of_several_model_servers_say_their_pod(cluster: ApiServer) -> None:
    resource(cluster, "ModelService")
    failing = server_pod("b", state="waiting")
    failing["status"]["initContainerStatuses"] = [
        {
            "name": "fetch",
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {}},
        }
    ]
    cluster.pods = [server_pod("a", restarts=1), failing]
    cluster.logs = {
        ("a", "server", False): [b"now\n"],
        ("a", "server", True): [b"before\n"],
        ("b", "fetch", False): [b"no credentials\n"],
    }

    assert run("cod").stdout == "[a] now\n[b] no credentials\n"
    cluster.pods.pop()
    assert run("cod", "--previous").stdout == "before\n"
    cluster.logs.pop(("a", "server", True))
    assert failure(run("cod", "--previous")).endswith('previous terminated container "server" in pod "a" not found')


def test_model_servers_are_followed_together_until_the_service_is_gone(cluster: ApiServer) -> None:
    body = resource(cluster, "ModelService")
    cluster.pods = [server_pod("a"), server_pod("b")]
    cluster.logs = {("a", "server", False): [b"from a\n"], ("b", "server", False): [b"from b\n", None]}

    def stop() -> None:
        cluster.logs["a", "server", False].extend((b"last\n", None))
        body["spec"]["suspend"] = True

    timer = meanwhile(stop, 1.5)
    done = run("cod", "--follow")
    timer.join()

    assert done.exit_code == 0, done.output
    assert sorted(done.stdout.splitlines()) == ["[a] from a", "[a] last", "[b] from b"]


@pytest.mark.parametrize("where", ["machine", "cluster"])
def test_what_a_step_prints_takes_no_effect_and_no_room(
    where: str, api: ApiServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    resource(api)
    text = f"\x1b[31m{HOSTILE}\n{'x' * (LONGEST + 5)}\n\xff\n"
    if where == "cluster":
        request.getfixturevalue("cluster")
        api.pods = [pod("run-train", "train")]
        api.logs = {("run-train", "main", False): [text.encode("latin-1", "replace")]}
    else:
        written(tmp_path, f"--- {RUN}, attempt 1, t\n{text}")

    done = run("cod")

    assert done.exit_code == 0, done.output
    assert is_fit(done.stdout)
    assert "evil" in done.stdout or "?evil" in done.stdout
    assert f"{'x' * LONGEST} … (5 more bytes)\n" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < LONGEST + 50


def test_of_pods_that_are_gone_the_lines_are_shown_that_the_operator_kept(cluster: ApiServer) -> None:
    resource(cluster)
    ended = Ended(RUN, 2, "id", None, "default", UID, "default", "trainingrun/default/cod")
    kept = Kept("train-evaluate", f"one\n{HOSTILE}\ntwo", "run-train", "u", 1, "Error", "2026-01-01T00:00:00Z")
    cluster.config_maps = {kept_logs.name_of(UID): kept_logs.render(ended, [kept])}

    alone = run("cod", "--step", "train", "--tail", 1)
    cluster.pods = [pod("run-export", "export", 2), pod("run-early", "train", 1)]
    cluster.logs = {("run-export", "main", False): [b"three\n"], ("run-early", "main", False): [b"zero\n"]}
    beside = run("cod")

    assert (alone.exit_code, alone.stdout) == (0, "two\n"), alone.output
    assert (
        "its pod run-train no longer exists (Error, exit code 1); these are the last lines that the operator kept"
        in alone.stderr
    )
    assert is_fit(beside.stdout)
    assert (beside.stdout.splitlines()[0], beside.stdout.splitlines()[-1]) == ("one", "three")
    assert run("cod", "--previous").stdout == "zero\n"
    # Of another run, or altered by somebody: nothing.
    cluster.pods = []
    for altered in ("{", "[" * 100_000, "[]", "{}"):
        cluster.config_maps[kept_logs.name_of(UID)]["data"]["train-evaluate.json"] = altered
        assert "the operator has kept no lines of them" in failure(run("cod"))
    cluster.config_maps[kept_logs.name_of(UID)] = kept_logs.render(replace(ended, run="another"), [kept])
    assert "the operator has kept no lines of them" in failure(run("cod"))
    cluster.refused = {"/configmaps/": (403, 'configmaps is forbidden: User "u" cannot get resource "configmaps"')}
    assert failure(run("cod")).startswith(f"you may not read the ConfigMap pelagos-log-{UID}")


def test_what_cannot_be_read_is_one_line(cluster: ApiServer) -> None:
    assert failure(run("cod")).startswith(
        "there is nothing of ours named default/cod (Dataset, TrainingRun, ModelService)"
    )
    assert failure(run("cod", "--kind", "dataset")) == "Dataset default/cod not found; there is none in this namespace"
    resource(
        cluster,
        pipelineRun=None,
        conditions=[{"type": "Ready", "reason": "DatasetNotReady", "message": "waits for cod"}],
    )
    assert failure(run("cod")) == "TrainingRun default/cod has no pipeline run yet: DatasetNotReady: waits for cod"
    resource(cluster, name="ling")
    assert "has no pod of the pipeline run" in failure(run("ling"))
    cluster.pods = [pod("run-train", "train", state="waiting", phase="Pending")]
    assert failure(run("ling")).endswith("so there is no log yet")
    resource(cluster, "Dataset", "ling")
    assert failure(run("ling")).endswith("add --kind dataset or --kind trainingrun")
    cluster.refused = {"/pods": (403, 'pods is forbidden: User "u" cannot list resource "pods"')}
    assert "you may not read pods in the namespace default: pods is forbidden" in failure(
        run("ling", "-k", "trainingrun")
    )
    assert failure(run("ling", "-f", "-p")).startswith("a log that has ended cannot be followed")
