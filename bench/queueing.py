"""A thousand trainings wait for the GPUs of fifty nodes: the operator with the real scheduler. Called by run.py.

kwok simulates nodes and running pods. The pipeline server is the tests' fake server, which creates a pod for each step. API
server, etcd, scheduler and operator are real. Nothing is pinned: all share the cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench import fleet, measuring, traffic
from bench.plan import Plan
from bench.results import Cell, Section, middle
from control_plane import ControlPlane
from kfp_fake_server import workflow_kind
from pelagos.api import meta

GPU = "nvidia.com/gpu"
_UPSTREAM = Path("operator/pelagos/embedded/upstream")
_TRAINING = {
    "datasetRef": {"name": fleet.EARLY},
    "model": {"architecture": "yolov8n"},
    "hyperparameters": {"epochs": 3, "imageSize": 64},
    "resources": {"gpus": 1, "cpu": 1, "memory": "1Gi"},
}
_CALLS = re.compile(
    r'^pelagos_outbound_call_duration_seconds_count\{operation="[^"]*",system="([^"]+)"\} (\S+)$', re.MULTILINE
)
_PASSES = re.compile(r'^pelagos_reconciles_total\{kind="TrainingRun",[^}]*\} (\S+)$', re.MULTILINE)
_REQUESTS = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Size:
    """The numbers of nodes (with one GPU each) and trainings, and the seconds for which each training occupies a GPU."""

    nodes: int
    trainings: int
    seconds: int

    @property
    def least(self) -> float:
        """Seconds for all trainings if no GPU is ever idle."""
        return self.trainings * self.seconds / self.nodes


@dataclass
class Pod:
    """The pod of a step with a GPU: the times (monotonic seconds) at which the watch reported its changes."""

    owner: str
    created: float = 0.0
    node: str = ""
    bound: float = 0.0
    running: float = 0.0
    ended: float = 0.0


@dataclass
class Seen:
    """Everything that the watches have reported; times in monotonic seconds."""

    pods: dict[str, Pod] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """Names of TrainingRuns by uid."""
    created: dict[str, float] = field(default_factory=dict)
    queued: dict[str, float] = field(default_factory=dict)
    """When a status first named a pipeline run."""
    running: dict[str, float] = field(default_factory=dict)
    """When the status last changed to a run in progress."""
    ready: dict[str, float] = field(default_factory=dict)

    def take_pod(self, body: Mapping[str, Any]) -> None:
        """Record a watch event of a pod."""
        containers = body["spec"]["containers"]
        if not any(GPU in each.get("resources", {}).get("limits", {}) for each in containers):
            return
        now, name = time.monotonic(), body["metadata"]["name"]
        pod = self.pods.setdefault(name, Pod(body["metadata"]["labels"].get(meta.UID_LABEL, ""), now))
        phase = body.get("status", {}).get("phase")
        if body["spec"].get("nodeName") and not pod.bound:
            pod.node, pod.bound = body["spec"]["nodeName"], now
        if phase == "Running" and not pod.running:
            pod.running = now
        if phase == "Succeeded" and not pod.ended:
            pod.ended = now

    def take_training(self, body: Mapping[str, Any]) -> None:
        """Record a watch event of a TrainingRun."""
        name, now, status = body["metadata"]["name"], time.monotonic(), body.get("status") or {}
        self.owners[body["metadata"]["uid"]] = name
        if status.get("pipelineRun"):
            self.queued.setdefault(name, now)
        for condition in status.get("conditions", ()):
            if condition["type"] != "Ready":
                continue
            if condition["status"] == "True":
                self.ready.setdefault(name, now)
            elif condition["reason"] == "Running":
                self.running.setdefault(name, now)
            else:  # a run is reported in progress until it is known that its pod waits
                self.running.pop(name, None)


def gaps(pods: Sequence[Pod]) -> list[float]:
    """Seconds for which GPUs were idle while other pods waited: from the end of a pod to the next one on its node."""
    starts = {node: sorted(pod.bound for pod in pods if pod.node == node) for node in {pod.node for pod in pods}}
    found = []
    for pod in pods:
        if pod.ended and any(other.created <= pod.ended < other.bound for other in pods):
            later = [start for start in starts[pod.node] if start >= pod.ended]
            found += [min(later) - pod.ended] if later else []
    return found


def after(firsts: Mapping[str, float], seconds: Mapping[str, float]) -> list[float]:
    """Seconds from the first time to the second, for the names that have both."""
    return [seconds[name] - at for name, at in firsts.items() if name in seconds]


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    size = Size(5, 20, 2) if plan.quick else Size(50, 1000, 15)
    with fleet.plane(plan) as plane, _cluster(plan, plane, size) as parts:
        found = asyncio.run(_observe(plan, plane, size, parts))
    return _section(plan, size, found)


@dataclass(frozen=True)
class Parts:
    """Processes other than API server and operator."""

    server: str
    """Address of the pipeline server."""
    pids: Mapping[str, int]


@contextlib.contextmanager
def _cluster(plan: Plan, plane: ControlPlane, size: Size) -> Iterator[Parts]:
    """Run the scheduler, the simulated nodes, and the pipeline server that creates pods for steps."""
    plane.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", workflow_kind.DEFINITION)
    _let_steps_in(plane)
    for number in range(size.nodes):
        _make_node(plane, f"gpu-{number:03d}")
    cores, environment = os.sched_getaffinity(0), dict(os.environ)
    (plan.folder / "token").write_text(plane.token)
    stages = plan.folder / "stages.yaml"
    stages.write_text(yaml.safe_dump_all(_stages(size.seconds)))
    scheduler = [_built(plan, _UPSTREAM / "kubernetes", "kube-scheduler"), f"--kubeconfig={plane.kubeconfig}"]
    scheduler += ["--leader-elect=false", "--secure-port=0"]
    kwok = [_built(plan, Path("tools/upstream/kwok"), "kwok"), f"--kubeconfig={plane.kubeconfig}"]
    kwok += ["--manage-all-nodes=true", "--node-lease-duration-seconds=0", f"--config={stages}"]
    pipelines = [plan.python("control-plane"), plan.program("pipeline_server"), "--multi-user", "pods"]
    pipelines += [f"--server={plane.url}", f"--token-file={plan.folder / 'token'}", f"--ca-file={plane.authority}"]
    environment["PYTHONPATH"] = str(plan.root / "tests")
    log = plan.log("pipelines")
    with (
        measuring.running(scheduler, plan.log("scheduler"), environment, cores) as first,
        measuring.running(kwok, plan.log("kwok"), environment, cores) as second,
        measuring.running(pipelines, log, environment, cores) as third,
    ):
        measuring.wait_until(lambda: "http" in log.read_text(), "the pipeline server listens", 60, log)
        pids = {"scheduler": first.pid, "kwok": second.pid, "pipeline server": third.pid}
        yield Parts(log.read_text().split()[-1], pids)


def _built(plan: Plan, module: Path, program: str) -> Path:
    """The path of another project's program; builds it if necessary."""
    build = plan.root / _UPSTREAM / "build.sh"
    subprocess.run(["nice", build, plan.root / module, program], check=True)
    where = [str(build), "--where", str(plan.root / module)]
    return Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip(), program)


