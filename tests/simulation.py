"""The operator's loop and reconcilers over the shipped fakes, in virtual time: an hour passes in milliseconds.

The test controls users, the data plane and faults. Everything outside the operator's process outlives it: ``restart`` begins a
new life with an empty cache. Every status that is written is audited.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import logging
import os
import selectors
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import auditing
import kstatus
from pelagos.api import kinds
from pelagos.api.kinds import Kind
from pelagos.decisions.moments import timestamp
from pelagos.ports.authority import Authority
from pelagos.ports.clock import Aging
from pelagos.ports.cluster import Key
from pelagos.ports.errors import OutageError
from pelagos.ports.fakes.authority import KeysFake, reported
from pelagos.ports.fakes.cluster import ClusterFake, Watcher
from pelagos.ports.fakes.hub import HubKeyFake
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.fakes.pipelines import FakeRun, PipelinesFake
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.tenants import TenantsFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.gateway import Gateway
from pelagos.ports.marks import mutating_methods
from pelagos.ports.pipelines import RunName, RunState
from pelagos.reconcilers import driver
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.datasets import DatasetReconciler
from pelagos.reconcilers.dependencies import PORTS as ALL_PORTS
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.driver import Pass
from pelagos.reconcilers.loop import Loop
from pelagos.reconcilers.model_services import ModelServiceReconciler
from pelagos.reconcilers.probes import Probes
from pelagos.reconcilers.training_runs import TrainingRunReconciler
from pelagos.reconcilers.trials import TrialReconciler
from pelagos_contract.sealing import PROGRESS, REPORT
from pelagos_contract.sources import Source

T = TypeVar("T")
BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FRAMES = Key("Dataset", "default", "frames")
DETECTOR = Key("TrainingRun", "default", "detector")
SERVICE = Key("ModelService", "default", "detector")
RECONCILERS = {
    reconciler.kind.kind: reconciler
    for reconciler in (DatasetReconciler(), TrainingRunReconciler(), ModelServiceReconciler(), TrialReconciler())
}


class CrashError(BaseException):
    """The operator's process ends here. It derives from BaseException, so that no handler of the operator catches it."""


class _Selector(selectors.SelectSelector):
    """Advances the time instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        # All fakes are in memory, so nothing but a timer can wake the loop: the time may jump to the next one.
        self.now += max(timeout, 0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in which sleeping takes no time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class LoopClock(Aging):
    """The clocks of the virtual time; ``set`` fixes the time of day, by which the outside world writes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wrong: Callable[[], timedelta] = timedelta) -> None:
        super().__init__()
        self._loop = loop
        self._wrong = wrong

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self._loop.time()) + self._wrong()

    def elapsed(self) -> float:
        return self._loop.time()


@dataclass
class Fault:
    """What happens at the ``call``-th call of a port, or at every call of one name: it ``crashes``, or is an outage.

    Before the effect, or ``after`` it.
    """

    call: int | str
    crashes: bool
    after: bool


CHANGES = frozenset(f"{port}.{name}" for port, protocol in ALL_PORTS.items() for name in mutating_methods(protocol))
"""Calls that change something outside, named as in ``OperatorProcess.calls``."""


def faults(calls: Sequence[str], *, crashes: bool) -> Iterator[Fault]:
    """Faults at the calls of one life: each distinct call once, or every call when THOROUGH.

    A call that only reads fails in the same way before and after, and at any time between two changes. A crash between two
    changes is the same wherever it happens, because the results of reads are lost too.
    """
    looked: set[str] = set()
    for number, label in enumerate(calls, 1):
        changes = THOROUGH or label in CHANGES
        if changes:
            looked.clear()
        if THOROUGH or number == 1 or not (crashes or label in looked):
            yield Fault(number, crashes=crashes, after=False)
        if changes:
            yield Fault(number, crashes=crashes, after=True)
        looked.add(label)


