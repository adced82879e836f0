"""Without its kinds, or with those of another version, the operator waits, says what to do, and goes on when that is done."""

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

    starting.process.wait(10)
    assert "Traceback" not in (starting.home / "log").read_text()


def test_it_names_what_an_older_schema_lacks_and_begins_when_it_is_updated(
    bare: ControlPlane, starting: Starting, tmp_path: Path
) -> None:
    old = definition()
    schema = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    del schema["status"]["properties"]["versions"]
    del schema["spec"]["properties"]["suspend"]
    older = tmp_path / "datasets.yaml"
    older.write_text(yaml.safe_dump(old), encoding="utf-8")
    bare.apply_crds([older, *(file for file in sorted(CRDS.glob("*.yaml")) if file.name != DATASETS)])

    want = "its schema lacks spec.suspend, status.versions. Update it: kubectl apply"
    until(lambda: want in starting.ask("/readyz")[1], lambda: starting.ask("/readyz"))
    versions = definition()["spec"]["versions"]
    path = f"{COLLECTION}/datasets.pelagos.dev"
    bare.request("PATCH", path, {"spec": {"versions": versions}}, kind="application/merge-patch+json")

    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))


def test_it_ends_when_its_kinds_are_taken_away_so_that_it_can_begin_anew(
    bare: ControlPlane, starting: Starting
) -> None:
    bare.apply_crds()
    until(lambda: starting.ask("/readyz")[0] == 200, lambda: starting.ask("/readyz"))

    bare.request("DELETE", f"{COLLECTION}/datasets.pelagos.dev")

    assert starting.process.wait(60) != 0
