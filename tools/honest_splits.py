"""Measures how the split of a survey changes the reported metric: writes docs/honest-splits.md and its picture.

``honest_splits.py SAMPLES`` with the interpreter of the environment ``pipelines``; run by `make honest-splits`. The survey of the
samples (pelagos_pipelines.samples.survey) is split at random, by hauls, and by leaving out each site in turn; the same
classifier is trained on each split.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from pelagos_pipelines.evaluation import figures
from pelagos_pipelines.samples import survey

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE, RECORD = (
    ROOT / "docs/honest-splits.md",
    ROOT / "docs/images/honest-splits.png",
    ROOT / "tools/honest_splits.json",
)
EPOCHS, SIZE = 12, 96
METRIC = "accuracy"
SPLITS: Mapping[str, Mapping[str, Any]] = {
    "at random": {"policy": "Random", "seed": 0},
    "by haul": {"policy": "Grouped", "groupBy": ["deployment"], "seed": 0},
}


def main() -> int:
    """Create the survey, train and draw; with ``--write`` as the only argument, rewrite the page from the stored results."""
    if sys.argv[1:] != ["--write"]:
        with tempfile.TemporaryDirectory(prefix="pelagos-splits-") as name:
            record = _measured(Path(sys.argv[1]), Path(name))
        RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    _draw(record)
    PAGE.write_text(_page(record), encoding="utf-8")
    print(PAGE)
    return 0


def _measured(samples: Path, folder: Path) -> dict[str, Any]:
    count = len(list((samples / "phytoplankton-survey").glob("*/*.png")))
    found: dict[str, Any] = {"images": count, "splits": {}}
    for name, split in SPLITS.items():
        version = _step(folder, "prepare", _prepare(samples, folder, name, split))
        evaluation = {"leaveOneOut": "site"} if split["policy"] == "Grouped" else {}
        result = _train(samples, folder, name, version, evaluation)
        metric = f"test/{METRIC}"
        found["splits"][name] = _figure(result, metric) | {"images": version["splits"]["test"]["images"]}
        if evaluation:
            metric = f"leave-one-out/site/{METRIC}"
            sites = {
                key.split("/")[2]: value
                for key, value in result["metrics"].items()
                if key.startswith("leave-one-out/site/") and key.endswith(f"/{METRIC}") and key != metric
            }
            left_out = {"value": result["metrics"][metric], "interval": _over_sites(list(sites.values()))}
            found["splits"]["each site left out"] = left_out | {"images": count, "sites": sites}
        print(name, found["splits"], flush=True)
    return found


def _figure(result: Mapping[str, Any], metric: str) -> dict[str, Any]:
    return {"value": result["metrics"][metric], "interval": result.get("intervals", {}).get(metric)}


def _over_sites(values: Sequence[float]) -> dict[str, float]:
    """The 95 % interval of the mean over sites, by Student's t."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return {"low": float(low), "high": float(high)}


def _prepare(samples: Path, folder: Path, name: str, split: Mapping[str, Any]) -> dict[str, str]:
    request = {
        "source": {"volume": {"path": "phytoplankton-survey"}},
        "format": "ImageFolder",
        "task": "Classification",
        "capture": {"from": "Csv", "file": survey.TABLE},
        # Keep near duplicates: views of one organism that look alike are the subject of this comparison.
        "cleaning": {"duplicates": {"action": "Keep"}},
        "split": {"ratios": {"train": 60, "validation": 20, "test": 20}, **split},
    }
    places = {
        "data_root": str(samples),
        "store": str(folder / "store"),
        "report": str(folder / "prepared" / name),
    }
    return {"request": json.dumps(request), **places}


