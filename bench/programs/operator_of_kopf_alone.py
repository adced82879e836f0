"""A minimal operator with kopf's own handlers: one handler that sets one status field. Started by operators.py.

It uses kopf's cheapest settings: no events, no log below warnings.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import kopf

READY = Path(os.environ["PELAGOS_HOME"]) / "operator.json"


@kopf.on.login()
def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """Log in with the kubeconfig."""
    return kopf.login_with_kubeconfig(settings=settings)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Disable events, and signal that the operator runs."""
    settings.posting.enabled = False
    READY.parent.mkdir(parents=True, exist_ok=True)
    READY.write_text("{}", encoding="utf-8")


@kopf.on.create("pelagos.dev", "v1alpha1", "datasets")
async def created(patch: kopf.Patch, **_: Any) -> None:
    """Set one status field."""
    patch.status["uri"] = "seen"


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    os.environ["KUBECONFIG"] = os.environ["PELAGOS_KUBECONFIG"]
    kopf.run(standalone=True, namespaces=[os.environ["PELAGOS_NAMESPACE"]])