@dataclass
class OperatorProcess:
    """One life of the operator's process: its memory, and the calls that it made."""

    dependencies: Dependencies
    loop: Loop
    watcher: Watcher
    calls: list[str]
    fault: Fault | None
    dead: bool = False


class Fragile:
    """A port of an operator that can crash: counts calls, and fails at the one that the fault names."""

    def __init__(self, port: object, name: str, simulation: Simulation) -> None:
        self._port = port
        self._name = name
        self._simulation = simulation

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if not inspect.iscoroutinefunction(member):
            return member
        label = f"{self._name}.{name}"

        async def call(*arguments: Any, **named: Any) -> Any:
            # `suffer` raises: before the call nothing has happened, after it the effect stays without the operator's knowledge.
            fault = self._simulation.note(label)
            if fault is not None and not fault.after:
                self._simulation.suffer(fault, label)
            result = await member(*arguments, **named)
            if fault is not None:
                self._simulation.suffer(fault, label)
            return result

        return call


@dataclass
class DataPlane:
    """The pipeline steps as the operator sees them: every run starts at once and takes ``seconds``.

    ``failures`` and ``interruptions`` say how the next runs of a flow end; ``metrics`` are what trainings report.
    """

    simulation: Simulation
    seconds: float = 3.0
    halted: bool = False
    metrics: dict[str, float] = field(default_factory=lambda: {"test/mAP50": 0.8, "test/mAP50-95": 0.4})
    classes: list[str] = field(default_factory=lambda: ["copepod"])
    warnings: list[str] = field(default_factory=list)
    captured: tuple[str, ...] = ()
    """Fields of capture that all images of dataset versions have; if empty, versions say nothing of capture."""
    empty: frozenset[str] = frozenset()
    """Splits of dataset versions that have no images."""
    failures: list[dict[str, str]] = field(default_factory=list)
    interruptions: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    """Records in the repository that Datasets are published in."""
    published: int = 0
    """How many runs published."""
    evidence_folder: str = ""
    """Where trainings report that they left their evidence; empty: beside the package."""
    keeps_evidence: bool = True
    """Whether trainings leave evidence; those of earlier releases did not."""
    known_answers: dict[str, dict[str, float]] = field(default_factory=dict)
    """Metrics by the digest of their evidence."""
    _measured: dict[RunName, dict[str, float]] = field(default_factory=dict)
    refused: list[RunName] = field(default_factory=list)
    """Publishing runs that failed, one by one."""
    _begun: dict[tuple[RunName, int], float] = field(default_factory=dict)

    async def work(self) -> None:
        """Move all runs forward every half second, until canceled."""
        while True:
            await asyncio.sleep(0.5)
            if not self.halted:
                for name, known in list(self.simulation.pipelines.runs.items()):
                    self._advance(name, known)

    def finish(self, name: RunName) -> None:
        """Start a run and end it at once."""
        self.simulation.pipelines.start(name)
        self._end(name, self.simulation.pipelines.runs[name])

    def end(self, name: RunName) -> None:
        """Successfully end a run in progress now, while the data plane is halted."""
        self._end(name, self.simulation.pipelines.runs[name])

    def _advance(self, name: RunName, known: FakeRun) -> None:
        if known.run.state is RunState.PENDING:
            self.simulation.pipelines.start(name)
        elif known.run.state is RunState.RUNNING and known.run.started_at is not None:
            begun = self._begun.setdefault((name, known.run.attempt), self.simulation.clock.elapsed())
            if begun + self.seconds <= self.simulation.clock.elapsed():
                self._end(name, known)
            elif known.request.flow == "training":
                self._tell_progress(known)

    def _end(self, name: RunName, known: FakeRun) -> None:
        report = self._path(known, "report")
        if self.interruptions:
            self.interruptions -= 1
            self.simulation.pipelines.interrupt(name)
        elif self.failures:
            self._report(known, "failure", self.failures.pop(0))
            self.simulation.pipelines.fail(name, "a step ended with an error")
        else:
            self.simulation.objects.files.pop(f"{report}/failure.json", None)
            does = self._train if known.request.flow == "training" else self._prepare
            asked = json.loads(known.request.parameters["request"])
            others = {"remove": self._remove, "publish": self._publish, "discard": self._discard}
            does = next((other for name, other in others.items() if name in asked), does)
            result = does(known)
            self._report(known, "result", result)
            self.simulation.pipelines.succeed(name)

    def tell(self, name: RunName, content: dict[str, Any]) -> None:
        """Have a step of the run report its progress."""
        self._report(self.simulation.pipelines.runs[name], "progress", content, PROGRESS)

    def _report(self, known: FakeRun, name: str, content: dict[str, Any], purpose: str = REPORT) -> None:
        sealed = reported(self.simulation.authority, known.request, content, purpose)
        self.simulation.objects.put(f"{self._path(known, 'report')}/{name}.json", sealed)

    def _tell_progress(self, known: FakeRun) -> None:
        tracked = self.simulation.tracking.runs.get(known.request.parameters["tracking_run"])
        if tracked is not None:
            progress = {"progress/epoch": 4.0, "progress/seconds_per_epoch": 0.3}
            self.simulation.tracking.runs[tracked.id] = _with_metrics(tracked, progress)

    def _prepare(self, known: FakeRun) -> dict[str, Any]:
        request = json.loads(known.request.parameters["request"])
        request.pop("retry", None)  # no part of the recipe
        path = Source.model_validate(request["source"]).path or ""
        root = known.request.parameters["data_root"].removeprefix(self.simulation.volumes.root).strip("/")
        inside = f"{root}/{path}" if root else path  # of a tenant's part of the volume
        files = {name: text for name, text in self.simulation.volumes.files.items() if name.startswith(inside)}
        digest = _sha256([request, sorted(files.items())])
        uri = f"{known.request.parameters['store']}/versions/{digest}"
        self.simulation.objects.put(f"{self._path(known, 'store')}/versions/{digest}/manifest.json", {})
        splits = {name: {"images": 0 if name in self.empty else len(files)} for name in ("train", "validation", "test")}
        quality = {"found": len(files), "corrupt": 0, "duplicates": 0, "nearDuplicates": 0, "tooSmall": 0, "leakage": 0}
        counts = {"images": len(files), "annotations": len(files)}
        classes = [{"name": name, **counts} for name in self.classes]
        result = {"version": f"sha256:{digest}", "uri": uri, **counts, "classes": classes, "splits": splits}
        known_of = [{"field": name, "known": len(files), "unknown": 0} for name in self.captured]
        result |= {"capture": {"fields": known_of, "findings": []}} if known_of else {}
        return result | {"quality": quality, "warnings": self.warnings}

    def _remove(self, known: FakeRun) -> dict[str, Any]:
        asked, store = json.loads(known.request.parameters["request"])["remove"], self._path(known, "store")
        files = self.simulation.objects.files
        for version in asked:
            files.pop(f"{store}/versions/{version.removeprefix('sha256:')}/manifest.json", None)
        kept = [path for path in files if path.startswith(f"{store}/versions/")]
        counts = {"images": 2 * len(asked), "freedBytes": 100 * len(asked)}
        return {"removed": asked, **counts, "keptVersions": len(kept), "keptImages": 9, "keptBytes": 900}

    def _publish(self, known: FakeRun) -> dict[str, Any]:
        """Publish as tests/publishing/test_publication.py shows of the real one: each version once, one draft per Dataset."""
        asked = json.loads(known.request.parameters["request"])
        mine = [each for each in self.records if each["owner"] in asked["owners"]]
        found = next((each for each in mine if each["version"] == asked["version"] and each["published"]), None)
        found = found or next((each for each in mine if not each["published"]), None)
        if found is None:
            concept = mine[0]["concept"] if mine else f"10.5281/zenodo.{100 + 100 * len(self.records)}"
            found = {"concept": concept, "number": str(101 + 10 * len(self.records)), "published": False}
            self.records.append(found)
        found |= {"owner": asked["owners"][-1], "version": asked["version"]}
        found["published"] |= asked["publish"]["state"] == "Published"
        self.published += 1
        return {
            "version": found["version"],
            "state": "Published" if found["published"] else "Draft",
            "server": asked["publish"]["url"],
            "record": found["number"],
            "url": f"{asked['publish']['url']}/records/{found['number']}",
            "doi": f"10.5281/zenodo.{found['number']}",
            "conceptDoi": found["concept"],
            "at": "2026-03-01T12:30:00Z",
            "retry": asked["retry"],
        }

    def _discard(self, known: FakeRun) -> dict[str, Any]:
        owners = json.loads(known.request.parameters["request"])["owners"]
        gone = [each for each in self.records if each["owner"] in owners and not each["published"]]
        self.records = [each for each in self.records if each not in gone]
        return {"discarded": [each["number"] for each in gone]}

    def _train(self, known: FakeRun) -> dict[str, Any]:
        """A further attempt measures nothing again, and compares only with the champions that it is given."""
        asked = json.loads(known.request.parameters["request"])
        compared = asked.pop("champions", [])
        metrics = self._measured.setdefault(known.run.name, dict(self.metrics))
        onnx = _sha256([asked, metrics])
        path = f"{self._path(known, 'store')}/{onnx}/package.json"
        self.simulation.objects.put(path, {"onnxSha256": onnx})
        manifest = hashlib.sha256(self.simulation.objects.files[path].encode()).hexdigest()
        uri = f"{known.request.parameters['store']}/{onnx}"
        package = {"uri": uri, "onnxSha256": onnx, "manifestSha256": manifest}
        evidence = {
            "uri": f"{self.evidence_folder or uri}.npz",
            "sha256": f"sha256:{_sha256([known.run.name, metrics])}",
            "test": "sha256:one",
        }
        self.known_answers[evidence["sha256"]] = metrics
        self.simulation.objects.put(f"{path.removesuffix('/package.json')}.documents/report.html", {})
        documents = [{"name": "report.html", "sha256": "0" * 64, "bytes": 2}]
        result = {"metrics": metrics, "epochs": 10, "model": package, "evidence": evidence, "documents": documents}
        if not self.keeps_evidence:
            del result["evidence"]
        if compared:
            result["champions"] = [self._compared(metrics, each) for each in compared]
        return result

    def _compared(self, metrics: dict[str, float], champion: dict[str, str]) -> dict[str, Any]:
        """Two models differ by the difference of their metrics, plus or minus a hundredth."""
        before, differences = self.known_answers[champion["evidenceSha256"]], {}
        for name, value in metrics.items():
            difference = value - before[name]
            known = {"value": value, "champion": before[name], "low": difference - 0.01, "high": difference + 0.01}
            differences[name.removeprefix("test/")] = known
        told = {"name": champion["name"], "version": champion["version"], "evidenceSha256": champion["evidenceSha256"]}
        return told | {"level": 0.95, "metrics": differences}

    def _path(self, known: FakeRun, parameter: str) -> str:
        path = self.simulation.objects.path(known.request.parameters[parameter])
        assert path is not None
        return path