def _train(
    samples: Path, folder: Path, name: str, version: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    workspace = folder / "trained" / name
    request = {
        "dataset": {"name": "survey", "version": version["version"], "uri": version["uri"]},
        "task": "Classification",
        "model": {"architecture": "mobilenet_v3_small"},
        "hyperparameters": {
            "imageSize": SIZE,
            "batchSize": 32,
            "learningRate": "0.001",
            "epochs": EPOCHS,
            "optimizer": "AdamW",
        },
        "resources": {"cpu": 2},
        "evaluation": evaluation,
    }
    places = {"store": str(workspace / "store"), "report": str(workspace / "report"), "workspace": str(workspace)}
    arguments = {"request": json.dumps(request), "data_root": str(samples), **places}
    for step in ("train", "evaluate", "export"):
        _step(folder, step, arguments | {"tracking_uri": "", "tracking_run": ""})
    result: dict[str, Any] = json.loads((workspace / "report" / "result.json").read_text(encoding="utf-8"))
    return result


def _step(folder: Path, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Run a step in a separate process; returns its report."""
    file = folder / "arguments.json"
    file.write_text(json.dumps(arguments), encoding="utf-8")
    environment = {**os.environ, "TMPDIR": str(folder)}
    subprocess.run([sys.executable, ROOT / "bench/programs/call_step.py", name, file], check=True, env=environment)
    report = Path(arguments["report"]) / "result.json"
    result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return result


def _draw(record: Mapping[str, Any]) -> None:
    """Draw a bar with its interval for each split, and the left-out sites as points."""
    names = list(record["splits"])
    with mpl.rc_context(figures.STYLE):
        figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
        for place, name in enumerate(names):
            one = record["splits"][name]
            axes.barh(place, one["value"], color="#3274d9", height=0.6)
            if one["interval"]:
                low, high = one["interval"]["low"], one["interval"]["high"]
                axes.plot([low, high], [place, place], color="#24292e", linewidth=2)
            for value in one.get("sites", {}).values():
                axes.plot(value, place, "o", color="#e8871e", markersize=6, markeredgecolor="white")
            axes.text(0.01, place, f"{one['value']:.2f}", color="white", va="center", fontweight="bold")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"{METRIC}; lines are 95 % intervals, dots are sites")
        axes.set_title("One survey, one classifier, three ways to split")
        figures.save(figure, PICTURE)


def _page(record: Mapping[str, Any]) -> str:
    lines = [_HEAD.format(images=record["images"], sites=survey.SITES, hauls=survey.SITES * survey.HAULS)]
    lines += [f"| split | images that judge | {METRIC} | 95 % interval |", "|---|---:|---:|---|"]
    for name, one in record["splits"].items():
        interval = f"{one['interval']['low']:.2f} to {one['interval']['high']:.2f}" if one["interval"] else "unknown"
        lines.append(f"| {name} | {one['images']} | {one['value']:.2f} | {interval} |")
    worst = min(record["splits"]["each site left out"]["sites"].items(), key=lambda item: item[1])
    return "\n".join([*lines, _TAIL.format(site=worst[0], value=worst[1])])


_HEAD = """# Why the split decides what a figure means

A survey of {images} images from {hauls} hauls at {sites} sites, composed from the organisms of the real sample crops. Each
organism was caught in one haul and is in several of its images, as in a real survey the same animal, colony or dive is.
One classifier, trained on the same images in three ways:

![Accuracy by the way to split](images/honest-splits.png)
"""
_TAIL = """
* **At random** (`split.policy: Random`): images of an organism are on both sides. The model is asked about individuals
  that it has seen, and the figure answers a question that nobody has.
* **By haul** (`split: {{policy: Grouped, groupBy: [deployment]}}`): how well it does with new organisms from sites that it knows.
* **Each site left out** (`evaluation: {{leaveOneOut: site}}`): how well it does at a site that it has never seen. That is what a
  monitoring programme needs to know before it moves the camera. The worst site here is {site}, with {value:.2f}.

Intervals are by bootstrap over hauls, not over images: images of a haul are alike, and more of them say little more
([Evaluating](evaluating.md) says how). That of the last row is by Student's t over the sites. They overlap: five hauls in a test
split do not tell the first two figures apart for certain, and only an interval over groups shows that. The images are
composed: read the differences, not the values.

The survey is among the samples: [manifests/samples/evaluation](../manifests/samples/evaluation) prepares it by haul, trains with
slices, calibration and each site left out, and has gates on all of that and against a champion.

This page is written by `make honest-splits`.
"""


if __name__ == "__main__":
    sys.exit(main())
