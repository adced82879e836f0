"""Triton's ``config.pbtxt`` for a model package with a service's settings. Pure.

Called by the serving engines. It is derived only from validated fields of the package's description and from the desired service:
a package cannot name a backend, a library, an environment, or further files. The JSON follows the ModelConfig message with the
names of the .proto file (https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto); the output is
the protobuf text format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pelagos.engines.triton.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pelagos.engines.triton.package import Manifest
    from pelagos.ports.serving import DesiredService

ENUMS = frozenset({"data_type", "format", "kind", "priority", "timeout_action"})
"""Fields of ModelConfig whose JSON strings are enum names, which the text format writes without quotes."""
MAPS = frozenset({"cc_model_filenames", "input", "input_map", "inputs", "metric_tags", "output_map", "parameters"})
"""Fields of ModelConfig that are maps when their JSON value is an object."""


def for_service(package: Manifest, want: DesiredService) -> dict[str, Any]:
    """The ModelConfig of a package for a desired service: the service contract, name, batching, instances, thresholds.

    Each of the ``instances`` gets ``cpu`` threads. The package's digest is included for the code that loads and verifies it.
    """
    task = TASKS.named(package.task)
    outputs = (("prediction", "TYPE_STRING", [1]), ("error", "TYPE_STRING", [1]), *task.outputs(len(package.labels)))
    parameters = {
        "confidence": want.confidence,
        "iou": want.iou,
        "max_detections": str(task.most(want, package.thresholds.max_detections)),
        "intra_op_threads": str(want.cpu),
        "manifest_sha256": want.manifest_sha256,
    }
    if package.thresholds.classes is not None and not want.heeds_classes:
        parameters["class_confidences"] = "service"
    return {
        "name": want.model_name,
        "backend": "python",
        "max_batch_size": want.max_batch_size,
        "input": [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [{"name": name, "data_type": kind, "dims": dims} for name, kind, dims in outputs],
        "instance_group": [instances(want)],
        "dynamic_batching": {"max_queue_delay_microseconds": want.max_queue_delay},
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }


def instances(want: DesiredService) -> dict[str, Any]:
    """All instances on the processor, or ``instances`` on each GPU of the pod; a pod's GPUs are always numbered from 0."""
    if not want.placement.gpus:
        return {"kind": "KIND_CPU", "count": want.instances}
    return {"kind": "KIND_GPU", "count": want.instances, "gpus": list(range(want.placement.gpus))}


def render(config: Mapping[str, Any]) -> str:
    """A ModelConfig in protobuf's text format. Raises ValueError for values that a ModelConfig cannot contain."""
    return "".join(f"{line}\n" for line in _message(config, ""))


def _message(fields: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in fields.items():
        if not name.isidentifier():
            raise ValueError(f"{name!r} is not the name of a field")
        if isinstance(value, Mapping) and name in MAPS:
            for key, item in value.items():
                yield f"{indent}{name} {{"
                yield f"{indent}  key: {quote(key)}"
                yield from _field("value", item, indent + "  ")
                yield f"{indent}}}"
        else:
            for item in value if isinstance(value, list) else [value]:
                yield from _field(name, item, indent)


def _field(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{indent}{name} {{"
        yield from _message(value, indent + "  ")
        yield f"{indent}}}"
    else:
        yield f"{indent}{name}: {_scalar(name, value)}"


def _scalar(name: str, value: Any) -> str:
    if isinstance(value, str):
        if name not in ENUMS:
            return quote(value)
        if not value.isidentifier():
            raise ValueError(f"{name}: {value!r} is not the name of an enum value")
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value, allow_nan=False)
    raise ValueError(f"{name}: a ModelConfig cannot hold a {type(value).__name__}")


def quote(text: str) -> str:
    """A string literal in the text format."""
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


_ESCAPES = {chr(code): f"\\{code:03o}" for code in (*range(32), 127)} | {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
