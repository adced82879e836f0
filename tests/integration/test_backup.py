"""Runs the commands for clusters in docs/backup.md verbatim: from one API server to an empty one."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import rendering
from control_plane import ControlPlane, start_control_plane
from integration.test_life_of_a_training import DATASET, PREPARED, SERVICE, TRAINING, succeed, trained
from sites import Site, has_reason, is_ready

PAGE = (rendering.ROOT / "docs/backup.md").read_text(encoding="utf-8")
SYSTEM, NAMESPACE = "pelagos-system", "reef"
KINDS = (("Dataset", "plankton"), ("TrainingRun", "detector"), ("ModelService", "detector"))


def commands(after: str, until: str) -> list[str]:
    """The commands between two places of the page."""
    part = PAGE[PAGE.index(after) : PAGE.index(until)]
    return re.findall(r"^\$ (kubectl .+)$", part, re.M)


BACKUP = commands("Back up in this order", "Restore in the reverse order")
FIRST = commands("Restore in the reverse order", "Now the namespaces of tenants")
THEN = commands("Now the namespaces of tenants", "## On one machine")


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[tuple[ControlPlane, ControlPlane]]:
    """The cluster that is lost, and an empty one."""
    running: list[ControlPlane] = []
    try:
        running.append(start_control_plane(tmp_path / "lost"))
        running.append(start_control_plane(tmp_path / "new"))
        yield running[0], running[1]
    finally:
        for plane in running:
            plane.stop()


async def run(plane: ControlPlane, lines: list[str], folder: Path) -> None:
    """Run the lines as a person's shell does; the page names files of the repository by their paths in it."""
    if not (folder / "manifests").exists():
        (folder / "manifests").symlink_to(rendering.MANIFESTS)
    for line in lines:
        environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig)}
        environment["PATH"] = f"{Path(rendering.kubectl()).parent}:{environment['PATH']}"
        command = line.replace("kubectl ", f"kubectl --cache-dir {plane.kubeconfig.parent}/cache ", 1)
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, line + done.stderr


def kubectl(plane: ControlPlane, *arguments: str) -> str:
    command = [rendering.kubectl(), "--kubeconfig", str(plane.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


async def test_an_empty_cluster_finds_everything_again_and_begins_nothing(
    planes: tuple[ControlPlane, ControlPlane], tmp_path: Path
) -> None:
    lost, new = planes
    lost.apply_crds()
    for namespace in (NAMESPACE, SYSTEM):
        lost.create_namespace(namespace)
    kubectl(
        lost, "create", "secret", "generic", "pelagos-authority", "-n", SYSTEM, "--from-literal=current=k" + "0" * 31
    )
    kubectl(lost, "create", "configmap", f"pelagos-tenant-{NAMESPACE}", "-n", SYSTEM, "--from-literal=maxGpus=2")
    old = Site(lost, NAMESPACE, tmp_path / "old")
    await old.start_operator()
    old.fakes.volumes.put("plankton/1.png")
    await old.create("Dataset", "plankton", DATASET)
    await old.create("TrainingRun", "detector", TRAINING)
    await old.create("ModelService", "detector", SERVICE)
    await old.wait("Dataset", "plankton", has_reason("Queued"))
    await succeed(old, "dataset", PREPARED)
    await old.wait("TrainingRun", "detector", has_reason("Queued"))
    await succeed(old, "training", trained())
    before = {kind: await old.wait(kind, name, is_ready, seconds=60) for kind, name in KINDS}
    objects = old.fakes.objects
    for uri, file in (
        (before["Dataset"]["status"]["uri"], "manifest.json"),
        (before["TrainingRun"]["status"]["model"]["uri"], "package.json"),
    ):
        folder = objects.path(uri)
        assert folder is not None
        objects.put(f"{folder}/{file}", {"onnxSha256": "b" * 64})
    begun = old.fakes.pipelines.attempts_begun

    await run(lost, BACKUP, tmp_path)
    await old.stop_operator()
    lost.stop()
    old.fakes.serving.clear()  # the servers were on that cluster

    await run(new, FIRST, tmp_path)
    new.create_namespace(NAMESPACE)
    await run(new, THEN, tmp_path)
    site = Site(new, NAMESPACE, tmp_path / "restored", fakes=old.fakes)
    for kind, name in KINDS:
        restored = await site.call("GET", site.path(kind, name))
        assert restored["metadata"]["uid"] != before[kind]["metadata"]["uid"]
        assert (restored["spec"], restored.get("status")) == (before[kind]["spec"], None)
    await site.start_operator()
    after = {kind: await site.wait(kind, name, is_ready, seconds=60) for kind, name in KINDS}
    await site.stop_operator()

    assert old.fakes.pipelines.attempts_begun == begun, "nothing was prepared or trained twice"
    assert after["Dataset"]["status"]["version"] == before["Dataset"]["status"]["version"]
    for field in ("model", "inputsDigest", "metrics"):
        assert after["TrainingRun"]["status"][field] == before["TrainingRun"]["status"][field]
    served = ("name", "uri", "onnxSha256", "manifestSha256")
    models = [body["ModelService"]["status"]["model"] for body in (before, after)]
    assert [models[0][name] for name in served] == [models[1][name] for name in served]
    key = kubectl(new, "get", "secret", "pelagos-authority", "-n", SYSTEM, "--output=jsonpath={.data.current}")
    assert base64.b64decode(key).decode() == "k" + "0" * 31
    assert (
        kubectl(new, "get", "configmap", f"pelagos-tenant-{NAMESPACE}", "-n", SYSTEM, "-o", "jsonpath={.data.maxGpus}")
        == "2"
    )


def test_the_page_has_commands_for_each_part() -> None:
    assert (len(BACKUP), len(FIRST), len(THEN)) == (3, 3, 2)