def _let_steps_in(plane: ControlPlane) -> None:
    """Grant the steps' service accounts the rights that their requests to the pipeline server need."""
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "steps"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:serviceaccounts"}],
    }
    plane.request("POST", f"/apis/{group}/v1/clusterrolebindings", binding)


def _make_node(plane: ControlPlane, name: str) -> None:
    """Create a Ready node with one GPU. It lacks the taint of a new node, because nothing here would remove it."""
    plane.request("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": {"type": "kwok"}}})
    merge = "application/merge-patch+json"
    plane.request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}}, kind=merge)
    has = {"cpu": "16", "memory": "64Gi", "pods": "110", GPU: "1"}
    ready = {"type": "Ready", "status": "True", "reason": "Made", "message": "", "lastHeartbeatTime": _NOW}
    status = {"capacity": has, "allocatable": has, "conditions": [ready | {"lastTransitionTime": _NOW}]}
    plane.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, kind=merge)


_NOW = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _stages(seconds: int) -> list[dict[str, Any]]:
    """kwok's stages for pods: they run as soon as they have a node, and succeed; those with a GPU after ``seconds``."""
    limits = f'.spec.containers.[].resources.limits.["{GPU}"]'
    going = {"key": ".status.phase", "operator": "In", "values": ["Running"]}
    started = "phase: Running\nstartTime: {{ Now | Quote }}\n"
    cordoned = {"key": ".spec.unschedulable", "operator": "In", "values": ["true"]}
    return [
        # A stage for nodes, which are complete when created: kwok only manages the pods of nodes that have a stage.
        _stage("node", [cordoned], "phase: Running\n", 0, kind="Node"),
        _stage("run", [{"key": ".status.phase", "operator": "In", "values": ["Pending"]}], started, 0),
        _stage("end", [going, {"key": limits, "operator": "DoesNotExist"}], "phase: Succeeded\n", 1),
        _stage("end-training", [going, {"key": limits, "operator": "Exists"}], "phase: Succeeded\n", seconds),
        _stage("delete", [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}], "", 0),
    ]


