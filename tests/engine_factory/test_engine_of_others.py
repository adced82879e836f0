"""An extension's engine is one module, plus one line where the operator is started; the rest follows from its descriptor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import simulation
from extension_example import engine
from pelagos import engine_factory, engine_registry
from pelagos.cli.diagnosis import engines as doctors
from pelagos.cli.diagnosis.sections import examine
from pelagos.engines.diagnosis import DoctorContext, Finding, State
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.settings import Settings

CLUSTER: dict[str, Any] = {"tracking_uri": "http://mlflow:5000", "data_uri": "s3://pelagos/data"}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_registry, "PIPELINES", engine_registry.PIPELINES.including([engine.DESCRIPTOR]))


@pytest.fixture
async def api() -> AsyncIterator[KubernetesRest]:
    rest = KubernetesRest("http://127.0.0.1:9", tls=None)
    yield rest
    await rest.close()


@pytest.fixture
def world() -> Iterator[simulation.Simulation]:
    with simulation.simulation() as made:
        yield made


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(home=tmp_path, pipelines_engine="blackboard", **CLUSTER | changes)


def test_an_engine_that_nobody_registered_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PELAGOS_PIPELINES_ENGINE is 'blackboard'; allowed: local, kubeflow"):
        engine_factory.check(settings(tmp_path))


def test_an_operator_whose_engine_nobody_registered_ends_at_once_and_says_why(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "PELAGOS_HOME": str(tmp_path), "PELAGOS_SERVING_ENGINE": "abacus"}

    done = subprocess.run(
        [sys.executable, "-m", "pelagos"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert "PELAGOS_SERVING_ENGINE is 'abacus'; allowed: local, kserve, deployment" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_engine_is_registered_under_a_name_that_is_taken() -> None:
    with pytest.raises(ValueError, match="there is already an engine 'blackboard' for PELAGOS_PIPELINES_ENGINE"):
        engine_registry.PIPELINES.including([engine.DESCRIPTOR]).including([engine.DESCRIPTOR])


def test_descriptors_load_no_engine() -> None:
    code = "import sys, pelagos.engine_registry; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    heavy = (".engine", ".rest", ".diagnosis", ".objects", ".volumes", ".tracking")
    assert not [name for name in loaded if name.startswith("pelagos.engines.") and name.endswith(heavy)]


@pytest.mark.usefixtures("registered")
async def test_it_is_made_with_its_name_in_metrics_and_asked_for_readiness(api: KubernetesRest, tmp_path: Path) -> None:
    engines = engine_factory.choose(settings(tmp_path), api, lambda _uid: None)
    try:
        assert isinstance(engines.pipelines, engine.Blackboard)
        assert engine_registry.chosen(settings(tmp_path)).systems["pipelines"] == "blackboard"
        assert await engines.checks["pipelines"]() is None
        engines.pipelines.outage = True
        assert "does not answer" in str(await engines.checks["pipelines"]())
    finally:
        for close in engines.closing:
            await close()


@pytest.mark.usefixtures("registered")
def test_settings_that_it_cannot_work_with_are_refused_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PELAGOS_DATA_URI must be set"):
        engine_factory.check(settings(tmp_path, data_uri=""))


@pytest.mark.usefixtures("registered")
def test_its_rights_are_among_those_of_the_operator() -> None:
    assert "See the blackboard." in {right.why for right in engine_registry.rights()}


@pytest.mark.usefixtures("registered")
async def test_doctor_tells_what_it_finds(api: KubernetesRest, tmp_path: Path) -> None:
    found = await examine(doctors.SECTION, DoctorContext(settings(tmp_path), api, "default"))

    assert Finding("pipelines", State.WARNING, "no chalk in default", "Bring some.") in found


async def test_doctor_tells_whether_it_answers_when_it_brings_nothing_to_look_at(
    api: KubernetesRest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = replace(engine.DESCRIPTOR, diagnose=None)
    monkeypatch.setattr(engine_registry, "PIPELINES", engine_registry.PIPELINES.including([silent]))

    found = await examine(doctors.SECTION, DoctorContext(settings(tmp_path), api, "default"))

    assert Finding("pipelines", State.OK, "blackboard answers") in found


@pytest.mark.usefixtures("registered")
def test_the_three_resources_get_ready_with_it(world: simulation.Simulation, tmp_path: Path) -> None:
    """Images, a model trained on them, and an endpoint: the purpose of an engine."""
    api = KubernetesRest("http://127.0.0.1:9", tls=None)
    engines = engine_factory.choose(settings(tmp_path), api, lambda _uid: None)
    assert isinstance(engines.pipelines, engine.Blackboard)
    world.pipelines = engines.pipelines
    simulation.apply_samples(world)

    world.start()
    world.run_until(world.all_current)

    assert {known.request.flow for known in engines.pipelines.runs.values()} == {"dataset-preparation", "training"}
    world.ask(_closed(engines, api))


async def _closed(engines: engine_factory.Engines, api: KubernetesRest) -> None:
    for close in engines.closing:
        await close()
    await api.close()
