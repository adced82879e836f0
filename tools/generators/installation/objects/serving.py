"""How KServe runs our model packages: what manifests/kserve holds, as objects of an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from generators.installation.nodes import All, Condition, Equal, Not, Value, When
from generators.installation.objects import common

BY_KSERVE: Condition = Equal(Value("engines.serving"), "kserve")
_FOLDER = Path(__file__).parents[4] / "manifests" / "kserve"


def runtimes() -> list[Any]:
    """A ClusterServingRuntime, or a ServingRuntime where one namespace is watched."""
    return [
        When(All((BY_KSERVE, common.IS_CLUSTERWIDE)), _read("clusterservingruntime.yaml", namespaced=False)),
        When(All((BY_KSERVE, Not(common.IS_CLUSTERWIDE))), _read("servingruntime.yaml", namespaced=True)),
    ]


def _read(name: str, *, namespaced: bool) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8"))
    metadata = body["metadata"]
    metadata["labels"] = common.labels("serving") | metadata["labels"]
    if namespaced:
        metadata["namespace"] = common.WATCHED
    return body
