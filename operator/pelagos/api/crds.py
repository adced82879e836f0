"""Renders the CustomResourceDefinitions from the kinds."""

from __future__ import annotations

from typing import Any

from pelagos.api import kinds, meta, schemas


def render(kind: kinds.Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of ``kind``."""
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
        "shortNames": [kind.short],
        "categories": [meta.CATEGORY],
    }
    version = {
        "name": meta.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(kind)},
        "subresources": {"status": {}} | ({"scale": kind.scale.render()} if kind.scale else {}),
        "additionalPrinterColumns": [
            {"name": column.name, "type": column.type, "jsonPath": column.path}
            | ({"priority": column.priority} if column.priority else {})
            | ({"description": column.description} if column.description else {})
            for column in kind.columns
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd, "labels": {"app.kubernetes.io/part-of": "pelagos"}},
        "spec": {"group": meta.GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def outline(kind: kinds.Kind) -> dict[str, Any]:
    """The fields of the schema that `render` has, without types, rules and descriptions."""
    above: dict[str, Any] = {name: {} for name in ("apiVersion", "kind", "metadata")}
    return {"properties": {**above, "spec": schemas.outline(kind.spec), "status": schemas.outline(kind.status)}}


def _schema(kind: kinds.Kind) -> dict[str, Any]:
    spec = schemas.structural(kind.spec)
    rules = [{"rule": rule.cel, "message": rule.message} for rule in kind.spec.rules()]
    for field in kind.frozen:
        schema = spec["properties"][field]
        schema["x-kubernetes-validations"] = [{"rule": "self == oldSelf", "message": _immutable(kind, field)}]
        if field not in spec.get("required", ()) and "default" not in schema:
            # A rule on a field is not evaluated when the field is added or removed.
            rules.append({"rule": f"has(self.{field}) == has(oldSelf.{field})", "message": _immutable(kind, field)})
    spec["x-kubernetes-validations"] = rules
    return {
        "type": "object",
        "description": spec["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
            "kind": {"type": "string", "description": "Kind of this object."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": schemas.structural(kind.status),
        },
    }


def _immutable(kind: kinds.Kind, field: str) -> str:
    return f"spec.{field} is immutable; create a new {kind.kind} instead"
