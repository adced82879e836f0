"""Overhead of the platform on preparing a Dataset in an embedded installation, and its cost at rest. Called by run.py."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import yaml

from bench import measuring, preparing
from bench.plan import Plan
from bench.results import Cell, Section

PATH = "samples/phytoplankton-crops"
_READY_SECONDS = 120
_FRAMEWORK = "import pelagos_pipelines.training.mobilenet_v3"
PARTS = ("etcd", "apiserver", "mlflow", "operator", "supervisor")


@dataclass(frozen=True)
class Followed:
    """Durations of one Dataset from the start of ``kubectl apply`` to Ready, in seconds. ``operator`` is processor time."""

    ready: float
    """Until ``kubectl wait`` reports Ready."""
    applied: float
    """Until ``kubectl apply`` ended."""
    begun: float
    """From there to the start of the pipeline run."""
    run: float
    """Duration of the pipeline run: kfp, the start of the step's process, the step."""
    noticed: float
    """From the run's end to Ready."""
    operator: float


@dataclass(frozen=True)
class Started:
    """Durations of one TrainingRun from the start of ``kubectl apply``, in seconds. ``imports``: only the framework's import."""

    first_batch: float
    imports: float


@dataclass(frozen=True)
class Rest:
    """An idle installation: for each part, processor milliseconds per second and memory in MiB."""

    cpu: dict[str, float]
    memory: dict[str, float]


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    repeats, seconds = plan.size(5, 2), plan.size(20.0, 4.0)
    if not (plan.data / PATH).exists():
        raise measuring.MeasurementError(f"{plan.data / PATH} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    plan.say("pelagos up")
    up = _pelagos(plan, "up")
    try:
        candidates: dict[str, Callable[[], Followed | float]] = {
            "apply": partial(_follow, plan),
            "step": partial(_prepare_alone, plan),
        }
        found = measuring.alternate(candidates, repeats, plan.say)
        started = [_first_batch(plan, number, plan.say) for number in range(repeats)]
        plan.say("at rest")
        rest = _rest(plan, seconds)
    finally:
        down = _pelagos(plan, "down")
    followed = [item for item in found["apply"] if isinstance(item, Followed)]
    alone = [item for item in found["step"] if isinstance(item, float)]
    return Section(
        title="Platform",
        reading=plan.reading(path=PATH, seconds=f"{seconds:.0f}"),
        columns=["", "s", "CPU ms per second", "memory, MiB"],
        rows=_rows(followed, alone, started, rest, (up, down)),
        details={
            "followed": [asdict(item) for item in followed],
            "step": alone,
            "first batch": [asdict(item) for item in started],
            "rest": asdict(rest),
        },
    )


def _rows(
    followed: list[Followed], alone: list[float], started: list[Started], rest: Rest, around: tuple[float, float]
) -> list[list[Cell]]:
    spans: dict[str, list[float]] = {
        "`kubectl apply` to Ready": [item.ready for item in followed],
        "the step prepare alone": alone,
        "**platform overhead**: the difference": [
            item.ready - step for item, step in zip(followed, alone, strict=True)
        ],
        "... `kubectl apply` itself": [item.applied for item in followed],
        "... until the pipeline run begins": [item.begun for item in followed],
        "... the run without the step": [item.run - step for item, step in zip(followed, alone, strict=True)],
        "... from the run's end to Ready": [item.noticed for item in followed],
        "CPU of the operator for it, without the run": [item.operator for item in followed],
        "`kubectl apply` of a TrainingRun to its first batch": [item.first_batch for item in started],
        "... imports of the framework alone": [item.imports for item in started],
        "... **without them**": [item.first_batch - item.imports for item in started],
        "`pelagos up`, first start": [around[0]],
        "`pelagos down`": [around[1]],
    }
    rows: list[list[Cell]] = [[name, values, None, None] for name, values in spans.items()]
    rows += [[f"at rest: {part}", None, rest.cpu[part], rest.memory[part]] for part in PARTS]
    return [*rows, ["at rest: all", None, sum(rest.cpu.values()), sum(rest.memory.values())]]


def _home(plan: Plan) -> Path:
    return plan.folder / "home"


def _pelagos(plan: Plan, command: str) -> float:
    """Run ``pelagos up`` or ``down``; returns the seconds that it took."""
    program = plan.python("control-plane").with_name("pelagos")
    return measuring.run([program, command], plan.log(command), _environment(plan)).wall


def _environment(plan: Plan) -> dict[str, str]:
    own = {"PELAGOS_HOME": _home(plan), "PELAGOS_ENVIRONMENTS": plan.environments, "PELAGOS_DATA_ROOT": plan.data}
    return (
        os.environ | {name: str(path) for name, path in own.items()} | {"KUBECONFIG": str(_home(plan) / "kubeconfig")}
    )


def _follow(plan: Plan) -> Followed:
    """Apply a Dataset under a new name and wait until it is Ready."""
    body = yaml.safe_load((plan.root / "manifests/samples/classification/dataset.yaml").read_text(encoding="utf-8"))
    body["spec"]["source"]["volume"]["path"] = PATH
    name = body["metadata"]["name"] = f"bench-{len(list(plan.folder.glob('bench-*.json')))}"
    file = plan.folder / f"{name}.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    operator = _processes(plan)["operator"]
    cpu, began = measuring.cpu_seconds(operator, alone=True), time.time()
    _kubectl(plan, "apply", "-f", str(file))
    applied = time.time()
    _kubectl(plan, "wait", "--for=condition=Ready", f"dataset/{name}", f"--timeout={_READY_SECONDS}s")
    ready = time.time()
    begun, ended = _times_of_run(plan, name)
    return Followed(
        ready=ready - began,
        applied=applied - began,
        begun=begun - applied,
        run=ended - begun,
        noticed=ready - ended,
        operator=measuring.cpu_seconds(operator, alone=True) - cpu,
    )


def _times_of_run(plan: Plan, name: str) -> tuple[float, float]:
    """Start and end of a Dataset's pipeline run from its own record, in seconds since the epoch."""
    status = json.loads(_kubectl(plan, "get", f"dataset/{name}", "-o", "json"))["status"]
    folder = _home(plan) / "runs" / status["pipelineRun"]["id"]
    moments = (("process", "startedAt"), ("outcome", "finishedAt"))
    begun, ended = (json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))[key] for file, key in moments)
    return datetime.fromisoformat(begun).timestamp(), datetime.fromisoformat(ended).timestamp()


