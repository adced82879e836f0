"""Two whole operators, as processes, with one API server and one outside world: one acts, whatever happens to the other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_plane import ControlPlane
from pelagos.api import meta
from pelagos.ports.clock import monotonic
from pelagos.settings import Settings

PROGRAM = Path(__file__).with_name("operator_program.py")
SPEC = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}


@dataclass
class OperatorProcess:
    """One of the two operators."""

    process: subprocess.Popen[bytes]
    home: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ask(self, path: str) -> tuple[int, str]:
        """GET from its own server; (0, "") when it does not answer."""
        try:
            port = json.loads((self.home / "operator.json").read_text())["metrics_port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, ValueError):
            return 0, ""

    def metric(self, name: str) -> float:
        """Sum of all samples of a metric."""
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    @property
    def leads(self) -> bool:
        """Whether it reports that it leads."""
        return self.metric("pelagos_leader") == 1

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(sign)

    def end(self) -> None:
        """Kill it in any state."""
        self.process.kill()
        self.process.wait()


@dataclass
class Pair:
    """One namespace, one outside world, some operators."""

    plane: ControlPlane
    namespace: str
    folder: Path
    seconds: int
    operators: list[OperatorProcess] = field(default_factory=list)

    def start(self, namespace: str = "") -> OperatorProcess:
        """Start an operator of a namespace, with the Lease in it; returns when it is ready, leading or standing by."""
        namespace = namespace or self.namespace
        home = self.folder / f"home-{len(self.operators)}"
        shared = self.folder / "shared"
        home.mkdir()
        shared.mkdir(exist_ok=True)
        ours = {
            "PELAGOS_HOME": str(home),
            "PELAGOS_KUBECONFIG": str(self.plane.kubeconfig),
            "PELAGOS_NAMESPACE": namespace,
            "PELAGOS_LEADER_ELECTION": "true",
            "PELAGOS_LEASE_NAMESPACE": namespace,
            "PELAGOS_LEASE_SECONDS": str(self.seconds),
            "SHARED_FOLDER": str(shared),
            "NO_PROXY": "127.0.0.1",
        }
        with (home / "log").open("wb") as log:
            command = [sys.executable, str(PROGRAM)]
            process = subprocess.Popen(command, env={**os.environ, **ours}, stdout=log, stderr=log)
        made = OperatorProcess(process, home)
        self.operators.append(made)
        until(lambda: made.ask("/readyz")[0] == 200, "it is ready", seconds=120)
        return made

    def lead_and_stand_by(self) -> tuple[OperatorProcess, OperatorProcess]:
        """One that leads, and a standby with a warm cache."""
        first = self.start()
        until(lambda: first.leads, "the first leads")
        return first, self.start()

    def create(self, name: str, namespace: str = "") -> str:
        """Create a Dataset, for which one run must be submitted, once. Returns its uid."""
        body = {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": SPEC}
        path = f"/apis/{meta.API_VERSION}/namespaces/{namespace or self.namespace}/datasets"
        return str(self.plane.request("POST", path, body)["metadata"]["uid"])

    def journal(self) -> list[dict[str, Any]]:
        """Changes made outside, in order."""
        file = self.folder / "shared" / "journal.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def done_by(self, operator: OperatorProcess) -> set[str]:
        """The uids of the Datasets whose runs an operator submitted."""
        names = [entry["name"] for entry in self.journal() if entry["pid"] == operator.pid]
        return {name.removeprefix("dataset-").rpartition("-")[0] for name in names}

    def stall(self, operator: OperatorProcess, name: str) -> None:
        """Bring an operator to the point right before a change, and block it there."""
        (self.folder / "shared" / "stall").touch()
        self.create(name)
        mark = self.folder / "shared" / f"stalling-{operator.pid}"
        until(mark.exists, "the leader is in the middle of a pass")
        operator.signal(signal.SIGSTOP)
        (self.folder / "shared" / "stall").unlink()


def until(holds: Callable[[], bool], what: str, *, seconds: float = 60.0) -> float:
    """Wait until it holds; returns the seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture
def seconds() -> int:
    """Duration of the Lease."""
    return 4


@pytest.fixture
def pair(plane: ControlPlane, namespace: str, tmp_path: Path, seconds: int) -> Iterator[Pair]:
    """A pair without operators; all that it starts are ended after the test."""
    made = Pair(plane, namespace, tmp_path, seconds)
    yield made
    for operator in made.operators:
        operator.end()


