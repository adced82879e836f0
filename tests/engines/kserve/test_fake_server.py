"""The fake server as a separate program, as a developer starts it beside an API server to see KServe's part of a service."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane import ControlPlane
from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.kserve.engine import Kserve
from pelagos.engines.kubernetes.objects import KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.serving import DesiredService, ServiceState
from serving_clusters import CLAIM, clear, options, until

UID = "uid-of-fake-server"


@pytest.fixture
def program(plane: ControlPlane, tmp_path: Path) -> Iterator[None]:
    command: list[str] = [
        sys.executable,
        "-m",
        "kserve_fake_server",
        "--kubeconfig",
        str(plane.kubeconfig),
        "--claim",
        f"{CLAIM}={tmp_path.parent}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=log, stderr=log)
    try:
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


async def test_an_inference_service_is_served_by_the_program(
    plane: ControlPlane, program: None, tmp_path: Path, make_want: Callable[..., DesiredService]
) -> None:
    plane.create_namespace("fake-server")
    rest = KubernetesRest(plane.url, tls=plane.tls(), token=plane.token)
    cluster, objects = KubernetesObjects(rest), FolderObjects(tmp_path.parent)
    serving = Kserve(cluster, objects, options(tmp_path.parent), lambda _uid: "fake-server")
    try:
        await serving.apply(replace(make_want(uid=UID), namespace="fake-server"))
        seen = await until(serving, UID, ServiceState.LOADED, seconds=60)
        assert seen.http_url == "http://detector-predictor.fake-server.svc:80"
        assert (await serving.probe(UID)).correct
        await serving.remove(UID)
    finally:
        await clear(rest, "fake-server")
        await serving.close()
        await rest.close()