def _first_batch(plan: Plan, number: int, say: Callable[[str], None]) -> Started:
    """Apply a TrainingRun on an existing version, wait until its progress document reports the first batch, and delete it."""
    say(f"first batch, {number + 1}")
    body = yaml.safe_load((plan.root / "manifests/samples/classification/trainingrun.yaml").read_text(encoding="utf-8"))
    body["metadata"]["name"] = f"bench-{number}"
    body["spec"] |= {"datasetRef": {"name": "bench-0"}, "gates": [], "seeds": [number]}
    del body["spec"]["register"]
    file = plan.folder / f"training-{number}.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    imports = measuring.run([plan.python("pipelines"), "-c", _FRAMEWORK], plan.log("imports")).wall
    seen, began = set(_reports(plan)), time.time()
    _kubectl(plan, "apply", "-f", str(file))
    moments: list[float] = []

    def begun() -> bool:
        for report in set(_reports(plan)) - seen:
            told = json.loads(report.read_text(encoding="utf-8"))
            if told.get("stage") == "Training":
                moments.append(told["since"])
        return bool(moments)

    measuring.wait_until(begun, "a training has begun", _READY_SECONDS)
    _kubectl(plan, "delete", "trainingrun", f"bench-{number}")
    return Started(first_batch=moments[0] - began, imports=imports)


def _reports(plan: Plan) -> list[Path]:
    return list((_home(plan) / "objects" / "reports").glob("training-*/progress.json"))


def _prepare_alone(plan: Plan) -> float:
    """Seconds of the step prepare on the same source, without the platform."""
    number = len(list(plan.folder.glob("alone-*")))
    store = plan.folder / f"alone-{number}"
    return preparing.work(plan, "prepare", (PATH, plan.data), store, plan.folder / f"report-{number}")["wall"]


def _rest(plan: Plan, seconds: float) -> Rest:
    time.sleep(5)  # lets background work of the last Dataset end
    processes = _processes(plan)
    before = {part: _cpu(part, pid) for part, pid in processes.items()}
    time.sleep(seconds)
    cpu = {part: (_cpu(part, pid) - before[part]) * 1000 / seconds for part, pid in processes.items()}
    memory = {part: _memory(part, pid) / 2**20 for part, pid in processes.items()}
    return Rest(cpu, memory)


def _cpu(part: str, pid: int) -> float:
    return measuring.cpu_seconds(pid, alone=part == "supervisor")


def _memory(part: str, pid: int) -> int:
    return measuring.resident_bytes(pid, alone=part == "supervisor")


def _processes(plan: Plan) -> Mapping[str, int]:
    """Process ids of the installation's parts by name, as its supervisor reports them."""
    state = json.loads((_home(plan) / "state.json").read_text(encoding="utf-8"))
    return {name: part["pid"] for name, part in state["parts"].items()} | {"supervisor": state["supervisor"]["pid"]}


def _kubectl(plan: Plan, *arguments: str) -> str:
    command = [str(plan.python("control-plane").with_name("kubectl")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(plan), check=False)
    if done.returncode != 0:
        raise measuring.MeasurementError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
