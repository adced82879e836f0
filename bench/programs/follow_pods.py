"""Creates Datasets and trainings on a Kubernetes node, and records the times of their pods. Started by pods.py.

Run with the interpreter of the environment ``dev`` and the folder ``tests``, which starts the node, on PYTHONPATH:
``follow_pods.py FOLDER DATA REPEATS INTO``. Writes as JSON to INTO ``loads`` and, by kind, a list of objects with seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.harness import machine
from cluster.harness.cluster import Cluster
from cluster.platform import services
from cluster.platform.services import Platform
from cluster.platform.site import SYSTEM, TENANT, Site, give_storage_credentials, make_tenant
from installations import dataset, training

PATH = "samples/phytoplankton-crops"
RUN_LABEL = "pipeline/runid"
ASKED = {"cpu": "900m", "memory": "2Gi"}
"""Requests of a step: less than the two cores, because the platform's pods need some too."""
_SECONDS = 900


def main(folder: Path, data: Path, repeats: int, into: Path) -> None:
    """Measure ``repeats`` times, and write the result to ``into``."""
    loads = [os.getloadavg()[0]]
    found: dict[str, list[dict[str, float]]] = {"Dataset": [], "TrainingRun": []}
    running = Cluster.start(folder)
    try:
        site = _install(folder, data, running)
        for number in range(repeats):
            loads.append(os.getloadavg()[0])
            for body in _bodies(number):
                found[body["kind"]].append(_follow(site, body))
                print(body["kind"], found[body["kind"]][-1], flush=True)
    finally:
        running.stop()
    into.write_text(json.dumps({"loads": loads, **found}), encoding="utf-8")


def _install(folder: Path, data: Path, running: Cluster) -> Site:
    images = {name: running.images.build(name) for name in ("operator", "trainer")}
    platform = Platform.start(running, helpers=True)
    make_tenant(running)
    platform.upload(data / PATH, f"data/{TENANT}/{PATH}")
    running.create_namespace(SYSTEM)
    give_storage_credentials(running, SYSTEM)
    return Site.install(
        running,
        folder / "kustomization",
        overlay="triton-only",
        images={**images, "serving": "none"},
        PELAGOS_S3_ENDPOINT=services.STORAGE,
    )


def _bodies(number: int) -> list[dict[str, Any]]:
    """Manifests that differ in each repeat, so that no result can be reused."""
    asked: dict[str, Any] = {"resources": ASKED, "deletionPolicy": "Delete"}
    prepared = dataset(f"crops-{number}", PATH, "Classification", split={"seed": number}, **asked)
    asked["resources"] = {**ASKED, "sharedMemory": "256Mi"}
    trained = training(f"classifier-{number}", f"crops-{number}", "mobilenet_v3_small", 1, **asked)
    return [prepared, trained]


def _follow(site: Site, body: Mapping[str, Any]) -> dict[str, float]:
    began = time.monotonic()
    site.apply(body)
    uid = site.wait_ready(body["kind"].lower(), body["metadata"]["name"], _SECONDS)["metadata"]["uid"]
    ready = time.monotonic() - began
    own = site.pods(f"pelagos.dev/uid={uid}")
    names = {pod["metadata"]["name"] for pod in own}
    runs = {pod["metadata"]["labels"][RUN_LABEL] for pod in own}
    others = [pod for run in runs for pod in site.pods(f"{RUN_LABEL}={run}") if pod["metadata"]["name"] not in names]
    return {
        "ready": ready,
        "work": sum(_moment(pod, "finishedAt") - _moment(pod, "startedAt") for pod in own),
        "preparing": sum(_moment(pod, "finishedAt") - _created(pod) for pod in others),
        "starting": sum(_moment(pod, "startedAt") - _created(pod) for pod in own),
        "pods": len(own) + len(others),
    }


def _created(pod: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()


def _moment(pod: Mapping[str, Any], which: str) -> float:
    main = next(each for each in pod["status"]["containerStatuses"] if each["name"] == "main")
    return datetime.fromisoformat(main["state"]["terminated"][which]).timestamp()


if __name__ == "__main__":
    if reason := machine.unsupported() or machine.not_installed():
        sys.exit(f"no node of Kubernetes can run here: {reason}")
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
