"""KServe's own models of its kinds, from its Python package: refuses what KServe would not know, or drop silently.

Only the models are read, which need nothing else; the package's other modules are a model server with a hundred dependencies. The
full CustomResourceDefinitions are more detailed; the tests on a real cluster compare with those (tests/cluster/definitions.py).
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes.client import models as kubernetes_models

from model_packages import ENVIRONMENTS
from published_models import Models

KINDS = Path(__file__).with_name("kinds.yaml")
"""Definitions without a schema, for an API server that stores such objects."""

# Go types to which the generator gave other names; each is written like one that has a model, or as plain text.
_OTHERS = {
    "K8sIoApiAppsV1DeploymentStrategy": "V1DeploymentStrategy",
    "K8sIoApiAutoscalingV2HorizontalPodAutoscalerBehavior": "V2HorizontalPodAutoscalerBehavior",
    "KnativeDevServingPkgApisServingV1TrafficTarget": "object",
    "KnativeURL": "str",
    "KnativeVolatileTime": "datetime",
    "ResourceQuantity": "str",
    "V1Time": "datetime",
    "V1alpha1WorkerSpec": "V1alpha1ServingRuntimePodSpec",
    "V1beta1MetricQuantity": "str",
}


def validator(kind: str) -> Callable[[Mapping[str, Any]], None]:
    """A check that raises ValueError for an object that does not fit the model of its kind (``V1beta1InferenceService``)."""

    def validate(body: Mapping[str, Any]) -> None:
        wrong = list(models().wrong(dict(body), kind, body.get("kind", kind)))
        if wrong:
            raise ValueError("; ".join(wrong))

    return validate


@functools.cache
def models() -> Models:
    names = ("kserve.models", "kserve.models.knative_addressable", "kserve.models.knative_condition")
    if "kserve" not in sys.modules:
        sys.modules["kserve"] = _package()
    return Models((*(importlib.import_module(name) for name in names), kubernetes_models), _OTHERS)


def _package() -> types.ModuleType:
    """The package's modules without running its ``__init__``."""
    found = list(ENVIRONMENTS.glob("kserve/lib/python3*/site-packages/kserve"))
    if not found:
        raise FileNotFoundError(f"KServe's package is not in {ENVIRONMENTS}/kserve: run `make {ENVIRONMENTS}/.kserve`")
    package = types.ModuleType("kserve")
    package.__path__ = [str(found[0])]
    return package
