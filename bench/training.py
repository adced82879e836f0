"""The training steps, compared with ultralytics' own command on the same images with the same arguments. Called by run.py."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import measuring, tracking
from bench.measuring import Usage
from bench.plan import Plan
from bench.results import Cell, Section, middle
from pelagos_contract import sealing

OURS, BARE = "step train", "yolo train"
ARCHITECTURE = "yolov8n"
SIZE, BATCH = 96, 16
HYPERPARAMETERS = {"imageSize": SIZE, "batchSize": BATCH, "learningRate": "0.002", "weightDecay": "0.0005"}
_ENVIRONMENT = {
    "ULTRALYTICS_SAFE_LOAD": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
    "MPLBACKEND": "Agg",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Every run has a key, because steps seal their reports.
    sealing.STEP_RUN: "bench",
    sealing.STEP_KEY: "5e" * 32,
}
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "sync", "vscode_msg", "openvino_msg")
_FRAMEWORK = "import pelagos_pipelines.training.yolov8"
_KFP = "from kfp import local; from kfp.components import load_component_from_file"
_RUNNER = f"from pelagos_pipelines import local_runner; local_runner.import_kfp(); {_KFP}"
_STEPS = 3
"""Of kfp.local alone: as many as the training has stages."""
_VIEW = """
import sys
from pathlib import Path
from pelagos_pipelines.preparation import versions
versions.materialise(sys.argv[1], "yolo", Path(sys.argv[2]))
"""


@dataclass(frozen=True)
class Case:
    """Input of the trainings: the version, its YOLO view, and the address of MLflow."""

    version: Mapping[str, Any]
    view: Path
    data: Path
    mlflow: str
    threads: int


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    repeats, (short, long) = plan.size(3, 1), (plan.size(2, 1), plan.size(12, 3))
    images = 64
    with tracking.server(plan) as mlflow:
        case = _prepare(plan, images, mlflow)
        workspaces = (plan.folder / f"workspace-{number}" for number in itertools.count())
        candidates = {
            f"{name}, {epochs} epochs": partial(train, plan, case, epochs, workspaces)
            for epochs in (short, long)
            for name, train in ((OURS, _train), (BARE, _bare))
        }
        trained = measuring.alternate(candidates, repeats, plan.say)
        around = measuring.alternate({"around": partial(_around, plan, case, workspaces)}, repeats, plan.say)["around"]
    reading = plan.reading(
        architecture=ARCHITECTURE, images=images, size=SIZE, batch=BATCH, threads=case.threads, ours=OURS, bare=BARE,
        short=short, long=long,
    )  # fmt: skip
    rows = [*_trained_rows(trained, short, long), *_around_rows(around)]
    details = {name: [vars(usage) for usage in usages] for name, usages in trained.items()}
    return Section(
        title="Training",
        reading=reading,
        columns=["", f"{OURS}, CPU s", f"{BARE}, CPU s", "ratio", f"{OURS}, wall s", f"{BARE}, wall s"],
        rows=rows,
        details=details | {"around": [{name: vars(usage) for name, usage in item.items()} for item in around]},
    )


def _prepare(plan: Plan, images: int, mlflow: str) -> Case:
    """Create a dataset version of the first frames by the real step."""
    source = plan.data / "samples" / "phytoplankton-frames"
    if not source.exists():
        raise measuring.MeasurementError(f"{source} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    _copy_frames(source, plan.folder / "data" / "frames", images)
    request = {
        "source": {"volume": {"path": "frames"}},
        "format": "Coco",
        "task": "Detection",
        "split": {"policy": "Random", "ratios": {"train": 70, "validation": 15, "test": 15}, "seed": 0},
    }
    report = plan.folder / "prepared"
    arguments = {"request": json.dumps(request), "data_root": str(plan.folder / "data")}
    task(plan, "prepare", arguments | {"store": str(plan.folder / "store"), "report": str(report)})
    version = json.loads((report / "result.json").read_text(encoding="utf-8"))
    view = plan.folder / "view"
    measuring.run([plan.python("pipelines"), "-c", _VIEW, version["uri"], view], plan.log("view"), environment(plan))
    names = {index: entry["name"] for index, entry in enumerate(version["classes"])}
    data = plan.folder / "data.yaml"
    content = {"path": str(plan.folder / "bare-view"), "train": "images/train", "val": "images/validation"}
    data.write_text(json.dumps(content | {"names": names}), encoding="utf-8")  # JSON is YAML
    settings = [plan.python("pipelines").with_name("yolo"), "settings", *(f"{name}=False" for name in _INTEGRATIONS)]
    measuring.run(settings, plan.log("settings"), environment(plan))
    # In ultralytics' order.
    return Case(version, view, data, mlflow, min(8, max(1, (os.cpu_count() or 1) - 1)))


def _copy_frames(source: Path, target: Path, number: int) -> None:
    content = json.loads((source / "annotations.json").read_text(encoding="utf-8"))
    images = content["images"][:number]
    chosen = {image["id"] for image in images}
    marks = [mark for mark in content["annotations"] if mark["image_id"] in chosen]
    (target / "images").mkdir(parents=True)
    for image in images:
        shutil.copyfile(source / image["file_name"], target / image["file_name"])
    text = json.dumps(content | {"images": images, "annotations": marks})
    (target / "annotations.json").write_text(text, encoding="utf-8")


def _train(plan: Plan, case: Case, epochs: int, workspaces: Iterator[Path]) -> Usage:
    return task(plan, "train", _arguments(plan, case, epochs, next(workspaces)))


def _bare(plan: Plan, case: Case, epochs: int, workspaces: Iterator[Path]) -> Usage:
    folder = next(workspaces)
    view = plan.folder / "bare-view"
    shutil.rmtree(view, ignore_errors=True)
    shutil.copytree(case.view, view)
    command = [
        plan.python("pipelines").with_name("yolo"),
        *("detect", "train", f"model={ARCHITECTURE}.yaml", f"data={case.data}", f"project={folder}", "name=bare"),
        *(f"epochs={epochs}", f"imgsz={SIZE}", f"batch={BATCH}", f"nbs={BATCH}", "lr0=0.002", "weight_decay=0.0005"),
        *("optimizer=AdamW", "mosaic=0.0", "close_mosaic=0", "patience=0", "seed=0", "deterministic=True"),
        *("pretrained=False", "plots=False", "cache=ram", "workers=0", "device=cpu", "amp=False", "verbose=False"),
    ]
    return measuring.run(command, plan.log("bare"), environment(plan))


def _around(plan: Plan, case: Case, workspaces: Iterator[Path]) -> dict[str, Usage]:
    """Measure the other stages after a training of one epoch, the machinery over finished work, and imports."""
    workspace = next(workspaces)
    arguments = _arguments(plan, case, 1, workspace)
    task(plan, "train", arguments)
    parts = workspace / "parts.json"
    found = {"evaluate": task(plan, "evaluate", arguments)}
    found["export"] = task(plan, "export", arguments, timed=("_prove", parts))
    seconds = json.loads(parts.read_text(encoding="utf-8"))
    found["of which parity"] = Usage(seconds["wall"], seconds["cpu"])
    found["flow"] = _flow(plan, arguments, workspace / "run")
    for steps in (_STEPS, 1):
        found[f"alone, {steps}"] = _alone(plan, steps, workspace)
    for name, code in (("runner", _RUNNER), ("kfp", _KFP), ("framework", _FRAMEWORK)):
        found[name] = measuring.run([plan.python("pipelines"), "-c", code], plan.log(name), environment(plan))
    return found


def _alone(plan: Plan, steps: int, workspace: Path) -> Usage:
    """So many steps that do nothing, with kfp.local and nothing of ours."""
    program, flow = [plan.python("pipelines"), plan.program("run_with_kfp")], workspace / f"nothing-{steps}.yaml"
    measuring.run([*program, "compile", steps, flow], plan.log("compile"), environment(plan))
    return measuring.run([*program, "run", flow, workspace / "outputs"], plan.log("alone"), environment(plan))


def _flow(plan: Plan, arguments: Mapping[str, str], folder: Path) -> Usage:
    """Run the compiled flow as the engine does, over finished work."""
    folder.mkdir()
    (folder / "lock").touch()
    request = {"name": "bench", "flow": "training", "attempt": 1, "parameters": arguments, "resources": {"cpu": 1}}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    flow = plan.root / "pipelines" / "pelagos_pipelines" / "compiled" / "training.yaml"
    command = [plan.python("pipelines"), "-m", "pelagos_pipelines.local_runner", folder, "1", flow, plan.folder / "t"]
    used = measuring.run(command, plan.log("flow"), environment(plan))
    outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    if outcome["state"] != "Succeeded":
        raise measuring.MeasurementError(f"the flow {outcome['state']}: {outcome['message']}")
    return used


def _arguments(plan: Plan, case: Case, epochs: int, workspace: Path) -> dict[str, str]:
    request = {
        "dataset": {"name": "frames", "version": case.version["version"], "uri": case.version["uri"]},
        "task": "Detection",
        "model": {"architecture": ARCHITECTURE},
        "hyperparameters": HYPERPARAMETERS | {"epochs": epochs, "optimizer": "AdamW"},
        "resources": {"cpu": case.threads},
    }
    return {
        "request": json.dumps(request),
        "data_root": str(plan.folder / "data"),
        "store": str(workspace / "store"),
        "report": str(workspace / "report"),
        "workspace": str(workspace),
        "tracking_uri": case.mlflow,
        "tracking_run": tracking.create_run(plan, case.mlflow),
    }


def task(plan: Plan, name: str, arguments: Mapping[str, str], timed: tuple[str, Path] | None = None) -> Usage:
    """Run a step in a separate process, as a pipeline does. ``timed``: one of its functions, and a file for its seconds."""
    file = plan.folder / "arguments.json"
    file.write_text(json.dumps(dict(arguments)), encoding="utf-8")
    command = [plan.python("pipelines"), plan.program("call_step"), name, file, *(timed or ())]
    return measuring.run(command, plan.log(name), environment(plan))


def environment(plan: Plan) -> dict[str, str]:
    """The environment variables of a step and of its peer."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    login = tracking.step_environment(plan)
    return (
        kept | login | _ENVIRONMENT | {"YOLO_CONFIG_DIR": str(plan.folder / "ultralytics"), "TMPDIR": str(plan.folder)}
    )


