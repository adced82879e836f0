"""Kinds that are missing or of another version are named, and used once they exist; the others work in the meantime."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from control_plane import CRDS, ControlPlane
from pelagos.api import meta

from .conftest import Starting

DATASETS = "datasets.pelagos.dev.yaml"
COLLECTION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SPEC = {"source": {"volume": {"path": "plankton"}}, "task": "Detection"}


def until(holds: Callable[[], bool], what: Callable[[], object], *, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def create(plane: ControlPlane) -> None:
    body = {"apiVersion": meta.API_VERSION, "kind": "Dataset", "metadata": {"name": "plankton"}, "spec": SPEC}
    plane.request("POST", f"/apis/{meta.API_VERSION}/namespaces/default/datasets", body)


def create_training(plane: ControlPlane) -> None:
    spec = {"datasetRef": {"name": "plankton"}, "model": {"architecture": "yolov8n"}}
    body = {"apiVersion": meta.API_VERSION, "kind": "TrainingRun", "metadata": {"name": "eyes"}, "spec": spec}
    plane.request("POST", f"/apis/{meta.API_VERSION}/namespaces/default/trainingruns", body)


def has_status(plane: ControlPlane, path: str) -> bool:
    found = plane.request("GET", f"/apis/{meta.API_VERSION}/namespaces/default/{path}")
    return bool(found.get("status", {}).get("conditions"))


def definition() -> Any:
    return yaml.safe_load((CRDS / DATASETS).read_text(encoding="utf-8"))


def test_it_waits_for_kinds_and_begins_when_they_come(bare: ControlPlane, starting: Starting) -> None:
    until(lambda: "kinds: the API server" in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))

    status, text = starting.ask("/readyz")
    assert status == 503
    assert "the API server knows no kind of pelagos.dev. Install them: kubectl apply" in text
    assert starting.ask("/healthz") == (200, "ok\n")
    time.sleep(3)
    assert starting.process.poll() is None, "it must not crash"

    bare.apply_crds()
    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))
    create(bare)
    until(lambda: starting.submitted() == 1, starting.submitted)


def test_it_stops_in_order_while_it_waits(starting: Starting) -> None:
    until(lambda: "kinds: " in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))

    starting.process.send_signal(signal.SIGTERM)

    starting.process.wait(60)
    assert "Traceback" not in (starting.home / "log").read_text()


def only(*files: str) -> list[Path]:
    return [CRDS / file for file in files]


def others() -> list[Path]:
    return [file for file in sorted(CRDS.glob("*.yaml")) if file.name != DATASETS]


def test_a_kind_of_an_older_schema_is_named_and_left_alone_until_it_is_updated(
    bare: ControlPlane, starting: Starting, tmp_path: Path
) -> None:
    old = definition()
    schema = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    del schema["status"]["properties"]["versions"]
    del schema["spec"]["properties"]["suspend"]
    older = tmp_path / "datasets.yaml"
    older.write_text(yaml.safe_dump(old), encoding="utf-8")
    bare.apply_crds([older, *others()])
    create(bare)

    want = "its schema lacks spec.suspend, status.versions. Update it: kubectl apply"
    until(lambda: want in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))
    rest = "Kinds that are still reconciled: ModelService, TrainingRun"
    until(lambda: rest in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))
    assert starting.submitted() == 0
    versions = definition()["spec"]["versions"]
    path = f"{COLLECTION}/datasets.pelagos.dev"
    bare.request("PATCH", path, {"spec": {"versions": versions}}, kind="application/merge-patch+json")

    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))
    until(lambda: starting.submitted() == 1, starting.submitted)


def test_one_missing_kind_stops_no_other_and_is_taken_up_when_it_comes(bare: ControlPlane, starting: Starting) -> None:
    bare.apply_crds(only(DATASETS))
    create(bare)
    until(lambda: starting.submitted() == 1, lambda: starting.ask("/readyz"))

    status, text = starting.ask("/readyz")
    assert status == 503
    assert "does not serve trainingruns.pelagos.dev, modelservices.pelagos.dev" in text
    rest = "Kinds that are still reconciled: Dataset"
    until(lambda: rest in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))
    assert starting.ask("/healthz") == (200, "ok\n")
    assert 'pelagos_kind_served{kind="TrainingRun"} 0.0' in starting.ask("/metrics")[1]

    bare.apply_crds(others())
    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))
    create_training(bare)
    until(lambda: has_status(bare, "trainingruns/eyes"), lambda: starting.ask("/readyz"))
    assert 'pelagos_kind_served{kind="TrainingRun"} 1.0' in starting.ask("/metrics")[1]


def test_a_kind_that_is_taken_away_and_comes_back_is_worked_with_again_in_the_same_life(
    bare: ControlPlane, starting: Starting
) -> None:
    bare.apply_crds()
    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))
    create(bare)
    until(lambda: starting.submitted() == 1, starting.submitted)

    bare.remove_crds(DATASETS.removesuffix(".yaml"))
    until(lambda: "does not serve datasets.pelagos.dev" in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))
    create_training(bare)
    until(lambda: has_status(bare, "trainingruns/eyes"), lambda: "others go on")

    bare.apply_crds(only(DATASETS))
    create(bare)
    until(lambda: starting.submitted() == 2, lambda: starting.ask("/readyz"))
    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))
    assert starting.process.poll() is None
