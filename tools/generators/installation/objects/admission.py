"""The policies of api/admission.py as objects of an installation, for servers that know such (Kubernetes 1.30)."""

from __future__ import annotations

from typing import Any

from generators.installation.nodes import Given, Value, When
from generators.installation.objects import common
from pelagos.api import admission


def policies() -> list[Any]:
    """Each policy and its binding. They judge all namespaces, whichever are watched."""
    return [
        When(
            Given(Value("admission.enabled")),
            body | {"metadata": common.cluster_metadata(body["metadata"]["name"], "admission")},
        )
        for body in admission.rendered(common.OWN)
    ]
