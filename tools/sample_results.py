"""Trains the samples and writes docs/sample-results.md with a picture per task. Run by `make sample-results`, with the control
plane's Python.

Each sample is applied to its own embedded installation as a user would do, followed until all its resources are Ready, and
deleted. Results are stored in tools/sample_results.json, so that ``--only NAME`` (may be repeated) repeats one sample and
keeps the others; the table marks samples that were never run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import machine  # noqa: E402 - describes the machine as the benchmarks do
from pelagos.api.kinds import DATASET, MODEL_SERVICE, TRAINING_RUN  # noqa: E402
from pelagos.cli import access, demo, down, following, installed, predict, up  # noqa: E402
from pelagos_contract.tasks import TASKS, Task  # noqa: E402

RECORD = ROOT / "tools/sample_results.json"
PAGE = ROOT / "docs/sample-results.md"
PICTURES = ROOT / "docs/images/samples"
MANIFESTS = ROOT / "manifests/samples"
SAMPLES = {
    "detection": MANIFESTS,
    **{
        name: MANIFESTS / name
        for name in (
            "classification",
            "oriented-detection",
            "instance-segmentation",
            "semantic-segmentation",
            "panoptic-segmentation",
        )
    },
}
"""One per task, in the order of the page."""
_COLUMNS = (
    "task", "sample", "model", "epochs", "images: train, test", "on the test split", "CPU hours of training", "energy",
)  # fmt: skip
LONGEST = 2 * 3600.0
"""Time limit of a sample in seconds."""
_HEAD = """# What the samples come to

The samples below [manifests/samples](../manifests/samples), one per task, on images of real phytoplankton. They show that each
task works from end to end; the images are few and the models small, chosen so that a processor can train them in minutes.
Nothing here says how good a model gets on your images.

This page and its pictures are written by `make sample-results`. Figures are of the test split, which no training has seen.
"""


def main() -> int:
    """Run the chosen samples; the page is written after each, so that a later failure loses nothing."""
    parser = argparse.ArgumentParser(prog="tools/sample_results.py", description="Train the samples.")
    parser.add_argument("--only", action="append", choices=list(SAMPLES), help="run this sample and keep the others")
    parser.add_argument("--write", action="store_true", help="run nothing: write the page from the record")
    options = parser.parse_args()
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    failed = []
    for name in [] if options.write else options.only or SAMPLES:
        try:
            record[name] = _run(name)
        except demo.DemoError as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
            continue
        RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        PAGE.write_text(_page(record), encoding="utf-8")
    PAGE.write_text(_page(record), encoding="utf-8")
    print(PAGE)
    return 1 if failed else 0


def _run(name: str) -> dict[str, Any]:
    """Apply the sample, follow it, predict, and delete it; returns its results."""
    os.environ.pop("KUBECONFIG", None)
    settings, console = installed.settings(), installed.result_console(piped_width=140)
    up.bring_up(settings, console)
    try:
        resources = demo.apply(settings, SAMPLES[name], console)
        ending = following.follow(resources, access.fetcher(settings), console, timeout=LONGEST)
        if ending.problem:
            raise demo.DemoError(ending.problem)
        bodies = {resource.kind.kind: body for resource, body in ending.bodies.items()}
        image = demo.unseen_image(bodies[DATASET.kind]["status"]["uri"], settings.home / "demo")
        service = bodies[MODEL_SERVICE.kind]["metadata"]["name"]
        PICTURES.mkdir(parents=True, exist_ok=True)
        predict.draw(image, predict.predict_file(access.embedded(settings), service, image), PICTURES / f"{name}.png")
        return _came_to(bodies)
    except (predict.PredictError, predict.PictureError) as error:
        raise demo.DemoError(str(error)) from error
    finally:
        demo.kubectl(settings, console, "delete", "--ignore-not-found", "-f", str(SAMPLES[name]))
        down.take_down(settings, console)


def _came_to(bodies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    training, dataset = bodies[TRAINING_RUN.kind], bodies[DATASET.kind]["status"]
    spec, status = training["spec"], training["status"]
    known = machine.fingerprint()
    task = Task(status["dataset"]["task"])
    names = (*TASKS[task].metrics, *TASKS[task].overall)
    return {
        "architecture": spec["model"]["architecture"],
        "epochs": spec["hyperparameters"]["epochs"],
        "images": dataset["splits"],
        "metrics": {name: status["metrics"][f"test/{name}"] for name in names if f"test/{name}" in status["metrics"]},
        "cost": status["cost"],
        "machine": f"{known['processor']}, {known['cores']} cores",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _page(record: Mapping[str, Any]) -> str:
    lines = [_HEAD, f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    for name, folder in SAMPLES.items():
        task = _task(folder)
        link = f"[{name}](../{folder.relative_to(ROOT)})"
        if name not in record:
            lines.append(f"| {task.value} | {link} | {_architecture(folder)} | | | not yet run | | |")
            continue
        row = record[name]
        primary = TASKS[task].primary_metric
        others = [each for each in ("mAP50-95", "F1", "IoU", "SQ", "RQ") if each in row["metrics"] and each != primary]
        shown = ", ".join(f"{each} {row['metrics'][each]}" for each in (primary, *others))
        images, cost = ", ".join(str(row["images"][split]["images"]) for split in ("train", "test")), row["cost"]
        trained = f"{row['architecture']} | {row['epochs']} | {images}"
        lines.append(f"| {task.value} | {link} | {trained} | {shown} | {cost['cpuHours']} | {cost['energy']} |")
    for name in filter(record.__contains__, SAMPLES):
        row, title = record[name], _task(SAMPLES[name]).value
        lines += ["", f"## {title}", "", f"![What the served model finds](images/samples/{name}.png)", ""]
        lines += [
            f"An image of the test split. Run on {row['date']} on {row['machine']}; {row['cost']['energyMethod']}."
        ]
    return "\n".join(lines) + "\n"


def _task(folder: Path) -> Task:
    return Task(_spec(folder, "dataset")["task"])


def _architecture(folder: Path) -> str:
    return str(_spec(folder, "trainingrun")["model"]["architecture"])


def _spec(folder: Path, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / f"{kind}.yaml").read_text(encoding="utf-8"))["spec"]
    return found


if __name__ == "__main__":
    sys.exit(main())
