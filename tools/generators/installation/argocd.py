"""The patch of Argo CD's ConfigMap `argocd-cm`, from the Lua files in manifests/argocd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pelagos.api import kinds, meta

_FOLDER = Path(__file__).parents[3] / "manifests" / "argocd"
_ACTIONS = ("retry", "suspend", "resume")


def patch() -> str:
    """A patch that merges into the ConfigMap of an installed Argo CD, and replaces none of its keys."""
    health = _read("health/pelagos.lua")
    definitions = [{"name": name, "action.lua": _read(f"actions/{name}.lua")} for name in _ACTIONS]
    actions = _dump({"discovery.lua": _read("actions/discovery.lua"), "definitions": definitions})
    data: dict[str, str] = {}
    for kind in kinds.KINDS:
        data[f"resource.customizations.health.{meta.GROUP}_{kind.kind}"] = health
        if issubclass(kind.spec, meta.BaseSpec):  # A Trial can be neither suspended nor retried.
            data[f"resource.customizations.actions.{meta.GROUP}_{kind.kind}"] = actions
    return _dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "argocd-cm", "namespace": "argocd"},
            "data": data,
        }
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _dump(body: Any) -> str:
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes programs as block scalars."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
