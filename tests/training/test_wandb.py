"""Weights & Biases, for those who request it: the real client, with a fake server and without a server."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pelagos_contract import remote_sources, source_hosts
from pelagos_contract.weights_and_biases import API_KEY, WandbRequest
from pelagos_pipelines.fetching import pinning
from pelagos_pipelines.fetching.policy import Policy
from pelagos_pipelines.training import wandb_run
from pelagos_pipelines.training.training_history import Epoch
from pelagos_pipelines.training.wandb_run import WandbRun
from wandb_server import KEY, Wandb, reached
from web_servers import Fault, Server, serving

ID = "0123456789abcdef0123456789abcdef"
EPOCHS = [Epoch(number, 1_700_000_000.0 + number, {"train/loss": 1 / number}, 2.0, 8) for number in (1, 2, 3)]
SUMMARY = {"test/mAP50": 0.5, "test/mAP50/a:2Fb": 0.25}


class Kept:
    """Replaces the tracker and records which files went to which folder."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def file(self, path: Path, folder: str) -> None:
        self.files[f"{folder}/{path.name}"] = path


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wandb, Server]]:
    """A fake server that the platform allows, with a key for this step."""
    wandb = Wandb()
    with serving(wandb.handle) as server:
        wandb.url = server.url
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(remote_sources.SECRET_CONTENT, json.dumps({API_KEY: KEY}))
        yield wandb, server


def make(folder: Path, url: str = "") -> WandbRun:
    asked = WandbRequest(project="plankton", entity="lab", name="detector", url=url)
    return WandbRun(asked, folder / "wandb", ID, {"epochs": "3", "dataset": "shapes"})


def figure(folder: Path) -> Path:
    path = folder / "confusion-matrix.png"
    path.write_bytes(b"\x89PNG")
    return path


def test_offline_the_run_directory_is_kept_and_syncs_later_as_it_is(
    tmp_path: Path, service: tuple[Wandb, Server]
) -> None:
    wandb, server = service
    kept = Kept()

    assert make(tmp_path).finish(kept, EPOCHS, SUMMARY, [figure(tmp_path)]) == []  # type: ignore[arg-type]
    folder = f"wandb/offline-run-20231114_221321-{ID}"
    assert {f"{folder}/run-{ID}.wandb", f"{folder}/files/figures/confusion-matrix.png"} <= kept.files.keys()
    assert server.seen == [], "nobody was asked"

    sync(tmp_path / folder, server.url)

    assert [row["train/loss"] for row in wandb.runs[ID]["history"]] == [1, 0.5, 1 / 3]
    assert [row["_timestamp"] for row in wandb.runs[ID]["history"]] == [row.at for row in EPOCHS]
    assert wandb.runs[ID]["summary"].items() >= SUMMARY.items()
    assert wandb.files["figures/confusion-matrix.png"] == b"\x89PNG"


def sync(folder: Path, url: str) -> None:
    """Synchronise the directory as the documentation says."""
    program = Path(sys.prefix).parent / "wandb" / "bin" / "wandb"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
    done = subprocess.run(
        [program, "sync", str(folder)], cwd=folder, env=environment, capture_output=True, timeout=100, check=False
    )
    assert b"Finished syncing" in done.stderr, done.stderr.decode()


def test_online_all_is_told_each_time_and_stands_there_once(tmp_path: Path, service: tuple[Wandb, Server]) -> None:
    wandb, server = service
    training = make(tmp_path, server.url)

    assert training.finish(Kept(), EPOCHS[:2]) == []  # type: ignore[arg-type]
    assert make(tmp_path, server.url).finish(Kept(), EPOCHS, SUMMARY, [figure(tmp_path)]) == []  # type: ignore[arg-type]

    (run,) = wandb.runs.values()
    assert (run["project"], run["entity"], run["name"], run["host"]) == ("plankton", "lab", "detector", "pelagos")
    assert [row["epoch"] for row in run["history"]] == [1, 2, 3]
    assert run["config"]["dataset"]["value"] == "shapes"
    assert run["summary"]["test/mAP50"] == 0.5
    assert run["complete"]
    assert reached(server) == {"/graphql", "/files"}, "no telemetry"
    assert wandb.files == {}, "files would go to addresses that the server names"