def _stage(name: str, when: list[dict[str, Any]], status: str, seconds: int, kind: str = "Pod") -> dict[str, Any]:
    there = [] if not status else [{"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}]
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": [*when, *there]},
            "delay": {"durationMilliseconds": seconds * 1000},
            "next": {"statusTemplate": status} if status else {"delete": True},
        },
    }


@dataclass(frozen=True)
class Found:
    """Results from the first creation until all were Ready: seconds, bytes and counts."""

    seconds: float
    cpu: Mapping[str, float]
    """Processor seconds of the operator, of the API server with etcd, and of the other parts, by name."""
    rss: int
    """Peak resident memory of the operator, over all samples."""
    passes: int
    calls: Mapping[str, int]
    """Outbound calls of the operator, by system."""
    requests: int
    """Requests of all clients to the API server, without watches."""
    seen: Seen


async def _observe(plan: Plan, plane: ControlPlane, size: Size, parts: Parts) -> Found:
    where, cores = fleet.namespace(plane), os.sched_getaffinity(0)
    engine = {"PELAGOS_KUBEFLOW_URL": parts.server, "PELAGOS_PIPELINES_ENGINE": "kubeflow"}
    engine |= {"PELAGOS_TRAINER_IMAGE": "trainer:none", "PYTHONPATH": str(plan.root / "tests")}
    async with traffic.session(plane) as session:
        users = traffic.Traffic(plane, where, session)
        with fleet.operating(plan, plane, fleet.OURS, where, cores, **engine) as operator:
            async with users.watching():
                await users.create_one(fleet.EARLY)
                await users.until(lambda seen: fleet.EARLY in seen.ready, "the Dataset is Ready", 120)
            seen = Seen()
            async with _watching(plane, session, where, seen):
                return await _through(Scene(plan, plane, session, operator, size, seen, parts))


@dataclass(frozen=True)
class Scene:
    """All running parts of the measurement."""

    plan: Plan
    plane: ControlPlane
    session: aiohttp.ClientSession
    operator: fleet.Operator
    size: Size
    seen: Seen
    parts: Parts


async def _through(scene: Scene) -> Found:
    plane, session, operator, size, seen = scene.plane, scene.session, scene.operator, scene.size, scene.seen
    pids = {"operator": operator.pid, **scene.parts.pids}

    async def used() -> tuple[dict[str, float], int]:
        cpu = {name: measuring.cpu_seconds(pid) for name, pid in pids.items()}
        return cpu | {"API server and etcd": fleet.cpu_of(plane)}, await _requests(plane, session)

    def told() -> tuple[int, dict[str, int]]:
        text = operator.figures()
        calls: dict[str, int] = {}
        for system, number in _CALLS.findall(text):
            calls[system] = calls.get(system, 0) + int(float(number))
        return int(sum(float(number) for number in _PASSES.findall(text))), calls

    (cpu, requests), (passes, calls) = await used(), await asyncio.to_thread(told)
    began, rss = time.monotonic(), 0
    creating = asyncio.create_task(_create(plane, session, operator.namespace, size.trainings, seen))
    deadline, spoken = began + 10 * size.least + 600, began
    while len(seen.ready) < size.trainings:
        if time.monotonic() > deadline:
            raise measuring.MeasurementError(f"{len(seen.ready)} of {size.trainings} are Ready; see {operator.log}")
        rss = max(rss, measuring.resident_bytes(operator.pid))
        if time.monotonic() - spoken > 30:
            spoken = time.monotonic()
            ended = sum(1 for pod in seen.pods.values() if pod.ended)
            scene.plan.say(
                f"{spoken - began:.0f} s: {len(seen.created)} created, {ended} trained, {len(seen.ready)} Ready"
            )
        await asyncio.sleep(1)
    await creating
    seconds = max(seen.ready.values()) - began
    (cpu_after, requests_after), (passes_after, calls_after) = await used(), await asyncio.to_thread(told)
    return Found(
        seconds=seconds,
        cpu={name: value - cpu[name] for name, value in cpu_after.items()},
        rss=rss,
        passes=passes_after - passes,
        calls={system: number - calls.get(system, 0) for system, number in calls_after.items()},
        requests=requests_after - requests,
        seen=seen,
    )


