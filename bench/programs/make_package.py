"""Makes a model package with the real exporter: YOLOv8n with random weights that find boxes. Started by serving.py.

Run with the interpreter of the environment ``pipelines`` and the folder ``tests``, which has the detector, on PYTHONPATH:
``make_package.py FOLDER IMAGE_SIZE IMAGE``. Prints the package's folder and its digests as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from pelagos_contract.training import Parity
from pelagos_pipelines.export import package
from pelagos_pipelines.serving import images, predictor
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.training import yolov8
from serving import detectors

BOXES = 20


def make_checkpoint(path: Path, size: int, image: Pixels) -> Path:
    """The tests' detector for another image size, with its confidence lowered until it finds at most ``BOXES`` in the image."""
    detectors.make_checkpoint(path)
    content = torch.load(path, weights_only=False)  # safe: this program has just written it
    content["train_args"]["imgsz"] = size
    torch.save(content, path)
    while _boxes(path, image) > BOXES:
        for branch in content["model"].model[-1].cv3:
            branch[-1].bias.data -= 0.25
        torch.save(content, path)
    return path


def _boxes(checkpoint: Path, image: Pixels) -> int:
    (found,) = yolov8.FAMILY.predict(checkpoint, [image], Thresholds())
    assert isinstance(found, Detections)
    return len(found.scores)


def main() -> None:
    """Export the package, and print it."""
    folder, size, image = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True)
    probe = images.decode_known(image.read_bytes())
    checkpoint = make_checkpoint(folder / "best.pt", size, probe)
    graph = folder / "model.onnx"
    settings = yolov8.FAMILY.export(checkpoint, graph)
    (known,) = predictor.Predictor(graph.read_bytes(), settings).predict([probe])
    content = package.Content(
        family="YOLOv8",
        architecture="yolov8n",
        dataset={"name": "none", "version": "sha256:0"},
        settings=settings,
        onnx=graph,
        parity=Parity(images=1, boxes=0, scores=0),
        probe=probe,
        known=known,
    )
    written = package.write(content, folder / "store")
    digests = {"sha256": written.onnx_sha256, "manifest": written.manifest_sha256}
    print(json.dumps({"uri": str(written.folder), **digests}))


if __name__ == "__main__":
    main()
