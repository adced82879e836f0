"""The Helm chart: Chart.yaml, values.yaml with a comment at every key, values.schema.json, and templates."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, cast

import yaml
from pydantic import BaseModel

from generators.installation import helm
from generators.installation.objects import admission, network, operator, roles, serving, tenants
from generators.installation.values import Values

FILES = "files/monitoring"
"""Folder of the chart with the objects for the Prometheus operator."""
_MONITORING = f"""\
{{{{- if $.Values.monitoring.enabled }}}}
{{{{- range $path, $_ := $.Files.Glob "{FILES}/*.yaml" }}}}
{{{{- range $text := splitList "\\n---\\n" ($.Files.Get $path) }}}}
{{{{- $object := fromYaml $text }}}}
{{{{- if not (hasPrefix "Cluster" $object.kind) }}}}
{{{{- $_ := set $object.metadata "namespace" $.Release.Namespace }}}}
{{{{- end }}}}
{{{{- $_ := set $object.metadata.labels "app.kubernetes.io/instance" $.Release.Name }}}}
{{{{- $_ := set $object.metadata.labels "app.kubernetes.io/version" $.Chart.AppVersion }}}}
{{{{- $_ := set $object.metadata.labels "app.kubernetes.io/managed-by" $.Release.Service }}}}
---
{{{{ toYaml $object }}}}
{{{{- end }}}}
{{{{- end }}}}
{{{{- end }}}}
"""
_NOTES = """\
Pelagos {{ .Chart.AppVersion }} is installed in the namespace {{ .Release.Namespace }}.

  kubectl rollout status deployment/pelagos-operator --namespace {{ .Release.Namespace }}
  kubectl get pelagos --all-namespaces
"""


def templates() -> dict[str, list[Any]]:
    """The objects of each template file."""
    return {
        "namespace": [operator.namespace()],
        "operator": [operator.service_account(), operator.service(), *operator.deployments()],
        "roles": roles.roles(),
        "kserve": serving.runtimes(),
        "networkpolicies": network.policies(),
        "admission": admission.policies(),
        "tenants": [tenants.tenants()],
    }


def files(version: str) -> dict[str, str]:
    """Every file of the chart but the definitions and the monitoring objects, by its path in the chart."""
    texts = {f"templates/{name}.yaml": helm.template(bodies) for name, bodies in templates().items()}
    return texts | {
        "templates/monitoring.yaml": _MONITORING,
        "templates/NOTES.txt": _NOTES,
        "Chart.yaml": yaml.safe_dump(_chart(version), sort_keys=False, width=120),
        "values.yaml": "\n".join(_documented(Values(), "")) + "\n",
        "values.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
    }


def _chart(version: str) -> dict[str, Any]:
    return {
        "apiVersion": "v2",
        "name": "pelagos",
        "description": "Kubernetes operator and MLOps control plane for image collections and models in aquatic sciences",
        "type": "application",
        "version": version,
        "appVersion": version,
        "kubeVersion": ">=1.20.0-0",
    }


def schema() -> dict[str, Any]:
    """JSON Schema (draft 7) of the values; a key that nobody knows is refused."""
    found = Values.model_json_schema(by_alias=True)
    definitions = found.pop("$defs", {})
    inlined = cast("dict[str, Any]", _inline(found, definitions))
    storage = inlined["properties"]["storage"]
    storage["allOf"] = [
        {"anyOf": [{"properties": {name: {"minLength": 1}}, "required": [name]} for name in (place, f"{place}Claim")]}
        for place in ("objects", "data")
    ]
    inlined["if"] = _within("networkPolicies", {"enabled": {"const": True}})
    inlined["then"] = _within("networkPolicies", {"apiServer": {"properties": {"peers": {"minItems": 1}}}})
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | inlined


def _within(part: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Values whose ``part`` has these properties."""
    return {"properties": {part: {"properties": properties, "required": list(properties)}}, "required": [part]}


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    """Without references; the long name of a type is no title that a person needs."""
    if isinstance(node, list):
        return [_inline(child, definitions) for child in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = definitions[node["$ref"].rsplit("/", 1)[1]] | beside
    return {
        key: _inline(value, definitions)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }


def _documented(part: BaseModel, indent: str) -> Iterator[str]:
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        yield from textwrap.wrap(f"{indent}# {info.description}", 120, subsequent_indent=f"{indent}# ")
        if isinstance(value, BaseModel):
            yield f"{indent}{info.alias}:"
            yield from _documented(value, f"{indent}  ")
        elif isinstance(value, dict) and value:
            yield f"{indent}{info.alias}:"
            yield from textwrap.indent(yaml.safe_dump(value, sort_keys=False).rstrip(), f"{indent}  ").splitlines()
        else:
            yield f"{indent}{info.alias}: {json.dumps(value)}"
