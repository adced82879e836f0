"""Real incidents, seen by a real Prometheus with the shipped rules, whose times are divided by 60.

First all is well; then many things go wrong at once, each is alerted, and every query of every dashboard has data; then the
causes are removed, and the alerts end; last, the watch goes silent and the operator stops. All on one site, in this order. With
PELAGOS_DASHBOARD_DATA set, the panels' data is written to that file (tools/dashboard_pictures.sh).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import math
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from prometheus_client import start_http_server

from control_plane import start_control_plane
from generators.monitoring.dashboards import DASHBOARDS
from generators.monitoring.panels import Dashboard, Panel
from loopback import free_port
from monitored_sites import BROKEN, MODEL, REFUSED, MonitoredSite, StateMetrics, Triton, repeat
from monitoring_tools import Prometheus, Promtool, shortened
from pelagos.api.kinds import KINDS
from pelagos.ports.pipelines import FINISHED, Queueing, RunName
from pelagos_gateway.metrics import Metrics as GatewayMetrics
from pelagos_gateway.streaming import AT_ONCE
from pelagos_hub.observing import Metrics as HubMetrics
from sites import has_reason, is_ready

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Stopping kopf within a test's own event loop leaves its watch connections unclosed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
IN_ORDER = True
"""The tests of this module build on each other."""
DIVISOR = 60
SOON = 120.0
"""Seconds; on a busy machine a scrape may fail, and the waiting time of an alert then starts again."""
CLASSES = {"Akashiwo": 420, "Ceratium": 311, "Chaetoceros": 188, "Guinardia": 94, "Thalassiosira": 37}
SERVICES = ("plankton", "zooplankton", "benthos")


@dataclass
class Stage:
    """Everything that runs for the tests."""

    site: MonitoredSite
    triton: Triton
    state: StateMetrics
    prometheus: Prometheus
    operator_port: int
    request: int = 20
    """Milliseconds that each request takes; every third breaks the model when ``failing``."""
    failing: bool = False
    uids: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    _numbers: Any = field(default_factory=itertools.count)

    async def until(self, what: str, holds: Callable[[], bool], seconds: float = SOON) -> None:
        """Wait until ``holds``, asked in a thread; fails with the firing alerts."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if await asyncio.to_thread(holds):
                return
            await asyncio.sleep(0.3)
        firing = await asyncio.to_thread(self.prometheus.firing)
        pytest.fail(f"not within {seconds:.0f} s: {what}; firing: {firing}")

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send one request to the model, as a client."""
        fails = self.failing and next(self._numbers) % 3 == 0
        await self.triton.ask(session, BROKEN if fails else self.request)

    def run(self, kind: str, uid: str) -> RunName:
        """The name of a resource's pipeline run."""
        runs = self.site.real.pipelines.runs
        (name,) = [name for name, run in runs.items() if name.startswith(kind) and uid in run.request.labels.values()]
        return name

    async def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        """Create a resource and remember its uid."""
        body = await self.site.create(kind, name, spec)
        self.uids[name] = body["metadata"]["uid"]


