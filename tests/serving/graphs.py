"""Wrong exports of a right model: its graph after a mistake, or with another model in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Wrong = Callable[[bytes, int], bytes]
"""Changes a graph, given the number of its output rows: four for the box, and one for each class."""


def classes_swapped(graph: bytes, rows: int) -> bytes:
    """Swap the last two classes."""
    order = [*range(rows - 2), rows - 1, rows - 2]
    return _at_the_end(graph, "Gather", np.array(order), axis=1)


def colours_swapped(graph: bytes, _rows: int) -> bytes:
    """Swap the channels red and blue."""
    return _at_the_start(graph, "Gather", np.array([2, 1, 0]), axis=1)


def normalised_otherwise(graph: bytes, _rows: int) -> bytes:
    """Halve the contrast of the image."""
    return _at_the_start(graph, "Mul", np.array(0.5, np.float32))


def scores_halved(graph: bytes, rows: int) -> bytes:
    """Only part of the outputs is wrong: scores are halved, boxes are right."""
    factors = np.array([1.0] * 4 + [0.5] * (rows - 4), np.float32)[None, :, None]
    return _at_the_end(graph, "Mul", factors)


def _at_the_start(graph: bytes, operation: str, operand: npt.NDArray[Any], **attributes: int) -> bytes:
    """Apply ``operation`` to the image before everything that reads it."""
    model = onnx.load_from_string(graph)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["changed" if item == name else item for item in node.input]
    return _with(model, helper.make_node(operation, [name, "operand"], ["changed"], **attributes), operand, first=True)


def _at_the_end(graph: bytes, operation: str, operand: npt.NDArray[Any], **attributes: int) -> bytes:
    """Apply ``operation`` to the outputs."""
    model = onnx.load_from_string(graph)
    name = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["right" if item == name else item for item in names]
    return _with(model, helper.make_node(operation, ["right", "operand"], [name], **attributes), operand, first=False)


def _with(model: onnx.ModelProto, node: onnx.NodeProto, operand: npt.NDArray[Any], *, first: bool) -> bytes:
    model.graph.initializer.append(numpy_helper.from_array(operand, "operand"))
    nodes: Sequence[onnx.NodeProto] = [node, *model.graph.node] if first else [*model.graph.node, node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())