def test_the_client_gets_to_the_addresses_that_were_judged_whatever_the_name_leads_to_later(
    tmp_path: Path, service: tuple[Wandb, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else resolves this name: only the policy's resolver knows it."""
    wandb, server = service
    port = server.url.rpartition(":")[2]
    url = f"http://wandb.lab.invalid:{port}"
    monkeypatch.setenv(source_hosts.VARIABLE, url)
    judge = Policy(url, resolver=lambda *_: [ipaddress.ip_address("127.0.0.1")])
    monkeypatch.setattr(Policy, "read", lambda: judge)

    assert make(tmp_path, url).finish(Kept(), EPOCHS, SUMMARY) == []  # type: ignore[arg-type]
    assert [row["epoch"] for row in wandb.runs[ID]["history"]] == [1, 2, 3]

    target = judge.target(url, "url")
    with pinning.leading_to(target, judge.addresses(target, "url")) as proxy:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
        seen = len(server.seen)
        for other in (
            f"http://other.invalid:{port}/",
            f"http://wandb.lab.invalid/{port}",
            f"https://127.0.0.1:{port}/",
        ):
            with pytest.raises(OSError, match="403"):
                opener.open(other, timeout=20)
        assert len(server.seen) == seen


def test_a_server_that_is_away_ends_nothing_and_is_told_all_when_it_is_back(
    tmp_path: Path, service: tuple[Wandb, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb, server = service
    monkeypatch.setattr(wandb_run, "PATIENCE", 1.0)
    server.fail(Fault("answer", 503))
    kept = Kept()

    (missed,) = make(tmp_path, server.url).finish(kept, EPOCHS[:2])  # type: ignore[arg-type]

    assert missed.startswith("Weights & Biases was not told of this training: ")
    assert "HTTP Error 503" in missed
    assert "its run directory is in wandb of its MLflow run" in missed
    assert any(name.endswith(f"run-{ID}.wandb") for name in kept.files)

    server.heal()
    assert make(tmp_path, server.url).finish(Kept(), EPOCHS) == []  # type: ignore[arg-type]
    assert len(wandb.runs[ID]["history"]) == 3


def test_a_server_that_keeps_the_client_waiting_is_left(
    tmp_path: Path, service: tuple[Wandb, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = service
    monkeypatch.setattr(wandb_run, "SECONDS", 4.0)
    server.fail(Fault("slow", seconds=6))

    (missed,) = make(tmp_path, server.url).finish(Kept(), EPOCHS)  # type: ignore[arg-type]

    assert f"{server.url} took longer than 4 s" in missed
    assert not left_alive(tmp_path), "the client ended with it"


def left_alive(folder: Path) -> list[str]:
    """Command lines of this test's processes that are still alive after at most a minute."""
    deadline = time.monotonic() + 60
    found = ["?"]
    while found and time.monotonic() < deadline:
        lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
        found = [line for line in lines if str(folder) in line]
        time.sleep(0.1)
    return found


def test_a_wrong_key_is_said_and_shown_nowhere(
    tmp_path: Path,
    service: tuple[Wandb, Server],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = "f" * 40
    monkeypatch.setenv(remote_sources.SECRET_CONTENT, json.dumps({API_KEY: wrong}))
    kept = Kept()

    (missed,) = make(tmp_path, service[1].url).finish(kept, EPOCHS)  # type: ignore[arg-type]

    assert "was not told of this training" in missed
    assert wrong not in missed + caplog.text
    assert not [path for path in kept.files.values() if wrong.encode() in path.read_bytes()]


def test_the_key_is_not_shown_as_it_is_sent_either(tmp_path: Path) -> None:
    """A server or a proxy may repeat the request in its error."""
    login = base64.b64encode(f"api:{KEY}".encode()).decode()
    echo = [sys.executable, "-c", f"raise SystemExit('400: Authorization: Basic {login}, {KEY}')"]

    words = make(tmp_path, "https://wandb.example")._run(echo, {}, KEY)

    assert words == "https://wandb.example: 400: Authorization: Basic ***, ***"


def test_a_server_that_takes_no_rows_is_not_taken_for_one_that_does(
    tmp_path: Path, service: tuple[Wandb, Server]
) -> None:
    wandb, server = service
    server.fail(Fault("answer", 404), part="file_stream")

    (missed,) = make(tmp_path, server.url).finish(Kept(), EPOCHS)  # type: ignore[arg-type]

    assert "Fatal error while uploading data" in missed
    assert wandb.runs[ID]["history"] == []


def test_what_got_there_and_was_not_answered_stands_there_once(tmp_path: Path, service: tuple[Wandb, Server]) -> None:
    wandb, server = service
    server.fail(Fault("lose"), times=1, part="file_stream")

    assert make(tmp_path, server.url).finish(Kept(), EPOCHS) == []  # type: ignore[arg-type]

    assert [row["epoch"] for row in wandb.runs[ID]["history"]] == [1, 2, 3]


def test_the_key_goes_to_no_other_server(tmp_path: Path, service: tuple[Wandb, Server]) -> None:
    server = service[1]
    with serving(Wandb().handle) as other:
        server.fail(Fault("redirect", to=f"{other.url}/graphql"))

        (missed,) = make(tmp_path, server.url).finish(Kept(), EPOCHS)  # type: ignore[arg-type]

        assert "302" in missed
        assert other.seen == []


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (remote_sources.SECRET_CONTENT, "{}", "has no apiKey"),
        (source_hosts.VARIABLE, "", "http sends everything in the clear"),
    ],
)
def test_without_a_key_or_leave_nobody_is_asked_and_the_directory_is_there(
    tmp_path: Path,
    service: tuple[Wandb, Server],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, value)
    kept = Kept()

    (missed,) = make(tmp_path, service[1].url).finish(kept, EPOCHS)  # type: ignore[arg-type]

    assert words in missed
    assert any(name.endswith(".wandb") for name in kept.files)
    assert service[1].seen == []


def test_without_the_client_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environments" / "pipelines"))

    (missed,) = make(tmp_path).finish(Kept(), EPOCHS)  # type: ignore[arg-type]

    assert missed == (
        "Weights & Biases was not told of this training: its client is not installed at"
        f" {tmp_path / 'environments' / 'wandb'} (on one machine: make wandb)"
    )


def test_a_training_that_goes_on_is_told_now_and_then_beside_it(
    tmp_path: Path, service: tuple[Wandb, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb, server = service
    training = make(tmp_path, server.url)
    training.offer(EPOCHS[:1])
    assert server.seen == [], "not at once"
    monkeypatch.setattr(wandb_run, "PERIOD", 0.0)

    training.offer(EPOCHS[:1])
    training.offer(EPOCHS[:2])  # a report is being sent, so this one is not sent separately
    assert training._background is not None
    assert training._background.is_alive(), "the training does not wait for it"
    assert training.finish(Kept(), EPOCHS) == []  # type: ignore[arg-type]

    assert len(wandb.runs[ID]["history"]) == 3


def test_who_does_not_ask_for_it_has_nothing_of_it(tmp_path: Path) -> None:
    training = WandbRun(None, tmp_path / "wandb", ID, {})
    training.offer(EPOCHS)

    assert training.finish(Kept(), EPOCHS) == []  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_client_is_given_nothing_of_the_environment_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "MLFLOW_TRACKING_PASSWORD",
        "PELAGOS_STEP_KEY",
        "AWS_SECRET_ACCESS_KEY",
        remote_sources.SECRET_CONTENT,
    ):
        monkeypatch.setenv(name, "secret")

    found: dict[str, Any] = make(tmp_path)._environment("")

    assert "secret" not in found.values()
    assert found["WANDB_ERROR_REPORTING"] == "false"
    assert found["HTTPS_PROXY"] == "http://127.0.0.1:9", "offline, no request leaves"


def test_the_client_ends_with_the_step_that_an_engine_ends(tmp_path: Path) -> None:
    """Engines kill the session of a run. A process outside it would write to a workspace that another attempt uses."""
    told = make(tmp_path)._run([sys.executable, "-c", "import os, sys; sys.exit(f'session {os.getsid(0)}')"], {}, "")

    assert told == f"the client: session {os.getsid(0)}"
