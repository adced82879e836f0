"""Turns a submitted pipeline into the steps to run, in order. Only linear chains of containers with parameters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Struct = dict[str, Any]

OUTPUT_FILE = "/tmp/kfp_outputs/output_metadata.json"
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\[(['\"])(?P<name>[^'\"]+)\1\]\}\}")


@dataclass(frozen=True)
class Step:
    """One container. ``kubernetes`` is its part of the platform specification, as kfp-kubernetes writes it."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    resources: Struct
    kubernetes: Struct


def flow_name(struct: Struct) -> str:
    """The name of the pipeline."""
    name: str = _spec(struct)["pipelineInfo"]["name"]
    return name


def names(struct: Struct) -> list[str]:
    """The steps in the order in which they run."""
    tasks: Struct = _spec(struct)["root"]["dag"]["tasks"]
    return list(
        TopologicalSorter({name: task.get("dependentTasks", []) for name, task in tasks.items()}).static_order()
    )


def resolve(struct: Struct, parameters: Mapping[str, Any], output_file: str = OUTPUT_FILE) -> list[Step]:
    """The steps with their commands filled in. Raises ValueError or KeyError with a message for the submitter."""
    spec = _spec(struct)
    given = _parameters(spec, parameters)
    return [_step(struct, name, spec["root"]["dag"]["tasks"][name], given, output_file) for name in names(struct)]


def _spec(struct: Struct) -> Struct:
    spec: Struct = struct.get("pipeline_spec", struct)
    return spec


def _parameters(spec: Struct, given: Mapping[str, Any]) -> Struct:
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise ValueError(f"parameters {unknown} are not inputs of the pipeline")
    values = {name: given.get(name, declared[name].get("defaultValue")) for name in declared}
    missing = sorted(name for name, value in values.items() if value is None and not declared[name].get("isOptional"))
    if missing:
        raise ValueError(f"parameters {missing} are missing")
    return values


def _step(struct: Struct, name: str, task: Struct, parameters: Struct, output_file: str) -> Step:
    spec = _spec(struct)
    label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
    container = spec["deploymentSpec"]["executors"][label]["container"]
    inputs = {
        key: _value(key, source, parameters) for key, source in task.get("inputs", {}).get("parameters", {}).items()
    }
    executor_input = {"inputs": {"parameterValues": inputs}, "outputs": {"outputFile": output_file}}
    platforms = struct.get("platform_spec", {}).get("platforms", {})
    configured = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return Step(
        name=name,
        image=container["image"],
        command=tuple(_fill(word, executor_input) for word in [*container["command"], *container.get("args", [])]),
        environment={variable["name"]: variable["value"] for variable in container.get("env", [])},
        resources=container.get("resources", {}),
        kubernetes=configured.get(label, {}),
    )


def _value(name: str, source: Struct, parameters: Struct) -> Any:
    if "componentInputParameter" in source:
        return parameters[source["componentInputParameter"]]
    if "runtimeValue" in source:
        return source["runtimeValue"]["constant"]
    raise ValueError(f"input {name} comes from another step; the fake server passes parameters of the pipeline only")


def _fill(word: str, executor_input: Struct) -> str:
    values = executor_input["inputs"]["parameterValues"]
    word = word.replace("{{$}}", json.dumps(executor_input))
    return _INPUT.sub(lambda match: str(values[match["name"]]), word)
