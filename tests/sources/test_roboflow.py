"""A version of a Roboflow project is exported, and its archive downloaded from where Roboflow says, without the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetched_sources import Step, allow, image
from pelagos_contract.annotation_tools import RoboflowSource
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import SECRET_CONTENT, Origin
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.sources import roboflow
from pelagos_pipelines.sources.place import Errand
from roboflow_server import KEY, Roboflow
from web_servers import Fault, Server, serving


@pytest.fixture
def service() -> Roboflow:
    return Roboflow({f"{number}_png.rf.{number:032x}.png": image(number) for number in range(8)})


@pytest.fixture
def server(service: Roboflow) -> Iterator[Server]:
    with serving(service) as server:
        service.name = server.url
        yield server


@contextmanager
def errand(server: Server, folder: Path, key: str = KEY) -> Iterator[Errand]:
    with server.client("source.roboflow") as client:
        yield Errand(client, folder, {"token": key})


def source(server: Server, version: int = 3) -> RoboflowSource:
    return RoboflowSource(url=server.url, workspace="reef", project="dives", version=version)


def fetched(server: Server, folder: Path, version: int = 3) -> tuple[SourceFiles, Origin]:
    with errand(server, folder) as how:
        return roboflow.fetch(source(server, version), how, roboflow.look(source(server, version), how))


def test_a_version_is_made_of_it(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": KEY}))
    asked = {"url": server.url, "workspace": "reef", "project": "dives", "version": 3, "secretRef": {"name": "labels"}}
    step = Step(server, tmp_path, "roboflow", asked, {"task": "Detection"})
    result = step.run()
    assert (result.images, {each.name for each in result.classes}) == (8, {"crab", "fish"})
    assert step.run(retry="again") == result
    assert server.count("GET", "/storage") == 1
    assert all("api_key" not in each.query for each in server.seen if "/storage" in each.path)
    told = (tmp_path / "report" / "result.json").read_text()
    assert KEY not in told
    assert "signature" not in told


def test_an_export_that_lacks_images_says_so(server: Server, service: Roboflow, tmp_path: Path) -> None:
    service.lost = {next(iter(service.images))}
    tree, _ = fetched(server, tmp_path)
    assert "Roboflow says that version 3 of dives has 8 images, and exported 7" in tree.warnings


@pytest.mark.parametrize(
    "fault", [Fault("answer", status=429, retry_after="0"), Fault("answer", status=500), Fault("cut")]
)
def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path, fault: Fault) -> None:
    server.fail(fault, times=2, part="/storage")
    server.fail(fault, times=2, part="/reef")
    assert len(fetched(server, tmp_path)[0].images) == 8


def test_a_version_that_is_not_there_is_waited_for(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path, version=4)
    assert caught.value.failure.reason is Reason.SOURCE_NOT_FOUND


def test_a_key_that_is_none_is_said_and_never_shown(server: Server, tmp_path: Path) -> None:
    with errand(server, tmp_path, "wrong-key") as how, pytest.raises(RefusedError) as caught:
        roboflow.look(source(server), how)
    assert caught.value.failure.reason is Reason.SOURCE_ACCESS_DENIED
    assert "wrong-key" not in caught.value.failure.message
