"""ONNX models as others bring them: small ones that work, and ones that must be refused. For both planes' tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


def model(
    nodes: Sequence[Any],
    weights: dict[str, Any],
    given: Dims,
    found: Dims,
    *,
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    output: str = "found",
) -> onnx.ModelProto:
    """A model of ``nodes`` from ``images`` to ``output``."""
    graph = helper.make_graph(
        list(nodes),
        "foreign",
        [helper.make_tensor_value_info("images", kind, list(given))],
        [helper.make_tensor_value_info(output, kind, list(found))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="laboratory \x1b[31m")
    made.ir_version = 8
    made.metadata_props.add(key="author", value="someone")
    return made


def classifier(size: int | str = 64, *, logits: bool = True, classes: int = 2) -> onnx.ModelProto:
    """A classifier that distinguishes red from green by the image's mean colour, for values from 0 to 1."""
    weights: Any = np.zeros((3, classes), np.float32)
    weights[0, 0] = weights[1, 1] = 400.0
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["found" if logits else "logits"]),
    ]
    if not logits:
        nodes.append(helper.make_node("Softmax", ["logits"], ["found"], axis=1))
    return model(nodes, {"weights": weights}, ("batch", 3, size, size), ("batch", classes))


def detector(
    size: int | str = "side",
    *,
    classes: int = 2,
    batch: int | str = "batch",
    reach: float = 60.0,
    score: float = 1.0,
    order: Sequence[int] = (0, 1, 2),
) -> onnx.ModelProto:
    """A detector with a box in every 8 x 8 pixels, whose size and scores depend on their mean colour."""
    rows = 4 + classes
    mix = np.random.default_rng(0).normal(0, 3, (rows, 3, 1, 1)).astype(np.float32)
    factors = np.array([reach] * 4 + [score] * classes, np.float32).reshape(1, rows, 1)
    nodes = [
        helper.make_node("AveragePool", ["images"], ["mean"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["mean", "mix"], ["mixed"]),
        helper.make_node("Reshape", ["mixed", "shape"], ["rows"]),
        helper.make_node("Sigmoid", ["rows"], ["shares"]),
        helper.make_node("Mul", ["shares", "factors"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["found"], perm=list(order)),
    ]
    weights = {"mix": mix, "factors": factors, "shape": np.array([0, rows, -1])}
    return model(nodes, weights, (batch, 3, size, size), (batch, "rows", "anchors"))


def saved(made: onnx.ModelProto, path: Path) -> Path:
    """Write the model to a file; returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.SerializeToString())
    return path


def looping() -> onnx.ModelProto:
    """A model that runs forever."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["more"]),
            helper.make_node("Identity", ["kept"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [helper.make_node("Loop", ["", "yes", "images"], ["found"], body=body)]
    return model(nodes, {"yes": np.array(True)}, ("batch", 3, 64, 64), ("batch", 2))


def foreign_operator() -> onnx.ModelProto:
    """A model that calls an operator of its author's library."""
    made = model([helper.make_node("Steal", ["images"], ["found"], domain="evil")], {}, (1, 3, 64, 64), (1, 2))
    made.opset_import.append(helper.make_opsetid("evil", 1))
    return made


def outside() -> onnx.ModelProto:
    """A model whose weights are in another file, on this machine."""
    made = classifier()
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../../etc/passwd")
    return made


def huge() -> onnx.ModelProto:
    """A model that asks for 400 GB while it runs."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Add", ["flat", "nothing"], ["found"]),
    ]
    return model(nodes, {"shape": np.array([100_000, 1_000_000])}, ("batch", 3, 64, 64), ("batch", 3))


def two_outputs() -> onnx.ModelProto:
    """A model with boxes and scores as separate outputs."""
    made = classifier()
    made.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3, 1, 1]))
    return made


def half() -> onnx.ModelProto:
    """A model in half precision."""
    nodes = [helper.make_node("GlobalAveragePool", ["images"], ["found"])]
    return model(nodes, {}, (1, 3, 64, 64), (1, 3, 1, 1), kind=TensorProto.FLOAT16)


def choosing() -> onnx.ModelProto:
    """A detector that returns only the boxes it is sure of, so their number varies."""
    made = detector(64)
    made.graph.node[-1].output[0] = "all"
    made.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["all"], ["most"], axes=[0, 1], keepdims=0),
            helper.make_node("ReduceMean", ["most"], ["usual"], axes=[0], keepdims=1),
            helper.make_node("GreaterOrEqual", ["most", "usual"], ["sure"]),
            helper.make_node("Compress", ["all", "sure"], ["found"], axis=2),
        ]
    )
    return made


def undefined() -> onnx.ModelProto:
    """A classifier whose output is NaN for images of more than one colour."""
    made = classifier()
    made.graph.node[-1].output[0] = "plain"
    made.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
            helper.make_node("ReduceMin", ["images"], ["least"], keepdims=0),
            helper.make_node("Sub", ["least", "most"], ["range"]),
            helper.make_node("Sqrt", ["range"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["found"]),
        ]
    )
    return made
