"""What is put before and behind a graph, so that a server can treat all of a task alike. Knows numpy and onnx only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def scale(model: Any, factors: Sequence[float], offsets: Sequence[float]) -> None:
    """Have the graph begin with ``values * factors + offsets``, one of each for red, green and blue."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constant = {tensor.name for tensor in graph.initializer}
    (given,) = [each for each in graph.input if each.name not in constant]
    first = "pelagos_normalized"
    for node in graph.node:
        node.input[:] = [first if name == given.name else name for name in node.input]
    for name, numbers in (("factors", factors), ("offsets", offsets)):
        tensor = np.array(numbers, np.float32).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(tensor, f"pelagos_{name}"))
    nodes = [
        helper.make_node("Mul", [given.name, "pelagos_factors"], ["pelagos_scaled"]),
        helper.make_node("Add", ["pelagos_scaled", "pelagos_offsets"], [first]),
    ]
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)


def soften(model: Any) -> None:
    """Have the graph end with the softmax of its output [batch, classes]."""
    from onnx import helper

    graph = model.graph
    (given,) = graph.output
    graph.node.append(helper.make_node("Softmax", [given.name], ["pelagos_probabilities"], axis=1))
    given.name = "pelagos_probabilities"
