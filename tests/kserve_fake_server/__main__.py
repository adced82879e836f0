"""``python -m kserve_fake_server``, from the folder tests: stands in for KServe on a cluster that a kubeconfig leads to.

With ``--claim NAME=FOLDER`` the pods run as processes of this machine, for an API server without nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import signal
import ssl
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import yaml

from kserve_fake_server import published
from kserve_fake_server.controller import Controller
from kserve_fake_server.nodes import Node
from model_packages import ENVIRONMENTS
from pelagos.engines.kubernetes.rest import KubernetesRest


def connect(kubeconfig: Path) -> KubernetesRest:
    """Connect with the token of the current context."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    data = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"), cadata=base64.b64decode(data).decode() if data else None
    )
    return KubernetesRest(cluster["server"], tls=tls, token=user["token"])


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


async def work(kubeconfig: Path, claims: dict[str, Path]) -> None:
    """Run the controller, and the node if it has folders for its claims."""
    rest = connect(kubeconfig)
    controller = Controller(rest, published.validator("V1beta1InferenceService"))
    if not claims:
        await controller.run()
        return
    with tempfile.TemporaryDirectory(prefix="kserve-fake-server-") as folder:
        node = Node(rest, claims, ENVIRONMENTS, Path(folder))
        try:
            await _until_interrupted(controller.run(), node.run())
        finally:
            await node.stop()


async def _until_interrupted(*work: Coroutine[Any, Any, None]) -> None:
    """Cancel again until all have ended: an HTTP client swallows a cancellation that coincides with its own timeout."""
    tasks = {asyncio.ensure_future(each) for each in work}
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    waiting = asyncio.ensure_future(interrupted.wait())
    ended, _ = await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
    pending = {*tasks, waiting} - ended
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    for task in ended & tasks:
        task.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="kserve_fake_server", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--claim", action="append", default=[], metavar="NAME=FOLDER")
    given = parser.parse_args()
    folders = dict(each.split("=", 1) for each in given.claim)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(given.kubeconfig, {name: Path(folder) for name, folder in folders.items()}))
