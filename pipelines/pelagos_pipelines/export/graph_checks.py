"""Checks an untrusted ONNX graph in a child of the sandbox, before anything else reads the file.

`checked` is the task. A graph is accepted if it only has the standard's own operators on tensors, each of known cost: no loops,
no custom code, no external files. The result is the graph alone, without metadata about authors and machines. Depends on numpy
and onnx only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import onnx
from onnx import TensorProto

from pelagos_pipelines.export import graph_edits
from pelagos_pipelines.sandbox import MEBIBYTE, Answer, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift BitwiseAnd BitwiseNot
    BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Compress Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos
    Cosh CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten
    Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu
    Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min
    Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where
    Xor
    """.split()  # noqa: SIM905 - a list of words
)
"""Accepted operators of the standard's domain. Not accepted: If, Loop and Scan, whose cost is unknown; strings, sequences and
maps; random numbers, whose outputs could not be compared."""
OPSETS = range(7, 22)
"""Versions of the standard that all our model servers support."""
_NEWEST_IR = 10
_MOST_NODES = 50_000
_STANDARD = ("", "ai.onnx")
_TOO_LONG = 80
_SIDES = 4096


def checked(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The graph in ``file`` in the form for packages, with its signature. Raises TaskRefusedError if it is not accepted.

    The document has ``batch``, ``height`` and ``width`` of the input, None for variable ones, and ``output`` in the same form.
    Arguments: ``scale``, factors and offsets to prepend, or None; ``soften``, whether to append a softmax.
    """
    ceiling = Ceilings.read().checkpoint_mebibytes
    if os.fstat(file.fileno()).st_size > ceiling * MEBIBYTE:
        raise TaskRefusedError(f"it has more than {ceiling} MiB ({raise_it('checkpoint_mebibytes')})")
    try:
        model = onnx.load_model_from_string(file.read())
    except Exception:
        model = onnx.ModelProto()
    if not model.graph.node:
        raise TaskRefusedError("it is no ONNX model, or an empty one: export the model again")
    _require_standard(model)
    for node in model.graph.node:
        _require_known(node)
    _require_whole(model.graph)
    found = _signature(model.graph)
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise TaskRefusedError(
            f"it breaks the rules of ONNX ({type(error).__name__}): export it again, and look at it with onnx.checker"
        ) from None
    if given := arguments.get("scale"):
        graph_edits.scale(model, *given)
    if arguments.get("soften"):
        graph_edits.soften(model)
    return Answer(found, _stripped(model).SerializeToString(deterministic=True))


def _require_standard(model: onnx.ModelProto) -> None:
    if model.ir_version > _NEWEST_IR:
        raise TaskRefusedError(
            f"its IR version is {model.ir_version}, at most {_NEWEST_IR} is served: export for an older one"
        )
    domains = sorted({each.domain for each in model.opset_import} - set(_STANDARD))
    if domains or model.functions:
        told = f": {', '.join(map(_short, domains))}" if domains else ""
        raise TaskRefusedError(
            f"it uses operators beside those of the standard (custom domains or functions{told}), which no server of ours has:"
            " export it without them"
        )
    (version, *_) = [each.version for each in model.opset_import if each.domain in _STANDARD] or [0]
    if version not in OPSETS:
        raise TaskRefusedError(
            f"its operators are of version {version} (opset), and {OPSETS[0]} to {OPSETS[-1]} are served: export it with opset 17"
        )
    if len(model.graph.node) > _MOST_NODES:
        raise TaskRefusedError(f"it has {len(model.graph.node)} nodes; at most {_MOST_NODES} are taken")


def _require_known(node: onnx.NodeProto) -> None:
    if node.domain not in _STANDARD or node.op_type not in OPERATORS:
        name = f"{_short(node.domain)}.{_short(node.op_type)}".lstrip(".")
        hint = ""
        if node.op_type in {"If", "Loop", "Scan"}:
            hint = ", as it can take any time; simplify the graph, or export it without post-processing"
        raise TaskRefusedError(
            f"it uses the operator {name}, which is not taken{hint or ': export the model without it'}"
        )
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            raise TaskRefusedError(f"its operator {node.op_type} holds a graph of its own, which is not taken")
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise TaskRefusedError("it has sparse tensors, which are not taken: export it with dense ones")


def _require_whole(graph: onnx.GraphProto) -> None:
    """Require that all tensors are dense, numeric, and within the file itself."""
    if graph.sparse_initializer:
        raise TaskRefusedError("it has sparse tensors, which are not taken: export it with dense ones")
    for tensor in _tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise TaskRefusedError(
                "its weights lie in other files (external data), and one file is taken: save it with"
                " onnx.save_model(model, path, save_as_external_data=False)"
            )
        if tensor.data_type == TensorProto.STRING:
            raise TaskRefusedError("it has texts among its tensors, which are not taken")


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _signature(graph: onnx.GraphProto) -> dict[str, Any]:
    """The shapes of input and output."""
    constant = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constant]
    if len(inputs) != 1:
        raise TaskRefusedError(f"it has {len(inputs)} inputs, and one is served: images as [batch, 3, height, width]")
    if len(graph.output) != 1:
        raise TaskRefusedError(
            f"it has {len(graph.output)} outputs, and one is served: of a detector boxes and scores together, as"
            " [batch, 4 + classes, anchors], before suppression (NMS)"
        )
    (batch, channels, height, width), kind = _shape(inputs[0], 4, "input"), inputs[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT or graph.output[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise TaskRefusedError(
            "its input or its output is not of float32: export it without half precision and quantization"
        )
    if channels not in (3, None):
        raise TaskRefusedError(
            f"its input has {channels} channels, and 3 are served, red first: [batch, 3, height, width]"
        )
    if batch not in (1, None):
        raise TaskRefusedError(
            f"its batch is {batch} images; export it with a batch of any size (dynamic axes), or of 1"
        )
    if any(side is not None and not 1 <= side <= _SIDES for side in (height, width)):
        raise TaskRefusedError(f"its input has {height} x {width} pixels; at most {_SIDES} of a side are served")
    dims = graph.output[0].type.tensor_type.shape.dim if graph.output[0].type.tensor_type.HasField("shape") else []
    return {
        "batch": batch,
        "height": height,
        "width": width,
        "output": [each.dim_value if each.HasField("dim_value") else None for each in dims],
    }


def _shape(given: onnx.ValueInfoProto, rank: int, what: str) -> list[int | None]:
    dims = given.type.tensor_type.shape.dim
    if len(dims) != rank:
        raise TaskRefusedError(
            f"its {what} has {len(dims)} dimensions, and {rank} are served: [batch, 3, height, width]"
        )
    return [each.dim_value if each.HasField("dim_value") else None for each in dims]


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its author's texts, so that they are never displayed."""
    for part in (model, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.training_info[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    model.producer_name = model.producer_version = model.domain = ""
    return model


def _short(name: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "?" for each in name[:_TOO_LONG])