class Simulation:
    """A world in memory, with the operator in it."""

    def __init__(self) -> None:
        kstatus.require()
        self.event_loop = VirtualTimeLoop()
        self.wrong = timedelta()
        """By how much the time of day is wrong, for everyone: the embedded mode runs on one machine."""
        self.clock = self.new_clock()
        self.cluster = ClusterFake()
        self.cluster.created = lambda: timestamp(self.clock.now())
        self.pipelines = PipelinesFake(clock=self.clock)
        self.tracking = TrackingFake()
        self.registry = RegistryFake()
        self.serving = ServingFake()
        self.objects = ObjectsFake()
        self.volumes = VolumesFake()
        self.tenants = TenantsFake()
        self.keys = KeysFake()
        self.gateway = Gateway("https://models.example.org", "models.example.org:8443")
        self.hub_key = HubKeyFake()
        self.authority = Authority(self.keys)
        self.data_plane = DataPlane(self)
        self.auditor = auditing.Auditor({kind: known.conditions for kind, known in RECONCILERS.items()})
        self.cluster.watch(Watcher(self.auditor.look, self.auditor.forget, lags=False))
        self.tracebacks = auditing.Tracebacks()
        logging.getLogger("pelagos").addHandler(self.tracebacks)
        self.life: OperatorProcess | None = None
        self._working = self.event_loop.create_task(self.data_plane.work())

    def new_clock(self) -> LoopClock:
        return LoopClock(self.event_loop, lambda: self.wrong)

    def start(self, fault: Fault | None = None, *, workers: int = 4, leading: bool = True) -> OperatorProcess:
        life = self.prepare(fault, workers=workers)
        self.event_loop.run_until_complete(self._start(life, leading))
        return life

    def prepare(self, fault: Fault | None = None, *, workers: int = 4) -> OperatorProcess:
        """Begin a life that only ``make_pass`` moves."""
        clock = self.new_clock()  # What it remembers ends with the life of the operator.
        world = Dependencies(
            clock=clock,
            cache=Cache(),
            authority=self.authority,
            probes=Probes(self.fragile("serving"), clock, timedelta(seconds=20)),
            gateway=self.gateway,
            hub_key=self.hub_key,
            **{name: self.fragile(name) for name in PORTS},
        )
        loop = Loop(world, RECONCILERS, workers)
        # As with a real server, the reply to a write arrives before the watch reports it.
        soon = self.event_loop.call_soon
        watcher = Watcher(
            seen=lambda resource: void(soon(loop.seen, resource)),
            gone=lambda key, uid: void(soon(loop.gone, key, uid)),
            list_asked=lambda kind: void(soon(loop.list_asked, kind)),
            page_came=lambda kind, version, found: void(soon(loop.page_came, kind, version, found)),
            list_ended=lambda kind, version, uids: void(soon(loop.list_ended, kind, version, uids)),
        )
        self.life = OperatorProcess(world, loop, watcher, [], fault)
        return self.life

    async def _start(self, life: OperatorProcess, leading: bool) -> None:
        life.loop.start(leading=leading)
        self.cluster.watch(life.watcher)

    def make_pass(self, key: Key) -> Pass:
        """Make one pass over the resource as it is now, without the loop."""
        life = self.life or self.prepare()
        for known in self.cluster.all():
            life.dependencies.cache.put(known)
        found = life.dependencies.cache.get(key)
        assert found is not None
        return self.ask(driver.reconcile(RECONCILERS[key.kind], found, life.dependencies))

    def fragile(self, name: str) -> Any:
        return Fragile(getattr(self, name), name, self)

    def note(self, label: str) -> Fault | None:
        """Record that the operator calls a port; returns the fault of this call, if any."""
        assert self.life is not None
        # Tasks of a dead process may still run in this one; they must not change anything outside.
        if self.life.dead:
            raise CrashError(label)
        self.serving.now = self.clock.now()
        self.life.calls.append(label)
        fault = self.life.fault
        return fault if fault is not None and fault.call in {len(self.life.calls), label} else None

    def suffer(self, fault: Fault, label: str) -> None:
        assert self.life is not None
        if fault.crashes:
            # A dead process hears nothing: events from now on are for the next life alone.
            self.life.dead = True
            self.cluster.unwatch(self.life.watcher)
            raise CrashError(label)
        raise OutageError(label.split(".", maxsplit=1)[0], "the reply was lost" if fault.after else "no route")

    def stop(self) -> None:
        """End the operator's life; the outside world continues."""
        if self.life is not None:
            self.event_loop.run_until_complete(self.life.loop.stop())
            if not self.life.dead:
                self.cluster.unwatch(self.life.watcher)
            self.life = None

    def restart(self, fault: Fault | None = None) -> OperatorProcess:
        self.stop()
        return self.start(fault)

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, in virtual seconds."""
        self.event_loop.run_until_complete(asyncio.sleep(seconds))

    def ask(self, answer: Coroutine[Any, Any, T]) -> T:
        return self.event_loop.run_until_complete(answer)

    def run_until(self, holds: Callable[[], bool], *, within: float = 120.0) -> None:
        """Let time pass until the condition holds; fails after ``within`` seconds."""
        end = self.event_loop.time() + within
        while not holds():
            assert self.event_loop.time() < end, f"not within {within} s\n{self.describe()}"
            self.run(0.25)

    def close(self) -> None:
        self.stop()
        self._working.cancel()
        self.run()
        self.event_loop.close()
        logging.getLogger("pelagos").removeHandler(self.tracebacks)

    def verify(self) -> None:
        """No write broke a promise, and the operator met no bug in itself."""
        assert not self.auditor.problems, "\n".join(self.auditor.problems)
        assert not self.tracebacks.found, "\n".join(self.tracebacks.found)

    def create(self, kind: Kind, name: str, spec: Any) -> Key:
        return self.cluster.create(kind, name, spec).key

    def state(self, key: Key) -> kstatus.Kstatus:
        found = self.cluster.get(key)
        assert found is not None, f"{key} is gone"
        return kstatus.read(found)

    def ready(self, key: Key) -> dict[str, Any]:
        """The condition Ready; empty if there is none."""
        found = self.cluster.get(key)
        assert found is not None, f"{key} is gone"
        return auditing.ready_condition(found) if found.status else {}

    def condition(self, key: Key, name: str) -> dict[str, Any]:
        found = self.cluster.get(key)
        assert found is not None
        return next(condition for condition in found.status["conditions"] if condition["type"] == name)

    def all_current(self) -> bool:
        return all(self.is_current(resource.key) for resource in self.cluster.all())

    def is_current(self, key: Key) -> bool:
        """Whether the resource is in the state that its spec asks for."""
        found = self.cluster.get(key)
        return found is not None and bool(found.status) and kstatus.read(found) is kstatus.Kstatus.CURRENT

    def versions(self) -> dict[Key, str]:
        """resourceVersion of every resource: unchanged if nobody wrote."""
        return {resource.key: resource.version for resource in self.cluster.all()}

    def outages(self, happening: bool) -> None:
        """Make all outside systems unreachable, or reachable again."""
        for name in PORTS:
            getattr(self, name).outage = happening

    def describe(self) -> str:
        return "\n".join(f"{resource.key}: {self.ready(resource.key)}" for resource in self.cluster.all())


THOROUGH = os.environ.get("PELAGOS_TEST_THOROUGH") == "1"
"""Whether to run more cases than nearly always suffice: `make test THOROUGH=1`."""
PORTS = ("cluster", "pipelines", "tracking", "registry", "serving", "objects", "volumes", "tenants")


@contextmanager
def simulation() -> Iterator[Simulation]:
    """A world with images on its volume and no resource yet."""
    world = Simulation()
    for number in range(12):
        world.volumes.put(f"samples/frames/{number}.png", f"image {number}")
    try:
        yield world
        world.verify()
    finally:
        world.close()


def apply_samples(world: Simulation, *, training: Any = None, service: Any = None, dataset: Any = None) -> None:
    """Apply the three usual resources; see ``builders`` for their specs."""
    import builders

    world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, dataset or {}))
    world.create(kinds.TRAINING_RUN, "detector", builders.changed(builders.TRAINING_RUN, training or {}))
    world.create(kinds.MODEL_SERVICE, "detector", builders.changed(builders.MODEL_SERVICE, service or {}))


def status(world: Simulation, key: Key) -> Any:
    found = world.cluster.get(key)
    assert found is not None
    return found.status


def void(_result: object) -> None:
    """Discard a result."""


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _with_metrics(tracked: Any, metrics: dict[str, float]) -> Any:
    from dataclasses import replace

    return replace(tracked, metrics={**tracked.metrics, **metrics})
