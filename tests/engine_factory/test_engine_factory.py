"""Settings name engines; all combinations are possible, and contradictions are refused with the setting to change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pelagos import engine_factory
from pelagos.engine_factory import Engines
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.leadership import NotLeadingError
from pelagos.settings import Settings

CLUSTER = {"tracking_uri": "http://mlflow:5000", "kubeflow_url": "http://ml-pipeline:8888"}
S3 = {"objects_uri": "s3://pelagos/objects", "data_uri": "s3://pelagos/data"}


@pytest.fixture
async def api() -> AsyncIterator[KubernetesRest]:
    """A connection that is not used: choosing engines contacts no outside system."""
    rest = KubernetesRest("http://127.0.0.1:9", tls=None)
    yield rest
    await rest.close()


@asynccontextmanager
async def chosen(api: KubernetesRest, tmp_path: Path, **changes: Any) -> AsyncIterator[Engines]:
    engines = engine_factory.choose(Settings(home=tmp_path, **changes), api, lambda _uid: None)
    yield engines
    for close in engines.closing:
        await close()


async def test_all_clients_ask_the_guard_before_they_change_something(api: KubernetesRest, tmp_path: Path) -> None:
    asked: list[str] = []

    def refuse(system: str, operation: str) -> None:
        asked.append(system)
        raise NotLeadingError(operation)

    changes: dict[str, Any] = {"pipelines_engine": "kubeflow", "serving_engine": "kserve", **CLUSTER, **S3}
    engines = engine_factory.choose(Settings(home=tmp_path, **changes), api, lambda _uid: None, refuse)

    for system, client in (("kfp", engines.pipelines._rest), ("mlflow", engines.registry._rest)):  # type: ignore[attr-defined]
        change = client.delete_run("x") if system == "kfp" else client.delete("model-versions/delete", {})
        with pytest.raises(NotLeadingError):
            await change
        assert asked[-1] == system
    for close in engines.closing:
        await close()


def kinds(engines: Engines) -> list[str]:
    parts = (engines.pipelines, engines.serving, engines.objects, engines.volumes, engines.tenants)
    return [type(part).__name__ for part in parts]


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, ["KfpLocal", "TritonLocal", "FolderObjects", "FolderVolumes", "OneTenant"]),
        (
            {"pipelines_engine": "kubeflow", "serving_engine": "kserve", **CLUSTER, **S3},
            ["Kubeflow", "Kserve", "S3Objects", "S3Volumes", "KubernetesTenants"],
        ),
        (
            {"pipelines_engine": "kubeflow", "serving_engine": "deployment", **CLUSTER, **S3},
            ["Kubeflow", "TritonDeployment", "S3Objects", "S3Volumes", "KubernetesTenants"],
        ),
        (
            {"pipelines_engine": "kubeflow", "serving_engine": "local", **CLUSTER},
            ["Kubeflow", "TritonLocal", "FolderObjects", "FolderVolumes", "KubernetesTenants"],
        ),
        (
            {"serving_engine": "kserve", "objects_claim": "objects", **CLUSTER},
            ["KfpLocal", "Kserve", "FolderObjects", "FolderVolumes", "KubernetesTenants"],
        ),
    ],
)
async def test_engines_are_chosen_one_by_one(
    api: KubernetesRest, tmp_path: Path, changes: dict[str, Any], want: list[str]
) -> None:
    async with chosen(api, tmp_path, **changes) as engines:
        assert kinds(engines) == want


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pipelines_engine": "kubeflow", "tracking_uri": "http://mlflow:5000"}, "PELAGOS_KUBEFLOW_URL"),
        ({"pipelines_engine": "kubeflow", "kubeflow_url": "http://ml-pipeline:8888"}, "PELAGOS_TRACKING_URI"),
        ({"serving_engine": "kserve", **CLUSTER}, "PELAGOS_OBJECTS_URI"),
    ],
)
async def test_settings_that_contradict_each_other_are_refused_by_name(
    api: KubernetesRest, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        engine_factory.choose(Settings(home=tmp_path, **changes), api, lambda _uid: None)


def test_an_operator_with_contradicting_settings_ends_at_once_and_says_why(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "PELAGOS_HOME": str(tmp_path), "PELAGOS_PIPELINES_ENGINE": "kubeflow"}

    done = subprocess.run(
        [sys.executable, "-m", "pelagos"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert "PELAGOS_KUBEFLOW_URL must be the address" in done.stderr
    assert "Traceback" not in done.stderr


async def test_readiness_looks_at_every_system_that_is_elsewhere(api: KubernetesRest, tmp_path: Path) -> None:
    away = {**CLUSTER, "tracking_uri": "http://127.0.0.1:9"}
    async with chosen(api, tmp_path, pipelines_engine="kubeflow", serving_engine="deployment", **away) as engines:
        assert engines.checks.keys() == {"pipelines", "serving", "objects", "volumes", "tracking", "authority"}
        assert "127.0.0.1:9" in str(await engines.checks["tracking"]())
        assert await engines.checks["objects"]() is None


async def test_on_one_machine_nothing_elsewhere_is_looked_at(api: KubernetesRest, tmp_path: Path) -> None:
    async with chosen(api, tmp_path) as engines:
        assert engines.checks == {}


def test_of_engines_that_are_not_chosen_the_descriptors_alone_are_loaded() -> None:
    script = "import sys, pelagos.wiring; print(*(m for m in sys.modules if m.startswith('pelagos.engines.')))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    for name in ("kserve", "kubeflow", "deployment", "s3", "mlflow", "triton_local", "kfp_local"):
        package = f"pelagos.engines.{name}"
        assert {module for module in loaded if module.startswith(package)} <= {package, f"{package}.descriptor"}
