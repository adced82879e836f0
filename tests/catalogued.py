"""Models as a catalogue has them: Ready ModelServices, the TrainingRuns that made them, and their Datasets."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from pelagos_hub.cluster import MemoryCluster

CARD = {
    "title": "Phytoplankton of the North Sea",
    "summary": "Finds phytoplankton in the frames of a FlowCam, and names it.",
    "intendedUse": "Sorting images for people who check a sample of them.\nNot for counts that nobody checks.",
    "limitations": "Trained on images of one instrument; not tried on others.",
    "contact": {"name": "Roe, Jo", "email": "jo@example.org", "url": "https://example.org/plankton"},
    "license": "CC-BY-4.0",
    "citation": "Roe, J. (2026): Phytoplankton of the North Sea.",
    "doi": "10.5281/zenodo.1234",
}
PICTURE = {
    "configMap": "pictures",
    "key": "frame.png",
    "description": "A frame with three cells",
    "credit": "Roe, Jo; CC-BY-4.0",
}
CARD_PAGE = """# Finder

## Metrics

| Metric | Value |
|---|---|
| mAP50 | 0.9 |

### Of each class, the worst first

| Class | In test | F1 |
|---|---|---|
| krill &lt;b&gt; <script>alert(1)</script> | 12 | 0.41 |
| [click](javascript:alert(1)) ![x](https://evil.example/x.png) | 3 | 0.60 |

## Slices of the test split: site

| site | Images |
|---|---|
| Bergen | 12 |

## Limits

Not here.
"""
"""A model card as trainings write it, with names of classes that were crafted to do harm."""
VERSION = "sha256:" + "a1b2" * 16
SINCE, CREATED = "2026-06-01T11:48:00Z", "2026-05-30T09:00:00Z"


def condition(
    kind: str, status: str = "True", reason: str = "Done", message: str = "", since: str = SINCE
) -> dict[str, Any]:
    """A condition of a status, for generation 1."""
    told = {"type": kind, "status": status, "reason": reason, "message": message}
    return told | {"observedGeneration": 1, "lastTransitionTime": since}


def served(
    name: str = "plankton", namespace: str = "reef", *, catalogue: str = "Public", **changes: Any
) -> dict[str, Any]:
    """A ModelService with a complete card whose probe succeeds; ``changes`` are merged into its parts, ``card`` into its card."""
    uri = f"file:///objects/models/{namespace}/{name}"
    card = {**CARD, **changes.pop("card", {})}
    created = changes.pop("created", CREATED)
    conditions = [
        condition("Ready", reason="Serving", message=f"serving TrainingRun {name}"),
        condition("ModelResolved", reason="Resolved", message=f"TrainingRun {name}"),
        condition("ModelLoaded", reason="Loaded", message="the server has loaded the model"),
        condition(
            "Probed", reason="ProbeSucceeded", message="a real inference gave the same answer as the training framework"
        ),
    ]
    model = {"name": name, "uri": uri, "onnxSha256": "0a" * 32, "manifestSha256": "0b" * 32}
    model |= {"source": f"TrainingRun {name}", "proven": "sha256:right"}
    http = f"http://127.0.0.1:8000/{namespace}/{name}"
    endpoints = {"grpc": "127.0.0.1:8001", "http": http, "metrics": "http://127.0.0.1:8002/metrics"}
    body: dict[str, Any] = {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "generation": 1},
        "spec": {
            "model": {"trainingRunRef": {"name": name}},
            "card": {key: value for key, value in card.items() if value is not None},
            "publish": {"catalogue": catalogue},
            "thresholds": {"confidence": "0.25", "iou": "0.7"},
        },
        "status": {"conditions": conditions, "model": model, "endpoints": endpoints},
    }
    body["metadata"] |= {"creationTimestamp": created}
    for part, change in changes.items():
        body[part] = {**body[part], **change}
    return body


def trained(name: str = "plankton", namespace: str = "reef", **changes: Any) -> dict[str, Any]:
    """The TrainingRun of the service's model.

    ``changes``: ``task``, ``architecture``, ``dataset`` and fields of its status.
    """
    task, dataset = changes.pop("task", "Detection"), changes.pop("dataset", "frames")
    architecture = changes.pop("architecture", "yolov8n")
    status = {
        "dataset": {"name": dataset, "version": VERSION, "uri": "file:///objects/v", "task": task},
        "metrics": {
            "test/mAP50": "0.8534",
            "test/mAP50-95": "0.5871",
            "test/F1": "0.7924",
            "test/precision": "0.81",
            "test/recall": "0.77",
            "worst/site/mAP50": "0.61",
        },
        "intervals": {"test/mAP50": {"low": "0.8102", "high": "0.8911", "level": "0.95"}},
        "resampling": {"by": "group", "groups": 22, "samples": 1000},
        "slices": [
            {
                "field": "site",
                "slices": 4,
                "worst": {"value": "Bergen", "metric": "mAP50", "figure": "0.61", "images": 12, "objects": 40},
            }
        ],
        "leaveOneOut": {
            "field": "site",
            "metric": "mAP50",
            "mean": "0.65",
            "deviation": "0.03",
            "groups": [
                {"value": "Bergen", "state": "Evaluated", "images": 80, "metric": "0.61"},
                {"value": "Ostend", "state": "Evaluated", "images": 95, "metric": "0.69"},
                {"value": "Texel", "state": "Evaluated", "images": 3},
            ],
        },
        "model": {"uri": f"file:///objects/models/{namespace}/{name}", "onnxSha256": "0a" * 32},
        "cost": {"energy": "about 0.00073 kWh", "co2": "about 0.2 g", "energyMethod": "estimated"},
        "finishedAt": "2026-05-29T18:00:00Z",
        "warnings": ["3 images of the test split look like images of the training split"],
        **changes,
    }
    return {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": namespace, "uid": f"training-{namespace}-{name}", "generation": 1},
        "spec": {"datasetRef": {"name": dataset}, "model": {"architecture": architecture}},
        "status": status,
    }


def collected(name: str = "frames", namespace: str = "reef", **metadata: Any) -> dict[str, Any]:
    """The Dataset whose newest version is the one that the model was trained on."""
    said = {
        "title": "FlowCam frames of the North Sea",
        "license": "CC-BY-4.0",
        "creators": [{"name": "Roe, Jo"}],
        "taxa": [{"name": "Bacillariophyceae"}],
        "acquisition": {"sensor": "FlowCam"},
        **metadata,
    }
    return {
        "apiVersion": "pelagos.dev/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": name, "namespace": namespace, "uid": f"dataset-{namespace}-{name}", "generation": 1},
        "spec": {"metadata": said, "split": {"policy": "Grouped"}},
        "status": {
            "version": VERSION,
            "images": 448,
            "classes": [{"name": "Chaetoceros", "annotations": 310}, {"name": "Rhizosolenia", "annotations": 221}],
            "fair": {"score": 71},
        },
    }


def written(folder: Path, content: bytes = CARD_PAGE.encode(), name: str = "model-card.md") -> dict[str, str]:
    """Write a document of a model to ``folder``; returns its entry in the status of a TrainingRun."""
    (folder / name).write_bytes(content)
    return {"name": name, "uri": str(folder / name), "sha256": hashlib.sha256(content).hexdigest()}


def picture(seed: int = 1, size: tuple[int, int] = (800, 500)) -> bytes:
    """A PNG that looks like cells in water; equal seeds give equal bytes."""
    chance = random.Random(seed)
    water = (chance.randint(200, 225), chance.randint(215, 235), chance.randint(215, 235))
    image = Image.new("RGB", size, water)
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y, r = chance.randint(0, size[0]), chance.randint(0, size[1]), chance.randint(8, 46)
        shade = chance.randint(70, 150)
        pen.ellipse(
            (x - r, y - r * 0.6, x + r, y + r * 0.6), fill=(shade, shade + 30, shade - 10), outline=(60, 80, 60)
        )
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


DETECTIONS = {
    "task": "Detection",
    "width": 800,
    "height": 500,
    "cut": False,
    "detections": [
        {"label": "Chaetoceros", "classId": 0, "score": 0.93, "box": [120.0, 80.0, 260.5, 190.25]},
        {"label": "Rhizosolenia", "classId": 1, "score": 0.71, "box": [400.0, 200.0, 620.0, 260.0]},
        {"label": "Chaetoceros", "classId": 0, "score": 0.44, "box": [40.0, 330.0, 110.0, 420.0]},
        {"label": "<script>alert(1)</script>", "classId": 2, "score": 0.28, "box": [690.0, 20.0, 790.0, 120.0]},
    ],
}
"""A detector's answer for an image of 800 x 500 pixels; one class name was crafted to do harm."""

TASKS = (
    ("Detection", "yolov8n", "mAP50"),
    ("Classification", "mobilenet_v3_small", "accuracy"),
    ("InstanceSegmentation", "yolov8n-seg", "mAP50"),
    ("SemanticSegmentation", "mask2former_tiny-semantic", "IoU"),
    ("OrientedDetection", "yolov8n-obb", "mAP50"),
)
_SUBJECTS = ("Diatoms", "Copepods", "Seagrass", "Cold-water corals", "Harbour fish", "Jellies", "Zooplankton", "Litter")
_PLACES = ("North Sea", "Baltic", "Bay of Biscay", "Azores", "Adriatic", "Barents Sea")
_LICENSES = ("CC-BY-4.0", "MIT", "Apache-2.0", "CC0-1.0")


def fill(cluster: MemoryCluster, models: int, *, pictures: bool = True) -> None:
    """Create ``models`` models that differ in task, architecture and metric."""
    for number in range(models):
        task, architecture, metric = TASKS[number % len(TASKS)]
        subject, place = _SUBJECTS[number % len(_SUBJECTS)], _PLACES[number // 3 % len(_PLACES)]
        name, namespace = f"model-{number:03}", ("reef", "plankton-lab", "deep-sea")[number % 3]
        card: dict[str, Any] = {
            "title": f"{subject} of the {place}",
            "summary": f"Tells {subject.lower()} apart in images from the {place}.",
            "license": _LICENSES[number % len(_LICENSES)],
        }
        if pictures and number % 4 != 3:
            key = f"{number % 9}.png"
            card["pictures"] = [{**PICTURE, "key": key}]
            cluster.pictures.setdefault((namespace, "pictures", key), picture(number % 9))
        value = 0.55 + int(hashlib.sha256(name.encode()).hexdigest()[:2], 16) / 640
        figures = {"metrics": {f"test/{metric}": f"{value:.4f}"}, "leaveOneOut": None, "slices": None}
        bounds = {"low": f"{value - 0.04:.4f}", "high": f"{value + 0.03:.4f}", "level": "0.95"}
        service = served(name, namespace, card=card, created=f"2026-05-{number % 28 + 1:02}T09:00:00Z")
        if number % 7 == 5:
            service["status"]["conditions"][0] = condition(
                "Ready", "False", "ServerCrashed", "the server's process has ended"
            )
            service["status"]["conditions"][3] = condition(
                "Probed", "Unknown", "Pending", "what comes before it is not done"
            )
        for body in (
            service,
            trained(
                name,
                namespace,
                task=task,
                architecture=architecture,
                dataset=f"frames-{number}",
                intervals={f"test/{metric}": bounds},
                **figures,
            ),
            collected(
                f"frames-{number}",
                namespace,
                title=f"Images of the {place}",
                taxa=[{"name": subject}],
                acquisition={"sensor": ("FlowCam", "ROV", "ZooScan")[number % 3]},
            ),
        ):
            body["metadata"]["resourceVersion"] = "1"
            cluster.put(body)