def _trained_rows(trained: Mapping[str, list[Usage]], short: int, long: int) -> list[list[Cell]]:
    return compared(trained, (OURS, BARE), short, long)


def compared(trained: Mapping[str, list[Usage]], names: tuple[str, str], short: int, long: int) -> list[list[Cell]]:
    """Rows that compare two ways to train the same, from the usage of trainings with ``short`` and ``long`` epochs."""
    slopes, fixed = {}, {}
    for name in names:
        pairs = list(zip(trained[f"{name}, {short} epochs"], trained[f"{name}, {long} epochs"], strict=True))
        slopes[name] = [
            Usage((more.wall - less.wall) / (long - short), (more.cpu - less.cpu) / (long - short))
            for less, more in pairs
        ]
        fixed[name] = [
            Usage(less.wall - slope.wall * short, less.cpu - slope.cpu * short)
            for (less, _), slope in zip(pairs, slopes[name], strict=True)
        ]
    whole = [
        row(f"{epochs} epochs", trained[f"{names[0]}, {epochs} epochs"], trained[f"{names[1]}, {epochs} epochs"])
        for epochs in (short, long)
    ]
    ours, bare = names
    return [*whole, row("per epoch", slopes[ours], slopes[bare]), row("fixed", fixed[ours], fixed[bare])]