async def _create(plane: ControlPlane, session: aiohttp.ClientSession, where: str, number: int, seen: Seen) -> None:
    """Create all TrainingRuns, as fast as the server accepts them."""
    path, left = f"{plane.url}/apis/{meta.API_VERSION}/namespaces/{where}/trainingruns", iter(range(number))

    async def work() -> None:
        for index in left:
            name = f"training-{index:04d}"
            # All differ, because equal inputs would share one run.
            body = {"apiVersion": meta.API_VERSION, "kind": "TrainingRun", "metadata": {"name": name}}
            spec = _TRAINING | {"seeds": [index]}
            async with session.post(path, json=body | {"spec": spec}) as answer:
                if answer.status >= 400:
                    raise measuring.MeasurementError(f"{name}: {answer.status} {await answer.text()}")
            seen.created[name] = time.monotonic()

    await asyncio.gather(*(work() for _ in range(4)))


async def _requests(plane: ControlPlane, session: aiohttp.ClientSession) -> int:
    async with session.get(f"{plane.url}/metrics") as answer:
        text = await answer.text()
    return sum(int(float(number)) for labels, number in _REQUESTS.findall(text) if 'verb="WATCH"' not in labels)


@contextlib.asynccontextmanager
async def _watching(plane: ControlPlane, session: aiohttp.ClientSession, where: str, seen: Seen) -> AsyncIterator[None]:
    """Record events of pods and TrainingRuns while the context lasts."""
    roots = {
        f"/api/v1/namespaces/{where}/pods": seen.take_pod,
        f"/apis/{meta.API_VERSION}/namespaces/{where}/trainingruns": seen.take_training,
    }

    async def watch(root: str) -> None:
        while True:
            async with session.get(plane.url + root) as answer:
                listed = await answer.json()
            for body in listed["items"]:
                roots[root](body)
            follow = f"{plane.url}{root}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}"
            async with session.get(follow, timeout=aiohttp.ClientTimeout(total=None)) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    roots[root](event["object"])

    tasks = [asyncio.create_task(watch(root)) for root in roots]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _section(plan: Plan, size: Size, found: Found) -> Section:
    seen, number = found.seen, size.trainings
    pods = {seen.owners.get(pod.owner, ""): pod for pod in seen.pods.values()}
    ends = {name: pod.ended for name, pod in pods.items() if pod.ended}
    starts = {name: pod.running for name, pod in pods.items() if pod.running}
    idle, told = gaps(list(seen.pods.values())), after(starts, seen.running)

    def spread(what: str, values: Sequence[float]) -> list[Cell]:
        ordered = sorted(values)
        return [what, middle(ordered), ordered[int(len(ordered) * 0.99)]] if ordered else [what, None, None]

    calls: list[list[Cell]] = [
        [f"calls/s of the operator to {system}", made / found.seconds, None]
        for system, made in sorted(found.calls.items())
        if made
    ]
    cores: list[list[Cell]] = [[f"of one core: {name}", used / found.seconds, None] for name, used in found.cpu.items()]
    rows: list[list[Cell]] = [
        ["seconds until all are Ready", found.seconds, None],
        ["limit: seconds that GPUs which are never idle need", size.least, None],
        ["seconds until all are Ready, ratio to the limit", found.seconds / size.least, None],
        [
            "seconds until the last run is on the pipeline server",
            max(seen.queued.values()) - min(seen.created.values()),
            None,
        ],
        spread("seconds for which a GPU that is waited for is free", idle),
        spread("seconds from a training's end to Ready", after(ends, seen.ready)),
        spread("seconds from a training's begin to a status that says so", told),
        ["share of trainings that ended before a status said that they had begun", 1 - len(told) / number, None],
        ["pods with a GPU per training", len(seen.pods) / number, None],
        ["passes/s", found.passes / found.seconds, None],
        ["passes per training", found.passes / number, None],
        *calls,
        ["requests/s of all clients to the API server", found.requests / found.seconds, None],
        *cores,
        ["CPU ms of the operator per training", found.cpu["operator"] * 1000 / number, None],
        ["memory of the operator at most, MB", found.rss / 1e6, None],
    ]
    return Section(
        title="Queue",
        reading=plan.reading(nodes=size.nodes, trainings=number, seconds=size.seconds),
        columns=["", "median, or all", "99th percentile"],
        rows=rows,
        details={"gaps": idle, "cpu": dict(found.cpu), "calls": dict(found.calls)},
    )
