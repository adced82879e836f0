"""Writes objects as a kustomize tree. A component is what changes between two sets of values: new objects, and merge patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

Body = Mapping[str, Any]

MERGE_KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""Lists that kustomize and kubectl merge by the key of their items."""
_HEADS = {
    "Kustomization": {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"},
    "Component": {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"},
}


def dump(*bodies: Body) -> str:
    """YAML documents."""
    return "---\n".join(
        yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True) for body in bodies
    )


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def kustomization(head: str = "Kustomization", **parts: Any) -> str:
    """A kustomization file; empty parts are left out."""
    return dump(_HEADS[head] | {key: value for key, value in parts.items() if value})


def component(before: Iterable[Body], after: Iterable[Body], *, resources: tuple[str, ...] = ()) -> dict[str, str]:
    """Files of a component that makes ``after`` of ``before``, by their names."""
    old, new = ({identity(body): body for body in bodies} for bodies in (before, after))
    assert old.keys() <= new.keys(), "a component adds objects and changes them"
    added = [body for key, body in new.items() if key not in old]
    patches = [
        {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {"name": body["metadata"]["name"]}}
        | difference(old[key], body)
        for key, body in new.items()
        if key in old and old[key] != body
    ]
    objects = {"objects.yaml": dump(*added)} if added else {}
    changes = {"patch.yaml": dump(*(_with_namespace(patch, new) for patch in patches))} if patches else {}
    head = kustomization("Component", resources=[*resources, *objects], patches=[{"path": name} for name in changes])
    return objects | changes | {"kustomization.yaml": head}


def identity(body: Body) -> tuple[str, str, str, str]:
    """What tells objects apart."""
    metadata = body["metadata"]
    return body["apiVersion"], body["kind"], metadata.get("namespace", ""), metadata["name"]


def difference(before: Body, after: Body) -> dict[str, Any]:
    """The strategic merge patch from ``before`` to ``after``; ``null`` removes a field."""
    found: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            found[key] = value
        elif value != before[key]:
            found[key] = _changed(key, before[key], value)
    return found


def _changed(key: str, before: Any, after: Any) -> Any:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return difference(before, after)
    if key in MERGE_KEYS:
        return list(_changed_items(MERGE_KEYS[key], before, after))
    return after


def _changed_items(by: str, before: list[Body], after: list[Body]) -> Iterable[dict[str, Any]]:
    old, new = ({item[by]: item for item in items} for items in (before, after))
    for name, item in new.items():
        if name not in old:
            yield dict(item)
        elif item != old[name]:
            yield {by: name} | difference(old[name], item)
    for name in old:
        if name not in new:
            yield {by: name, "$patch": "delete"}


def _with_namespace(patch: dict[str, Any], known: Mapping[tuple[str, str, str, str], Body]) -> dict[str, Any]:
    """Patches name their target in full, with its namespace."""
    (body,) = (
        body
        for body in known.values()
        if (body["kind"], body["metadata"]["name"]) == (patch["kind"], patch["metadata"]["name"])
    )
    namespace = body["metadata"].get("namespace")
    named = {"name": patch["metadata"]["name"]} | ({"namespace": namespace} if namespace else {})
    return patch | {"metadata": named}
