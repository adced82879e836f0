"""The official client works with the fake server for Kubeflow Pipelines, so our engine is not tested against an interface that
we made up; and the server runs a placed flow that the client read from a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.client import Client
from kfp_server_api import ApiException

from pelagos.engines.kubeflow import placement
from pelagos.engines.kubeflow.placement import Count, PodDefaults
from pelagos.ports.pipelines import RunName, RunRequest

TESTS = Path(__file__).parents[1]
ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", TESTS.parent / ".venvs"))
SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The fake server as a process in the control plane's environment; steps run in the environment of this test."""
    python, folder = ENVIRONMENTS / "dev" / "bin" / "python", tmp_path_factory.mktemp("server")
    command: list[str | Path] = [
        python,
        "-m",
        "kfp_fake_server",
        "--token",
        "opens",
        "processes",
        "--python",
        sys.executable,
        "--folder",
        folder,
    ]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(TESTS)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield url
        with urllib.request.urlopen(f"{url}/fake-server/violations") as answer:
            violations = json.load(answer)
        process.terminate()
    assert violations == []


@pytest.fixture(scope="module")
def client(server: str) -> Client:
    with pytest.warns(FutureWarning, match="only works with"):
        return Client(host=server, existing_token="opens")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow with a step that the test controls, placed as the control plane does it."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, TESTS / "controllable_flows.py", folder], check=True)
    request = RunRequest(RunName("prepare-1"), "dataset-preparation", {}, retry_key="asked")
    documents = list(yaml.safe_load_all((folder / "dataset-preparation.yaml").read_text()))
    placed = placement.place(documents, request, PodDefaults(image="example.org/t"), Count(1, 1))
    file = folder / "placed.yaml"
    file.write_text(yaml.safe_dump_all([placed["pipeline_spec"], placed["platform_spec"]]))
    return file


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def submit(client: Client, package: Path, folder: Path, name: str) -> str:
    run = client.create_run_from_pipeline_package(
        str(package),
        arguments={"folder": str(folder)},
        run_name=name,
        experiment_name="pelagos.test",
        enable_caching=False,
    )
    identifier: str = run.run_id
    return identifier


def test_a_run_is_created_followed_and_found(client: Client, package: Path, tmp_path: Path) -> None:
    identifier = submit(client, package, tmp_path, "prepare-1-a1")
    until((tmp_path / "begun").exists)
    assert client.get_run(identifier).state == "RUNNING"
    (tmp_path / "succeed").touch()

    run = client.wait_for_run_completion(identifier, timeout=SECONDS, sleep_duration=1)

    assert run.state == "SUCCEEDED"
    assert placement.read_count(run.pipeline_spec) == (Count(1, 1), "asked")
    # Each task is listed twice, as by the real server.
    alone = {task.display_name.removesuffix("(0)") for task in run.run_details.task_details}
    assert alone == {"root", "root-driver", "work", "work-driver", "executor"}
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["environment"]["ULTRALYTICS_SAFE_LOAD"] == "1"
    named = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": "prepare-1-a1"}]})
    assert [found.run_id for found in client.list_runs(filter=named).runs] == [identifier]


def test_of_a_step_that_fails_the_server_does_not_say_why(client: Client, package: Path, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("the nets were empty")
    identifier = submit(client, package, tmp_path, "prepare-2-a1")

    run = client.wait_for_run_completion(identifier, timeout=SECONDS, sleep_duration=1)

    assert run.state == "FAILED"
    assert "FAILED" in {task.state for task in run.run_details.task_details if task.display_name == "executor"}
    assert {task.error for task in run.run_details.task_details} == {None}
    assert run.error is None


def test_a_run_is_terminated_and_deleted(client: Client, package: Path, tmp_path: Path) -> None:
    identifier = submit(client, package, tmp_path, "prepare-3-a1")
    until((tmp_path / "begun").exists)

    client.terminate_run(identifier)
    until(lambda: client.get_run(identifier).state == "CANCELED")
    child = json.loads((tmp_path / "facts.json").read_text())["child"]
    until(lambda: not _is_alive(child))
    client.delete_run(identifier)

    with pytest.raises(ApiException, match="404"):
        client.get_run(identifier)


def test_lists_come_in_pages_of_an_experiment(client: Client, package: Path, tmp_path: Path) -> None:
    wanted = set()
    for number in range(4, 9):
        wanted.add(identifier := submit(client, package, tmp_path, f"prepare-{number}-a1"))
        client.terminate_run(identifier)  # the outcome of its step does not matter here
    experiment = client.get_experiment(experiment_name="pelagos.test").experiment_id

    found: list[Any] = []
    token = ""
    while True:
        page = client.list_runs(page_token=token, page_size=2, experiment_id=experiment, sort_by="created_at asc")
        assert len(page.runs) <= 2
        found += [run.run_id for run in page.runs]
        token = page.next_page_token
        if not token:
            break

    assert wanted <= set(found)
    assert len(found) == len(set(found))


def test_a_wrong_token_is_refused(server: str) -> None:
    with pytest.warns(FutureWarning, match="only works with"):
        stranger = Client(host=server, existing_token="wrong", namespace="reef")

    with pytest.raises(ApiException, match="401"):
        stranger.list_runs()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
