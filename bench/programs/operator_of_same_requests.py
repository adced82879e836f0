"""A minimal operator with kopf that sends the API server the same requests as Pelagos. Started by operators.py.

For each Dataset: a first status, the finalizer, a check that it still exists, the status Ready, and an event.
It decides nothing, calls no other system, and sends constant bodies: what remains is kopf's watch, HTTP and JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import uvloop

READY = Path(os.environ["PELAGOS_HOME"]) / "operator.json"
MERGE = {"Content-Type": "application/merge-patch+json"}
AT_ONCE = 16
"""Resources in parallel, as many as Pelagos handles."""
STATUS = {
    "version": "sha256:" + "a" * 64,
    "uri": "/store/versions/" + "a" * 64,
    "images": 600,
    "annotations": 900,
    "classes": [{"name": f"class {number}", "images": 100, "annotations": 150} for number in range(6)],
}
_seen: set[str] = set()


def _ready(status: str) -> dict[str, Any]:
    condition = {"type": "Ready", "status": status, "reason": "VersionReady", "message": "600 images in 6 classes"}
    return condition | {"observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}


@kopf.on.login()
def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """Log in with the kubeconfig."""
    return kopf.login_with_kubeconfig(settings=settings)


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Disable kopf's events, and open connections."""
    settings.posting.enabled = False
    memo.turns, memo.session = asyncio.Semaphore(AT_ONCE), _session(kopf.login_with_kubeconfig(settings=settings))
    READY.parent.mkdir(parents=True, exist_ok=True)
    READY.write_text("{}", encoding="utf-8")


def _session(found: kopf.ConnectionInfo | None) -> aiohttp.ClientSession:
    assert found is not None
    connector = aiohttp.TCPConnector(ssl=found.as_ssl_context())
    return aiohttp.ClientSession(found.server, connector=connector, headers=found.as_http_headers())


@kopf.on.event("pelagos.dev", "v1alpha1", "datasets", when=lambda uid, **_: uid not in _seen)
async def seen(body: kopf.Body, uid: str, memo: kopf.Memo, **_: Any) -> None:
    """Send the five requests, once for each Dataset."""
    _seen.add(uid)
    metadata = body["metadata"]
    where, name = metadata["namespace"], metadata["name"]
    path = f"/apis/pelagos.dev/v1alpha1/namespaces/{where}/datasets/{name}"

    async def ask(method: str, path: str, body: Any = None, **headers: str) -> None:
        data = None if body is None else json.dumps(body)
        async with memo.session.request(method, path, data=data, headers=headers) as answer:
            answer.raise_for_status()
            await answer.json()

    async with memo.turns:
        await ask("PATCH", f"{path}/status", {"status": {"conditions": [_ready("Unknown")]}}, **MERGE)
        await ask("PATCH", path, {"metadata": {"finalizers": ["pelagos.dev/finalizer"]}}, **MERGE)
        await ask("GET", path)
        await ask("PATCH", f"{path}/status", {"status": STATUS | {"conditions": [_ready("True")]}}, **MERGE)
        about = {"kind": "Dataset", "namespace": where, "name": name, "uid": uid}
        event = {"metadata": {"generateName": f"{name}."}, "involvedObject": about, "reason": "VersionReady"}
        kind = {"Content-Type": "application/json"}
        await ask("POST", f"/api/v1/namespaces/{where}/events", event | {"type": "Normal", "message": "ready"}, **kind)


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Close the connections."""
    await memo.session.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    os.environ["KUBECONFIG"] = os.environ["PELAGOS_KUBECONFIG"]
    kopf.run(loop=uvloop.new_event_loop(), standalone=True, namespaces=[os.environ["PELAGOS_NAMESPACE"]])
