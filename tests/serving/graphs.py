"""Wrong exports of a right model: what a mistake, or another model in its place, makes of its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

Wrong = Callable[[bytes, int], bytes]
"""Of a graph with so many rows of outputs: four of the boxes, and one for each class."""


def classes_swapped(graph: bytes, rows: int) -> bytes:
    """The last two classes change places."""
    order = [*range(rows - 2), rows - 1, rows - 2]
    return _at_the_end(graph, "Gather", np.array(order), axis=1)


def colours_swapped(graph: bytes, _rows: int) -> bytes:
    """Blue is taken for red."""
    return _at_the_start(graph, "Gather", np.array([2, 1, 0]), axis=1)


def normalised_otherwise(graph: bytes, _rows: int) -> bytes:
    """The image has half of its contrast."""
    return _at_the_start(graph, "Mul", np.array(0.5, np.float32))


def scores_halved(graph: bytes, rows: int) -> bytes:
    """Part of the outputs is wrong: the scores are half of what they should be, the boxes are right."""
    factors = np.array([1.0] * 4 + [0.5] * (rows - 4), np.float32)[None, :, None]
    return _at_the_end(graph, "Mul", factors)


def _at_the_start(graph: bytes, operation: str, operand: np.ndarray, **attributes: int) -> bytes:
    """Everything that reads the image reads what ``operation`` makes of it."""
    model = onnx.load_from_string(graph)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["changed" if item == name else item for item in node.input]
    return _with(model, helper.make_node(operation, [name, "operand"], ["changed"], **attributes), operand, first=True)


def _at_the_end(graph: bytes, operation: str, operand: np.ndarray, **attributes: int) -> bytes:
    """What ``operation`` makes of the outputs is given out in their place."""
    model = onnx.load_from_string(graph)
    name = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["right" if item == name else item for item in names]
    return _with(model, helper.make_node(operation, ["right", "operand"], [name], **attributes), operand, first=False)


def _with(model: onnx.ModelProto, node: onnx.NodeProto, operand: np.ndarray, *, first: bool) -> bytes:
    model.graph.initializer.append(numpy_helper.from_array(operand, "operand"))
    nodes: Sequence[onnx.NodeProto] = [node, *model.graph.node] if first else [*model.graph.node, node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())
