"""Writes tiny model packages with the real exporter: models that go by colour and need no training, one for each task.

Run with the interpreter of the environment ``pipelines``: ``build_packages.py FOLDER``. Prints {task: [uri, sha256]}. The
detector sees a 4 x 4 grid of cells and reports one box per cell whose mean red, green or blue exceeds the threshold. So does the
segmenter; its masks are the bright pixels in these boxes. The models that label pixels take the brightest colour of each block of
4 x 4 pixels, or report one object of each colour, of which the last is stuff.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pelagos_contract.training import Parity
from pelagos_pipelines.export import package, probes
from pelagos_pipelines.serving import predictions, predictor

SIDE, CELL = 64, 16
LABELS = ("Ceratium", 'Größe "x"', "detritus")


def detector() -> onnx.ModelProto:
    centres = [(x + CELL / 2, y + CELL / 2) for y in range(0, SIDE, CELL) for x in range(0, SIDE, CELL)]
    boxes = np.array([[x, y, CELL, CELL] for x, y in centres], np.float32).T[None]
    constants: dict[str, npt.ArrayLike] = {"boxes": boxes, "shape": np.array([0, 3, -1]), "zero": np.float32(0)}
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Reshape", ["pooled", "shape"], ["scores"]),
        helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "boxes"], ["batch_boxes"]),
        helper.make_node("Concat", ["batch_boxes", "scores"], ["output"], axis=1),
    ]
    return _model(nodes, constants, ["batch", 7, 16])


def segmenter() -> onnx.ModelProto:
    """The detector with one mask coefficient for each cell and one prototype: the brightest colour of each 4 x 4 pixels."""
    model = detector()
    nodes = [*model.graph.node]
    nodes[-1] = helper.make_node("Concat", ["batch_boxes", "scores", "ones"], ["output"], axis=1)
    nodes[-1:-1] = [helper.make_node("Exp", ["nothing"], ["ones"])]
    nodes += [
        helper.make_node("AveragePool", ["images"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMax", ["small"], ["brightest"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["brightest", "dark"], ["prototypes"]),
    ]
    constants: dict[str, npt.ArrayLike] = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    constants["dark"] = np.float32(0.3)
    return _model(nodes, constants, ["batch", 8, 16], {"prototypes": ["batch", 1, 16, 16]})


def pixel_labeller() -> onnx.ModelProto:
    nodes = [
        helper.make_node("AveragePool", ["images"], ["scores"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "best"], ["none"]),
        helper.make_node("Concat", ["scores", "none"], ["output"], axis=1),
    ]
    return _model(nodes, {"one": np.array(1, np.float32)}, ["batch", 4, 16, 16])


def panoptic_segmenter() -> onnx.ModelProto:
    queries = np.array([[[0.9, 0, 0, 0.1], [0, 0.8, 0, 0.2], [0, 0, 0.7, 0.3]]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean", "last"], ["flat"]),
        helper.make_node("Mul", ["flat", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "queries"], ["output"]),
        helper.make_node("AveragePool", ["images"], ["masks"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    constants: dict[str, npt.ArrayLike] = {"queries": queries, "zero": np.float32(0), "last": np.array([3])}
    return _model(nodes, constants, ["batch", 3, 4], {"masks": ["batch", 3, 16, 16]})


def classifier() -> onnx.ModelProto:
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["output"], axis=1),
    ]
    return _model(nodes, {}, ["batch", 3])


def _model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, npt.ArrayLike],
    shape: list[object],
    others: dict[str, list[object]] | None = None,
) -> onnx.ModelProto:
    shapes = {"output": shape, **(others or {})}
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, each) for name, each in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def image() -> npt.NDArray[np.uint8]:
    """Four cells in clear colours on black, blue first. Shape [SIDE, SIDE, 3]."""
    pixels: npt.NDArray[np.uint8] = np.zeros((SIDE, SIDE, 3), np.uint8)
    for index, (row, column, channel, value) in enumerate(
        [(0, 1, 2, 230), (2, 0, 1, 200), (3, 3, 0, 180), (1, 2, 2, 140)]
    ):
        pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, channel] = value - index
    return pixels


def build(task: str, model: onnx.ModelProto, folder: Path, head: str | None = None) -> tuple[str, str]:
    stuff = LABELS[2:] if task == "PanopticSegmentation" else ()
    settings = predictions.Settings(task, LABELS, SIDE, SIDE, head=head, stuff=stuff)
    graph = folder / f"{task}.onnx"
    onnx.save(model, graph)
    served, thresholds = predictor.Predictor(graph.read_bytes(), settings), predictions.Thresholds()
    placed = served.fitted(image())
    (raw,) = served.outputs([placed])
    known = served.decode(raw, placed, thresholds)
    _, outputs = probes.choose(served, [probes.Candidate(placed, raw, raw, known)], thresholds)
    content = package.Content(
        family="colours",
        architecture=f"colour {task.lower()}",
        dataset={"name": "colours", "version": "sha256:0"},
        settings=settings,
        onnx=graph,
        parity=Parity(images=1, boxes=0, scores=0),
        probe=image(),
        known=known,
        outputs=outputs,
    )
    written = package.write(content, folder)
    return str(written.folder), written.onnx_sha256


if __name__ == "__main__":
    target = Path(sys.argv[1])
    heads = {"InstanceSegmentation": "yolov8-seg"}
    models = {
        "Detection": detector(),
        "Classification": classifier(),
        "InstanceSegmentation": segmenter(),
        "SemanticSegmentation": pixel_labeller(),
        "PanopticSegmentation": panoptic_segmenter(),
    }
    print(json.dumps({task: build(task, model, target, heads.get(task)) for task, model in models.items()}))