def test_one_acts_and_the_other_is_ready_to(pair: Pair) -> None:
    first, second = pair.lead_and_stand_by()
    for number in range(5):
        pair.create(f"plankton-{number}")

    until(lambda: len(pair.journal()) == 5, "every Dataset has its run")

    assert {entry["pid"] for entry in pair.journal()} == {first.pid}
    assert (first.leads, second.leads) == (True, False)
    status, text = second.ask("/readyz")
    assert status == 200
    assert re.fullmatch(rf"ok: standby; \S+_{first.pid}_\w+ leads\n", text)


@pytest.mark.parametrize("seconds", [Settings().lease_seconds])
def test_a_killed_leader_is_followed_within_fifteen_seconds_by_default(pair: Pair) -> None:
    first, second = pair.lead_and_stand_by()

    first.signal(signal.SIGKILL)
    pair.create("plankton")
    took = until(lambda: len(pair.journal()) == 1, "the other has done the work")

    assert took <= 15
    assert pair.journal()[0]["pid"] == second.pid


def test_two_operators_have_half_of_the_namespaces_each_and_a_third_follows_the_one_that_dies(pair: Pair) -> None:
    north, south = pair.namespace, f"{pair.namespace}-south"
    pair.plane.create_namespace(south)
    leader, doomed = pair.start(north), pair.start(south)
    until(lambda: leader.leads and doomed.leads, "each leads its half")
    spare = pair.start(south)

    first = {place: {pair.create(f"plankton-{number}", place) for number in range(4)} for place in (north, south)}
    until(lambda: len(pair.journal()) == 8, "every Dataset has its run")
    assert pair.done_by(leader) == first[north]
    assert pair.done_by(doomed) == first[south]
    assert not spare.leads

    doomed.signal(signal.SIGKILL)
    second = {place: pair.create("medusae", place) for place in (north, south)}
    until(lambda: len(pair.journal()) == 10, "the spare has done the work")
    assert pair.done_by(spare) == {second[south]}
    assert pair.done_by(leader) == first[north] | {second[north]}
    assert (leader.leads, spare.leads) == (True, True)
    assert len({entry["name"] for entry in pair.journal()}) == 10


def test_a_leader_that_is_told_to_stop_is_followed_at_once(pair: Pair) -> None:
    first, second = pair.lead_and_stand_by()

    began = time.monotonic()
    first.signal(signal.SIGTERM)
    until(lambda: second.leads, "the other leads", seconds=pair.seconds)
    assert first.process.wait(60) == 0

    assert time.monotonic() - began < 10


def test_a_leader_that_is_stopped_in_the_middle_of_a_pass_changes_nothing_when_it_wakes_up(pair: Pair) -> None:
    first, second = pair.lead_and_stand_by()
    pair.stall(first, "plankton")
    until(lambda: second.leads, "the other leads", seconds=3 * pair.seconds)
    until(lambda: len(pair.journal()) == 1, "the other has done the work")

    first.signal(signal.SIGCONT)
    until(lambda: first.metric("pelagos_fenced_calls_total") >= 1, "what it was about to change was refused")
    pair.create("medusae")
    until(lambda: len(pair.journal()) == 2, "work goes on")
    time.sleep(pair.seconds)

    assert {entry["pid"] for entry in pair.journal()} == {second.pid}
    assert (first.leads, second.leads) == (False, True)


def test_without_the_api_server_nobody_leads_and_afterwards_one_does(pair: Pair) -> None:
    first, second = pair.lead_and_stand_by()
    began = monotonic()
    pair.plane.kill("apiserver", signal.SIGSTOP)
    try:
        lost = until(lambda: not first.leads, "the leader gives up in time", seconds=pair.seconds + 0.5)
        time.sleep(2 * pair.seconds)
        assert (first.leads, second.leads) == (False, False)
        assert first.ask("/healthz")[0] == 200
        until(lambda: first.ask("/readyz")[0] == 503, "it says that it is not ready")
        assert "kinds: " in first.ask("/readyz")[1]
    finally:
        pair.plane.kill("apiserver", signal.SIGCONT)
    until(lambda: first.leads or second.leads, "one leads again", seconds=30)
    pair.create("plankton")
    until(lambda: len(pair.journal()) == 1, "it works")

    assert lost <= pair.seconds
    assert monotonic() - began > 2 * pair.seconds
    assert first.leads is not second.leads
    until(lambda: first.ask("/readyz")[0] == second.ask("/readyz")[0] == 200, "both are ready", seconds=30)
