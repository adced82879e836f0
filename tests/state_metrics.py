"""The metrics that kube-state-metrics makes of custom resources: its documented configuration, applied to resources.

Written from the documentation of CustomResourceStateMetrics: what tests/monitoring proves of our configuration holds as far as
this code follows it. Errors in a configuration raise ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_RESOURCE_KEYS = {"groupVersionKind", "metricNamePrefix", "labelsFromPath", "commonLabels", "metrics", "errorLogV"}
_METRIC_KEYS = {"name", "help", "each", "labelsFromPath", "commonLabels", "errorLogV"}
_COMMON = {"path", "labelsFromPath"}
_FORMS = {
    "Gauge": ("gauge", _COMMON | {"valueFrom", "labelFromKey", "nilIsZero"}),
    "StateSet": ("stateSet", _COMMON | {"valueFrom", "labelName", "list"}),
    "Info": ("info", _COMMON | {"labelFromKey"}),
}
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0, "unknown": 0.0}


@dataclass(frozen=True)
class Sample:
    """One sample of a metric."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


def evaluate(config: Mapping[str, Any], bodies: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """All samples of the resources; a metric whose path leads nowhere has none."""
    if config.get("kind") != "CustomResourceStateMetrics":
        raise ValueError("kind: CustomResourceStateMetrics is missing")
    found = list(bodies)
    samples: list[Sample] = []
    for resource in config["spec"]["resources"]:
        _only(resource, _RESOURCE_KEYS)
        wanted = resource["groupVersionKind"]
        for body in found:
            version = f"{wanted['group']}/{wanted['version']}"
            if (body["apiVersion"], body["kind"]) == (version, wanted["kind"]):
                samples += _of_resource(resource, body)
    return samples


def exposition(samples: Iterable[Sample]) -> str:
    """The samples in the text format that Prometheus scrapes."""
    lines: dict[str, list[str]] = {}
    for sample in samples:
        labels = ",".join(f"{name}={_quoted(value)}" for name, value in sample.labels)
        lines.setdefault(sample.name, [f"# TYPE {sample.name} gauge"]).append(
            f"{sample.name}{{{labels}}} {sample.value}"
        )
    return "".join(f"{line}\n" for family in lines.values() for line in family)


def names(config: Mapping[str, Any]) -> list[str]:
    """Names of all metrics."""
    return [
        f"{resource['metricNamePrefix']}_{metric['name']}"
        for resource in config["spec"]["resources"]
        for metric in resource["metrics"]
    ]


def _of_resource(resource: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[Sample]:
    wanted = resource["groupVersionKind"]
    base = {f"customresource_{key}": wanted[key] for key in ("group", "version", "kind")}
    base |= resource.get("commonLabels", {}) | _labels(resource, body)
    for metric in resource["metrics"]:
        _only(metric, _METRIC_KEYS)
        if not metric.get("help"):
            raise ValueError(f"{metric['name']} has no help")
        name = f"{resource['metricNamePrefix']}_{metric['name']}"
        for labels, value in _values(metric["each"], body):
            yield Sample(name, tuple(sorted((base | labels).items())), value)


def _values(each: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], float]]:
    key, allowed = _FORMS[each["type"]]
    _only(each, {"type", key})
    form = each[key]
    _only(form, allowed)
    target = _at(body, form.get("path", ()))
    if each["type"] == "Gauge":
        yield from _gauge(form, target)
    elif each["type"] == "StateSet":
        for entry in target if isinstance(target, list) else [target]:
            yield from _states(form, entry)
    else:
        # Labels are looked up in the object itself and in each of its fields.
        entries = (
            target if isinstance(target, list) else [target, *(target.values() if isinstance(target, dict) else ())]
        )
        for labels in filter(None, (_labels(form, entry) for entry in entries)):
            yield labels, 1.0


def _gauge(form: Mapping[str, Any], target: Any) -> Iterator[tuple[dict[str, str], float]]:
    if isinstance(target, Mapping):
        entries = [
            ({form["labelFromKey"]: key} if "labelFromKey" in form else {}, item) for key, item in target.items()
        ]
    else:
        entries = [({}, item) for item in (target if isinstance(target, list) else [target])]
    for labels, item in entries:
        value = _at(item, form.get("valueFrom", ()))
        if value is not None:
            yield labels | _labels(form, item), _number(value)


def _states(form: Mapping[str, Any], entry: Any) -> Iterator[tuple[dict[str, str], float]]:
    value = _at(entry, form["valueFrom"])
    if isinstance(value, str):
        for state in form["list"]:
            yield {form["labelName"]: state} | _labels(form, entry), float(value == state)


def _labels(form: Mapping[str, Any], entry: Any) -> dict[str, str]:
    found = {name: _at(entry, path) for name, path in form.get("labelsFromPath", {}).items()}
    for name in found:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{name} is no name of a label")
    return {name: str(value) for name, value in found.items() if value is not None}


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", part):
            value = value[int(part)] if -len(value) <= int(part) < len(value) else None
        else:
            return None
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if re.match(r"\d{4}-\d\d-\d\dT", value):
        return datetime.fromisoformat(value).timestamp()
    return float(value)


def _only(found: Mapping[str, Any], allowed: set[str]) -> None:
    if unknown := found.keys() - allowed:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
