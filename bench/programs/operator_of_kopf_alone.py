"""The least that an operator with kopf's own handlers does: one handler that sets one field of status. Started by operators.py.

It gets what makes kopf cheap: no events, no log below warnings.
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
    """With the kubeconfig."""
    return kopf.login_with_kubeconfig(settings=settings)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Post no events; tell that we are there."""
    settings.posting.enabled = False
    READY.parent.mkdir(parents=True, exist_ok=True)
    READY.write_text("{}", encoding="utf-8")


@kopf.on.create("pelagos.dev", "v1alpha1", "datasets")
async def created(patch: kopf.Patch, **_: Any) -> None:
    """Set one field."""
    patch.status["uri"] = "seen"


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    os.environ["KUBECONFIG"] = os.environ["PELAGOS_KUBECONFIG"]
    kopf.run(standalone=True, namespaces=[os.environ["PELAGOS_NAMESPACE"]])
