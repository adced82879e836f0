"""Adds operators before and after a graph, so that servers can treat all graphs of a task alike. Depends on numpy and onnx
only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def scale(model: Any, factors: Sequence[float], offsets: Sequence[float]) -> None:
    """Prepend ``values * factors + offsets``, with one of each for red, green and blue."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constant = {tensor.name for tensor in graph.initializer}
    (given,) = [each for each in graph.input if each.name not in constant]
    first, factors_name, offsets_name, scaled = _free(graph, "normalized", "factors", "offsets", "scaled")
    for node in graph.node:
        node.input[:] = [first if name == given.name else name for name in node.input]
    for name, numbers in ((factors_name, factors), (offsets_name, offsets)):
        tensor = np.array(numbers, np.float32).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(tensor, name))
    nodes = [
        helper.make_node("Mul", [given.name, factors_name], [scaled]),
        helper.make_node("Add", [scaled, offsets_name], [first]),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)


def soften(model: Any) -> None:
    """Append a softmax of the output [batch, classes]."""
    from onnx import helper

    graph = model.graph
    (given,) = graph.output
    (softened,) = _free(graph, "probabilities")
    graph.node.append(helper.make_node("Softmax", [given.name], [softened], axis=1))
    given.name = softened


def _free(graph: Any, *names: str) -> list[str]:
    """Unused names for new nodes, since the graph may have been edited here before."""
    used = {each.name for each in (*graph.initializer, *graph.input, *graph.output)}
    used |= {name for node in graph.node for name in (*node.input, *node.output)}
    prefix = "pelagos_"
    while any(prefix + name in used for name in names):
        prefix += "_"
    return [prefix + name for name in names]
