"""The last lines of steps are kept in a ConfigMap of a real API server, which reads them from a fake kubelet; no pass waits."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from control_plane import ControlPlane, start_control_plane
from kubeflow_worlds import NAME, UID, Cluster, make_request
from pelagos.engines.kubeflow import kept_logs, reading
from pelagos.engines.kubeflow.kept_logs import BYTES, LINES, Ended, KeptLogs
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.observability import metrics
from pelagos.ports.clock import FakeClock
from pelagos.ports.errors import RejectedError
from pelagos.wiring import Credentials, rest_client
from untrusted_text import HOSTILE, is_fit

NAMESPACE = "default"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Kubelet:
    """Serves logs of containers as a node does; records each request."""

    logs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def answer(self, path: str) -> bytes:
        url = urlsplit(path)
        query = dict(parse_qsl(url.query))
        pod = url.path.split("/")[3]
        self.asked.append(pod)
        lines = self.logs[pod].splitlines(keepends=True)[-int(query["tailLines"]) :]
        return b"".join(lines)[: int(query["limitBytes"])]


@pytest.fixture(scope="module")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    served = Kubelet()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = served.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    folder = tmp_path_factory.mktemp("kubelet")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=node"]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    served.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory, kubelet: Kubelet) -> Iterator[ControlPlane]:
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    node = {"metadata": {"name": "node"}}
    running.request("POST", "/api/v1/nodes", node)
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
    }
    merge = "application/merge-patch+json"
    running.request("PATCH", "/api/v1/nodes/node/status", {"status": status}, kind=merge)
    yield running
    running.stop()


@dataclass
class World:
    """A run with pods; ``keeper`` is new for each test, as after a restart of the operator."""

    plane: ControlPlane
    kubelet: Kubelet
    rest: KubernetesRest
    ended: Ended
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))

    def keeper(self) -> KeptLogs:
        return KeptLogs(self.rest, self.clock)

    def pod(self, step: str, log: bytes, attempt: int = 1, code: int | None = 1) -> str:
        """Create a pod of the run that has ended with ``code``, or still runs if that is None."""
        name = f"p-{uuid.uuid4()}"
        command = ["sh", "--function_to_execute", step]
        body = {
            "metadata": {
                "name": name,
                "labels": {"pipeline/runid": self.ended.server_id},
                "annotations": {"pelagos.dev/run": self.ended.run, "pelagos.dev/attempt": str(attempt)},
            },
            "spec": {
                "nodeName": "node",
                "automountServiceAccountToken": False,
                "containers": [
                    {"name": "main", "image": "i", "command": command, "env": [{"name": "TOKEN", "value": "hidden"}]}
                ],
            },
        }
        self.plane.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body)
        ended = {"terminated": {"exitCode": code, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}}
        state = {"running": {}} if code is None else ended
        each = {"name": "main", "ready": False, "restartCount": 0, "image": "i", "imageID": "i", "state": state}
        self.plane.request(
            "PATCH",
            f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/status",
            {"status": {"phase": "Running", "containerStatuses": [each]}},
            kind="application/merge-patch+json",
        )
        self.kubelet.logs[name] = log
        return name

    def kept(self) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=pelagos.dev/uid={self.ended.uid}"
        found = self.plane.request("GET", path)["items"]
        assert len(found) <= 1
        return found[0] if found else {}

    async def settle(self, keeper: KeptLogs) -> None:
        await asyncio.gather(*keeper._tasks)


@pytest.fixture
async def world(plane: ControlPlane, kubelet: Kubelet) -> AsyncIterator[World]:

    kubelet.asked.clear()
    rest = rest_client(Credentials(plane.url, plane.token, str(plane.authority), None))
    uid = str(uuid.uuid4())
    ended = Ended(f"dataset-{uid}-0", 1, uid[:8], NOW, NAMESPACE, uid, NAMESPACE, f"dataset/{NAMESPACE}/cod")
    yield World(plane, kubelet, rest, ended)
    await rest.close()
    await asyncio.sleep(0.05)


async def test_the_last_lines_of_ended_pods_are_kept_in_a_config_map_of_the_resource(world: World) -> None:
    many = b"".join(b"line %d\n" % number for number in range(LINES + 50))
    name = world.pod("prepare", many)
    world.pod("sort_out", b"still at work\n", code=None)

    await world.keeper().keep(world.ended)

    found = world.kept()
    attempt, [kept] = kept_logs.parse(found, world.ended.run)
    assert (attempt, kept.step, kept.pod, kept.exit_code, kept.reason) == (1, "prepare", name, 1, "Error")
    assert kept.text.splitlines() == [f"line {number}" for number in range(50, LINES + 50)]
    owner = found["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Dataset", "cod", world.ended.uid)
    assert "hidden" not in str(found)


async def test_each_pod_is_read_once_also_by_the_next_operator(world: World) -> None:
    first = world.pod("train", b"one\n", code=0)
    keeper = world.keeper()
    for _ in range(3):
        keeper.note(world.ended)
    await world.settle(keeper)
    second = world.pod("export", b"two\n")

    later = world.keeper()
    later.note(world.ended)
    await world.settle(later)

    assert world.kubelet.asked == [first, second]
    _, kept = kept_logs.parse(world.kept(), world.ended.run)
    assert {each.step: each.text for each in kept} == {"train": "one", "export": "two"}


async def test_a_newer_attempt_takes_the_place_of_the_one_before_and_never_the_other_way_round(world: World) -> None:
    world.pod("train", b"first\n")
    world.pod("export", b"first\n")
    await world.keeper().keep(world.ended)
    newer = replace(world.ended, attempt=2, server_id=f"{world.ended.server_id}-2")
    before, world.ended = world.ended, newer
    world.pod("train", b"second\n", attempt=2)

    await world.keeper().keep(newer)
    await world.keeper().keep(before)

    attempt, kept = kept_logs.parse(world.kept(), newer.run)
    assert (attempt, [(each.step, each.text) for each in kept]) == (2, [("train", "second")])


async def test_what_is_kept_is_bounded_and_takes_no_effect(world: World) -> None:
    long = b"x" * 3000
    world.pod(
        "train", (HOSTILE + "\n").encode() + b"".join(b"%03d %s\n" % (number, long) for number in range(LINES - 1))
    )
    world.pod("export", b"begin\n" + b"y" * 3 * 1024 * 1024 + b"\nend\n")

    await world.keeper().keep(world.ended)

    data = world.kept()["data"]
    assert len(data["train.log"].encode()) <= BYTES
    assert data["train.log"].splitlines()[-1].startswith(f"{LINES - 2:03} xxx")
    assert data["train.log"][:3].isdecimal()  # cut at the beginning of a line
    assert len(data["export.log"].encode()) <= BYTES
    assert all(is_fit(text) for text in data.values())


async def test_what_cannot_be_kept_is_tried_again_later_and_stops_nothing(world: World) -> None:
    world.pod("train", b"one\n")
    away = rest_client(Credentials("https://127.0.0.1:1", "t", str(world.plane.authority), None))
    keeper = KeptLogs(away, world.clock)

    for _ in range(3):
        keeper.note(world.ended)
    assert len(keeper._tasks) == 1
    await world.settle(keeper)
    keeper.note(world.ended)
    assert not keeper._tasks
    world.clock.set(NOW + timedelta(minutes=2))
    keeper.note(world.ended)
    assert len(keeper._tasks) == 1
    await keeper.close()
    await away.close()


async def test_runs_of_long_ago_are_left_alone(world: World) -> None:
    keeper = world.keeper()

    keeper.note(replace(world.ended, finished_at=NOW - timedelta(days=2)))

    assert not keeper._tasks


async def test_a_config_map_that_somebody_else_made_is_left_as_it_is(world: World) -> None:
    world.pod("train", b"one\n")
    name, path = kept_logs.name_of(world.ended.uid), f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    world.plane.request("POST", path, {"metadata": {"name": name}, "data": {"train.log": "theirs"}})

    with pytest.raises(RejectedError, match=rf"ConfigMap {NAMESPACE}/{name} does not belong to Pelagos"):
        await world.keeper().keep(world.ended)

    assert world.plane.request("GET", f"{path}/{name}")["data"] == {"train.log": "theirs"}


@pytest.mark.parametrize(
    ("there", "cause", "words"),
    [
        ({"metadata": {"labels": {}}}, "not-ours", "does not belong to Pelagos"),
        ({"immutable": True}, "refused", "immutable"),
        ({"data": {"theirs": "x" * (1024**2 - 100)}}, "too-large", "Too long"),
    ],
)
async def test_lines_that_cannot_be_kept_are_counted_and_told_by_an_event_once(
    world: World, there: dict[str, Any], cause: str, words: str
) -> None:
    world.pod("train", b"one\n")
    labels = {"app.kubernetes.io/managed-by": "pelagos-operator", "pelagos.dev/uid": world.ended.uid}
    metadata = {"name": kept_logs.name_of(world.ended.uid), "labels": labels} | there.pop("metadata", {})
    world.plane.request("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", {"metadata": metadata} | there)
    sample = ("pelagos_step_lines_lost_total", {"cause": cause})
    before, keeper = metrics.REGISTRY.get_sample_value(*sample) or 0, world.keeper()

    for _ in range(2):
        keeper.note(world.ended)
        await world.settle(keeper)

    assert metrics.REGISTRY.get_sample_value(*sample) == before + 1
    path = f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=involvedObject.uid={world.ended.uid}"
    [event] = world.plane.request("GET", path)["items"]
    about = event["involvedObject"]
    assert (about["kind"], about["name"]) == ("Dataset", world.ended.resource.rpartition("/")[2])
    assert (event["type"], event["reason"]) == ("Warning", "LinesNotKept")
    assert words in event["message"]


async def test_the_longest_name_of_a_resource_comes_back_and_has_its_lines_kept(cluster: Cluster, world: World) -> None:
    long = f"{'a' * 250}-la"
    request = make_request()
    told = {**request.labels, "pelagos.dev/resource": f"dataset/{'r' * 63}/{long}"}
    await cluster.engine.submit(replace(request, labels=told))
    [run] = cluster.runs()
    assert len(run.description) <= 255

    kind, namespace, name = reading.resource(run.document()) or ("", "", "")
    world.pod("train", b"one\n")
    await world.keeper().keep(replace(world.ended, resource=f"{kind}/{namespace}/{name}"))

    assert world.kept()["metadata"]["ownerReferences"][0]["name"] == long
    assert world.kept()["data"]["train.log"] == "one"


def test_whose_a_run_is_must_be_written_as_we_write_it() -> None:
    told = reading.resource({"description": "dataset/reef/cod, attempt 1, started by Pelagos"})
    assert told == ("dataset", "reef", "cod")
    for other in ("", "run", "dataset//cod", "dataset/reef/cod/more", "dataset/reef/Cod"):
        assert reading.resource({"description": other}) is None


async def test_the_engine_has_lines_kept_of_runs_that_are_over_and_whose_resource_it_knows(
    cluster: Cluster, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Ended] = []
    keeper = world.keeper()
    monkeypatch.setattr(keeper, "note", told.append)
    cluster.site = replace(cluster.site, logs=keeper)
    cluster.engine = cluster.new_engine()
    await cluster.engine.submit(make_request())
    [run] = cluster.runs()
    await cluster.begin(run)
    await cluster.find()
    assert told == []

    await cluster.finish(run, "out of nets")
    await cluster.find()
    assert told == []  # no resource with this uid is known
    cluster.namespaces[UID] = "elsewhere"
    await cluster.find()
    assert told == []  # the run claims to be of another namespace
    cluster.namespaces[UID] = "reef"
    await cluster.find()

    [ended] = told
    assert (ended.run, ended.attempt, ended.server_id, ended.pods) == (NAME, 1, run.identifier, "kubeflow")
    assert (ended.uid, ended.namespace, ended.resource) == (UID, "reef", "dataset/reef/frames")