def prepared(number: int, images: int) -> dict[str, Any]:
    """The result of a preparation."""
    shares = {name: 1 + images * share // 1000 for name, share in CLASSES.items()}
    classes = [{"name": name, "images": share, "annotations": 2 * share} for name, share in shares.items()]
    parts = {"train": images * 7 // 10, "validation": images * 15 // 100, "test": images * 15 // 100}
    return {
        "version": f"sha256:{number:064x}",
        "uri": f"versions/{number}",
        "images": images,
        "annotations": 2 * images,
        "classes": classes,
        "splits": {name: {"images": share} for name, share in parts.items()},
        "quality": {
            "found": images + 9,
            "corrupt": 3,
            "duplicates": 4,
            "nearDuplicates": 1,
            "tooSmall": 1,
            "leakage": 0,
        },
        "leakage": {
            "evaluated": images * 3 // 10,
            "leaked": 2,
            "sharedGroups": 0,
            "found": [{"kind": "NearDuplicate", "split": "test", "other": "train", "images": 2}],
        },
        "files": {"found": images + 11, "images": images, "annotations": 1, "excluded": 10},
        "excluded": [
            {"reason": "Duplicate", "files": 4, "first": ["again.png"]},
            {"reason": "Corrupt", "files": 3, "first": ["cut.png"]},
            {"reason": "Hidden", "files": 3, "first": [".DS_Store"]},
        ],
    }


def trained(figure: float) -> dict[str, Any]:
    """The result of a training."""
    return {
        "metrics": {
            "test/mAP50": figure,
            "test/recall": figure + 0.1,
            "slice/site/reef/mAP50": figure - 0.1,
            "slice/site/bay/mAP50": figure,
            "worst/site/mAP50": figure - 0.1,
            "export/difference": 0.001,
        },
        "slices": [
            {
                "field": "site",
                "metric": "mAP50",
                "worst": "reef",
                "slices": [
                    {"value": "reef", "images": 9, "objects": 20},
                    {"value": "bay", "images": 30, "objects": 70},
                ],
            }
        ],
        "epochs": 10,
        "model": {
            "uri": "store/models/m",
            "onnxSha256": "b" * 64,
            "manifestSha256": "c" * 64,
            "task": "Detection",
            "labels": list(CLASSES),
        },
    }


async def prepare(
    stage: Stage, name: str, number: int, images: int, *, comes_to: str = "VersionReady", **more: Any
) -> None:
    """Create a Dataset and its version; ``more`` are fields of its spec."""
    site = stage.site
    site.volumes.put(f"{name}/1.png", "pixels")
    await stage.create("Dataset", name, {"source": {"volume": {"path": name}}, "task": "Detection", **more})
    await site.wait("Dataset", name, has_reason("Queued"))
    run = stage.run("dataset", stage.uids[name])
    site.real.leave(run, prepared(number, images))
    site.real.pipelines.succeed(run)
    await site.wait("Dataset", name, has_reason(comes_to))


async def renew(stage: Stage, name: str, number: int, images: int) -> None:
    """Change the content and create its version: versions beyond spec.history.keep are then removed."""
    site = stage.site
    known = {*site.real.pipelines.runs}
    site.volumes.put(f"{name}/2.png", "more")
    await site.wait("Dataset", name, has_reason("Queued"))
    (run,) = {*site.real.pipelines.runs} - known
    site.real.leave(run, prepared(number, images))
    site.real.pipelines.succeed(run)
    await site.wait("Dataset", name, lambda body: "removing" in (body["status"].get("removals") or {}))


async def submit(stage: Stage, name: str) -> RunName:
    """Create a TrainingRun whose pipeline waits; returns the name of the pipeline run."""
    spec = {
        "datasetRef": {"name": "plankton"},
        "model": {"architecture": "yolov8n"},
        "hyperparameters": {"epochs": 10, "imageSize": 64},
        "gates": [
            {"metric": "test/mAP50", "minimum": "0.5"},
            {"metric": "test/recall", "minimum": "0.4"},
            {"metric": "export/difference", "maximum": "0.01"},
            {"metric": "test/mAP50", "champion": {}},
        ],
        "register": {"model": f"{name}-detector", "alias": "champion"},
    }
    await stage.create("TrainingRun", name, spec)
    await stage.site.wait("TrainingRun", name, has_reason("Queued"))
    return stage.run("training", stage.uids[name])


async def launch(stage: Stage, name: str) -> RunName:
    """Create a TrainingRun whose pipeline runs; returns the name of the pipeline run."""
    run = await submit(stage, name)
    stage.site.real.pipelines.start(run)
    now = datetime.now(UTC)
    admitted = Queueing("runs", since=now - timedelta(seconds=90), admitted_at=now - timedelta(seconds=1))
    stage.site.real.pipelines.queue(run, admitted)
    stage.site.real.tell(run, {"stage": "Training", "ended": [{"stage": "Preparation", "seconds": 4}]})
    return run


async def finish(stage: Stage, run: RunName, figure: float) -> None:
    """Have the training's pipeline succeed after some time."""
    await asyncio.sleep(2)
    stage.site.real.leave(run, trained(figure))
    stage.site.real.pipelines.succeed(run)


async def epochs(stage: Stage, name: str, last: int) -> None:
    """Have a training finish epochs up to ``last``, one every second and a half."""
    (tracked,) = await stage.site.real.tracking.find_runs(stage.uids[name])
    for epoch in range(1, last + 1):
        await stage.site.real.tracking.log_metric(tracked.id, "progress/epoch", epoch)
        await asyncio.sleep(1.5)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, rules_file: Path) -> AsyncIterator[Stage]:
    """The site with everything around it; all is well after a few seconds."""
    folder = tmp_path_factory.mktemp("monitored")
    text = await asyncio.to_thread(rules_file.read_text, encoding="utf-8")
    plane = await asyncio.to_thread(start_control_plane, folder / "plane")
    port = free_port()
    before = os.environ.get("PELAGOS_METRICS_PORT")
    os.environ["PELAGOS_METRICS_PORT"] = str(port)
    site = MonitoredSite(plane, "plankton", folder / "home")
    triton, state, prometheus = Triton(folder / "triton"), StateMetrics(site), Prometheus(folder / "prometheus")
    made = Stage(site, triton, state, prometheus, port)
    hub_port, gateway_port = free_port(), free_port()
    # The metrics of a hub without visitors, and of a gateway with streams.
    hub, _ = start_http_server(hub_port, "127.0.0.1", HubMetrics().registry)
    gateway, _ = start_http_server(gateway_port, "127.0.0.1", _with_streams().registry)
    try:
        await asyncio.to_thread(plane.apply_crds)
        await asyncio.to_thread(plane.create_namespace, site.namespace)
        await site.start_operator()
        await asyncio.gather(triton.start(), state.start())
        rules = shortened(yaml.safe_load(text), DIVISOR)
        targets: dict[str, dict[str, Any]] = {
            "pelagos-operator": {"targets": [f"127.0.0.1:{port}"]},
            "pelagos-model-servers": {
                "targets": [f"127.0.0.1:{triton.metrics_port}"],
                "labels": {"namespace": "plankton"},
            },
            "pelagos-hub": {"targets": [f"127.0.0.1:{hub_port}"]},
            "pelagos-gateway": {"targets": [f"127.0.0.1:{gateway_port}"]},
            "kube-state-metrics": {"targets": [f"127.0.0.1:{state.port}"]},
        }
        await asyncio.to_thread(prometheus.start, rules, targets)
        async with _surroundings(made):
            yield made
    finally:
        if before is None:
            os.environ.pop("PELAGOS_METRICS_PORT")
        await site.stop_operator()
        for server in (hub, gateway):
            await asyncio.to_thread(server.shutdown)
            server.server_close()
        await asyncio.gather(triton.stop(), state.stop(), *map(asyncio.to_thread, (prometheus.stop, plane.stop)))


def _with_streams() -> GatewayMetrics:
    made = GatewayMetrics()
    made.envoy.set(1)
    made.streams_limit.set(AT_ONCE)
    for name, count in (("plankton-service", 3), ("benthos-service", 1)):
        made.streams(f"plankton/{name}", count)
    return made


@contextlib.asynccontextmanager
async def _surroundings(stage: Stage) -> AsyncIterator[None]:
    """Clients that send requests, and a cluster that is busy."""
    site = stage.site
    async with aiohttp.ClientSession() as session:
        tasks = [
            asyncio.create_task(repeat(lambda: stage.send(session), 0.1, lambda: False)),
            asyncio.create_task(repeat(site.touch_all, 1, lambda: site.frozen)),
            asyncio.create_task(repeat(stage.state.look, 1, lambda: site.frozen)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def well(stage: Stage) -> Stage:
    """Datasets, a trained model and services that answer right; a training in progress."""
    await prepare(stage, "plankton", 1, 1000)
    await prepare(stage, "benthos", 2, 340)
    await finish(stage, await launch(stage, "good"), 0.71)
    await stage.site.wait("TrainingRun", "good", is_ready)
    for name in SERVICES:
        await stage.create("ModelService", f"{name}-service", {"model": {"trainingRunRef": {"name": "good"}}})
    for name in SERVICES:
        await stage.site.wait("ModelService", f"{name}-service", is_ready)
    await launch(stage, "stuck")
    await epochs(stage, "stuck", 4)
    return stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def incidents(well: Stage) -> Stage:
    """Everything goes wrong at once."""
    site, real = well.site, well.site.real
    await well.create("Dataset", "empty", {"source": {"volume": {"path": "nowhere"}}, "task": "Detection"})
    await well.create(
        "TrainingRun", "misfit", {"datasetRef": {"name": "plankton"}, "model": {"architecture": "mobilenet_v3_small"}}
    )
    await well.create("Trial", "early", {"modelServiceRef": {"name": "plankton-service"}})
    await site.wait("Trial", "early", has_reason("GatewayNotSetUp"))
    site.volumes.cursed.add("cursed")
    await well.create("Dataset", "cursed", {"source": {"volume": {"path": "cursed"}}, "task": "Detection"})
    await finish(well, await launch(well, "poor"), 0.31)
    await site.wait("TrainingRun", "poor", has_reason("GateFailed"))
    await prepare(well, "thin", 3, 90, comes_to="QualityFailed", quality={"minImagesPerClass": 100})
    await prepare(well, "shrinks", 4, 60, refresh="1s", history={"keep": 1})
    await renew(well, "shrinks", 5, 70)
    archive = {"http": {"url": "https://images.example/survey.zip", "sha256": "a" * 64}}
    await well.create("Dataset", "closed", {"source": archive, "task": "Detection"})
    await site.wait("Dataset", "closed", has_reason("Queued"))
    denied = {"reason": "SourceAccessDenied", "message": "images.example answers 403", "field": "source.http.secretRef"}
    real.refuse(well.run("dataset", well.uids["closed"]), denied)
    await site.wait("Dataset", "closed", has_reason("SourceAccessDenied"))
    since = datetime.now(UTC) - timedelta(hours=13)
    behind = Queueing("runs", since, None, 3, "insufficient unused quota for cpu in flavor default")
    real.pipelines.queue(await submit(well, "crowded"), behind)
    site.serving.wrong.add(well.uids["plankton-service"])
    site.serving.slow.add(well.uids["benthos-service"])
    site.serving.loading.add(well.uids["zooplankton-service"])
    site.serving.kill(well.uids["zooplankton-service"])
    real.tracking.outage = real.registry.outage = True
    well.failing = True
    return well


async def test_nothing_fires_while_all_is_well(well: Stage) -> None:
    await asyncio.sleep(5)

    await well.until("nothing fires", lambda: not well.prometheus.firing())


async def test_promtool_finds_no_fault_in_the_scrape(well: Stage, promtool: Promtool) -> None:
    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{well.operator_port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(scrape)

    assert (await asyncio.to_thread(promtool, "check", "metrics", text=text)).strip() == ""


async def test_a_request_that_the_model_refuses_is_no_failure_of_the_service(well: Stage) -> None:
    """An image that cannot be decoded gets an error answer; bad clients must not spend the error budget.

    Measured with Triton 2.51.
    """
    failures, refusals = "sum(nv_inference_request_failure)", "sum(pelagos_refused_images_total)"

    def are_scraped() -> bool:
        found = well.prometheus.query(refusals)
        return bool(found) and float(found[0]["value"][1]) >= 5

    async with aiohttp.ClientSession() as session:
        answered = [await well.triton.ask(session, REFUSED) for _ in range(5)]
    assert not any(answered)
    await well.until("the refusals are scraped", are_scraped)

    (found,) = await asyncio.to_thread(well.prometheus.query, failures)
    assert found["value"][1] == "0"


INCIDENTS = {
    "PelagosResourceStalled": {"kind": "TrainingRun", "name": "misfit", "reason": "TaskMismatch"},
    "PelagosResourceWaitsLong": {"kind": "Dataset", "name": "empty", "reason": "SourceNotFound"},
    "PelagosSourceNotFetched": {"source": "http", "reason": "SourceAccessDenied"},
    "PelagosRunQueuedLong": {"namespace": "plankton", "name": "crowded", "queue": "runs", "severity": "info"},
    "PelagosReconcileErrors": {"kind": "Dataset"},
    "PelagosQualityFailed": {"namespace": "plankton", "name": "thin", "outcome": "blocked", "severity": "warning"},
    "PelagosGateFailed": {"namespace": "plankton", "name": "poor"},
    "PelagosRemovalStuck": {"namespace": "plankton", "name": "shrinks"},
    "PelagosTrainingWithoutProgress": {"namespace": "plankton", "name": "stuck"},
    "PelagosModelProbeFailing": {"namespace": "plankton", "name": "plankton-service", "severity": "critical"},
    "PelagosModelServiceDown": {"namespace": "plankton", "name": "zooplankton-service"},
    "PelagosOutboundFailing": {"system": "mlflow"},
    "PelagosLatencyBudgetBurn": {"severity": "critical"},
    "PelagosErrorBudgetBurn": {"namespace": "plankton", "model": MODEL, "severity": "critical"},
    "PelagosErrorBudgetSpent": {"namespace": "plankton", "model": MODEL},
}


@pytest.mark.parametrize("alert", INCIDENTS)
async def test_an_incident_is_reported(incidents: Stage, alert: str) -> None:
    labels = INCIDENTS[alert]

    await incidents.until(f"{alert} {labels}", lambda: incidents.prometheus.fires(alert, **labels))


async def test_nothing_else_is_reported(incidents: Stage) -> None:
    def told() -> bool:
        firing = incidents.prometheus.firing()
        about = {(alert["alertname"], alert["name"]) for alert in firing if "name" in alert}
        return about == NAMED and {alert["alertname"] for alert in firing} <= INCIDENTS.keys()

    await incidents.until("just these", told)


NAMED = {
    ("PelagosResourceStalled", "misfit"),
    ("PelagosResourceStalled", "closed"),
    ("PelagosResourceWaitsLong", "empty"),
    ("PelagosRunQueuedLong", "crowded"),
    ("PelagosQualityFailed", "thin"),
    ("PelagosGateFailed", "poor"),
    ("PelagosRemovalStuck", "shrinks"),
    ("PelagosTrainingWithoutProgress", "stuck"),
    ("PelagosModelProbeFailing", "plankton-service"),
    # A service that answers wrong is not Ready, either.
    ("PelagosModelServiceDown", "plankton-service"),
    ("PelagosModelServiceDown", "zooplankton-service"),
}


QUERIES = [
    pytest.param(panel, query.expression, id=f"{board.name}: {panel.title}")
    for board in DASHBOARDS
    for panel in board.panels()
    for query in panel.queries
]


def filled(expression: str) -> str:
    """An expression after Grafana has filled in its variables."""
    return expression.replace("$__rate_interval", "5s").replace("$namespace", ".*")


@pytest.mark.parametrize(("panel", "expression"), QUERIES)
async def test_a_query_of_a_dashboard_gives_data(incidents: Stage, panel: Panel, expression: str) -> None:
    found: list[Mapping[str, Any]] = []

    def gives_data() -> bool:
        found[:] = incidents.prometheus.query(filled(expression))
        return any(not math.isnan(float(series["value"][1])) for series in found)

    await incidents.until(f"data for {expression}", gives_data, 20)
    for query in (query for query in panel.queries if query.expression == expression):
        for label in query.legend.replace("}}", "{{").split("{{")[1::2]:
            assert all(label in series["metric"] for series in found), f"{label} is in the legend and in no series"
    # A cell stays empty where a series has no such label: a gate has one bound of three.
    for column in panel.columns:
        assert any(column in series["metric"] for series in found), f"{column} is a column and no label"


async def test_the_tiles_of_the_fleet_add_up_to_all_resources(incidents: Stage) -> None:
    titles = ("Ready", "In progress", "Recovering or suspended", "Waiting for a person")
    (glance, *_) = next(board.rows for board in DASHBOARDS if board.name == "fleet")
    tiles = [panel.queries[0].expression for panel in glance.panels if panel.title in titles]
    assert len(tiles) == len(titles)

    def shown(expression: str) -> float:
        (found,) = incidents.prometheus.query(expression)
        return float(found["value"][1])

    # All from one moment: resources move from one tile to another between queries.
    await incidents.until(
        "the same number",
        lambda: shown(" + ".join(f"({tile})" for tile in tiles)) == shown("sum(pelagos_resources)") > 0,
    )


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.name)
async def test_the_namespaces_of_a_dashboard_are_found(incidents: Stage, board: Dashboard) -> None:
    ask = incidents.prometheus.ask
    parameters = {"match[]": board.namespaces, "start": str(incidents.began)}

    assert await asyncio.to_thread(lambda: ask("label/namespace/values", **parameters)) == ["plankton"]


async def test_alerts_end_when_their_causes_are_gone(incidents: Stage) -> None:
    site, real = incidents.site, incidents.site.real
    real.tracking.outage = real.registry.outage = False
    incidents.failing = False
    site.volumes.cursed.clear()
    for path in ("nowhere", "cursed"):
        site.volumes.put(f"{path}/1.png", "pixels")
    for faults in (site.serving.wrong, site.serving.slow, site.serving.loading):
        faults.clear()
    site.serving.finish_loading(incidents.uids["zooplankton-service"])
    await finish(incidents, incidents.run("training", incidents.uids["stuck"]), 0.68)
    now = datetime.now(UTC)
    real.pipelines.queue(incidents.run("training", incidents.uids["crowded"]), Queueing("runs", now, now))
    runs = real.pipelines.runs
    shrinks = incidents.uids["shrinks"]
    (removal,) = [
        name for name, run in runs.items() if shrinks in run.request.labels.values() and run.run.state not in FINISHED
    ]
    gone = {"removed": [f"sha256:{4:064x}"], "images": 60, "freedBytes": 6000}
    real.leave(removal, {**gone, "keptVersions": 1, "keptImages": 70, "keptBytes": 7000})
    real.pipelines.succeed(removal)
    # A gate that asked too much is corrected; nothing is trained again.
    lower = [{"metric": "test/mAP50", "minimum": "0.3"}, {"metric": "test/recall", "minimum": "0.4"}]
    await site.patch("TrainingRun", "poor", {"spec": {"gates": lower}})
    await site.patch("Dataset", "thin", {"spec": {"quality": None}})
    await site.delete("TrainingRun", "misfit")
    await site.delete("Dataset", "closed")

    # The used part of a month's error budget stays used.
    for alert in INCIDENTS.keys() - {"PelagosErrorBudgetSpent"}:
        await incidents.until(f"{alert} ends", functools.partial(incidents.prometheus.is_silent, alert))


async def test_what_was_seen_can_be_drawn(incidents: Stage) -> None:
    end = time.time()

    drawn = await asyncio.to_thread(_drawn, incidents.prometheus, incidents.began, end)

    assert all(panel["series"] for board in drawn["dashboards"] for panel in board["panels"])
    if target := os.environ.get("PELAGOS_DASHBOARD_DATA"):
        await asyncio.to_thread(Path(target).write_text, json.dumps(drawn), encoding="utf-8")


def _drawn(prometheus: Prometheus, start: float, end: float) -> dict[str, Any]:
    """All panels with their data: over time, or as they were at the height of the incidents."""
    incidents = prometheus.query_range("count(ALERTS{alertstate='firing'})", start, end, 0.5)
    height = max(incidents[0]["values"], key=lambda point: (float(point[1]), -point[0]))[0]
    boards = []
    for board in DASHBOARDS:
        panels = []
        for panel in board.panels():
            series = []
            for query in panel.queries:
                asked = filled(query.expression)
                if panel.form == "timeseries":
                    found = prometheus.query_range(asked, start, end, 0.5)
                else:
                    found = prometheus.ask("query", query=asked, time=str(height))["result"]
                series += [{**entry, "legend": query.legend} for entry in found]
            panels.append({"title": panel.title, "series": series})
        boards.append({"name": board.name, "panels": panels})
    return {"start": start, "end": end, "at": height, "dashboards": boards}


async def test_a_silent_watch_is_reported(incidents: Stage) -> None:
    fires = incidents.prometheus.fires
    with incidents.site.api_server_stands_still():
        for kind in KINDS:
            silent = functools.partial(fires, "PelagosWatchStale", kind=kind.kind)
            await incidents.until(f"silence of {kind.kind}", silent)

    await incidents.until("the watch speaks", lambda: not fires("PelagosWatchStale"))


async def test_an_operator_that_is_gone_is_reported(incidents: Stage) -> None:
    await incidents.site.stop_operator()
    await incidents.until("the operator is missed", lambda: incidents.prometheus.fires("PelagosOperatorDown"))

    await incidents.site.start_operator()
    await incidents.until("it is back", lambda: not incidents.prometheus.fires("PelagosOperatorDown"))