def row(what: str, ours: list[Usage], bare: list[Usage]) -> list[Cell]:
    """A row with the usage of both, and the ratio of their processor times."""
    cpu, other = [item.cpu for item in ours], [item.cpu for item in bare]
    return [what, cpu, other, middle(cpu) / middle(other), [item.wall for item in ours], [item.wall for item in bare]]


def _around_rows(found: list[dict[str, Usage]]) -> list[list[Cell]]:
    named = {name: [item[name] for item in found] for name in ("evaluate", "export", "of which parity")}
    named |= {"import of the framework": [item["framework"] for item in found]}
    alone, one = f"alone, {_STEPS}", "alone, 1"
    machinery = [
        (f"pipeline machinery, beside {_STEPS} steps of kfp.local", *_without(found, alone)),
        ("pipeline machinery, beside 1 step of kfp.local", *_without(found, one)),
        ("import of kfp", [item["runner"] for item in found], [item["kfp"] for item in found]),
        (
            f"both, beside import and {_STEPS} steps of kfp.local",
            [item["flow"] for item in found],
            [item[alone] for item in found],
        ),
    ]
    rows: list[list[Cell]] = [
        [name, [item.cpu for item in usages], None, None, [item.wall for item in usages], None]
        for name, usages in named.items()
    ]
    return [*rows, *(row(*each) for each in machinery)]


def _without(found: list[dict[str, Usage]], alone: str) -> tuple[list[Usage], list[Usage]]:
    """What a finished training and kfp.local alone take, each without its import of kfp."""
    pairs = (("flow", "runner"), (alone, "kfp"))
    ours, other = (
        [Usage(item[whole].wall - item[part].wall, item[whole].cpu - item[part].cpu) for item in found]
        for whole, part in pairs
    )
    return ours, other
