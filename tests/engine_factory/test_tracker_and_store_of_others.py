"""An extension's tracker and store are a module and a line each; settings choose them, and the rest follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from extension_example import store, tracker
from pelagos import engine_factory, engine_registry
from pelagos.cli.diagnosis import engines as doctors
from pelagos.cli.diagnosis.sections import examine
from pelagos.engines.diagnosis import DoctorContext, Finding, State
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.settings import Settings


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_registry, "TRACKERS", engine_registry.TRACKERS.including([tracker.DESCRIPTOR]))
    monkeypatch.setattr(engine_registry, "OBJECTS", engine_registry.OBJECTS.including([store.OBJECTS]))


@pytest.fixture
async def api() -> AsyncIterator[KubernetesRest]:
    rest = KubernetesRest("http://127.0.0.1:9", tls=None)
    yield rest
    await rest.close()


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings(home=tmp_path, **{"tracker": "notebook", "objects_uri": "shelf://upper", **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "PELAGOS_TRACKER is 'notebook'; allowed: mlflow"),
        (
            {"tracker": "mlflow"},
            r"PELAGOS_OBJECTS_URI is 'shelf://upper'; allowed: s3://..., or nothing \(the folder PELAGOS_OBJECTS_ROOT\)",
        ),
        ({"tracker": "mlflow", "objects_uri": "", "data_uri": "bucket/data"}, "PELAGOS_DATA_URI is 'bucket/data'"),
    ],
)
def test_what_nobody_registered_is_refused_with_what_there_is(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        engine_factory.check(settings(tmp_path, **changes))


@pytest.mark.usefixtures("registered")
async def test_they_are_made_with_their_names_in_metrics(api: KubernetesRest, tmp_path: Path) -> None:
    engines = engine_factory.choose(settings(tmp_path), api, lambda _uid: None)

    assert isinstance(engines.tracking, tracker.Notebook)
    assert isinstance(engines.objects, store.Shelf)
    systems = engine_registry.chosen(settings(tmp_path)).systems
    assert {systems["tracking"], systems["registry"], systems["objects"]} == {"notebook", "shelf"}
    for close in engines.closing:
        await close()


@pytest.mark.usefixtures("registered")
def test_what_lies_in_it_is_read_by_its_uri(tmp_path: Path) -> None:
    assert isinstance(engine_registry.objects_at("shelf://lower/versions/ab", Settings(home=tmp_path)), store.Shelf)


@pytest.mark.usefixtures("registered")
def test_settings_with_which_it_cannot_work_are_refused_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="PELAGOS_TRACKING_URI must be empty"):
        engine_factory.check(settings(tmp_path, tracking_uri="http://mlflow:5000"))


@pytest.mark.usefixtures("registered")
async def test_doctor_tells_what_they_find_or_else_whether_they_answer(api: KubernetesRest, tmp_path: Path) -> None:
    found = await examine(doctors.SECTION, DoctorContext(settings(tmp_path), api, "default"))

    assert Finding("objects", State.OK, "there is room on shelf://upper") in found
    assert Finding("tracking", State.OK, "notebook answers") in found
