"""Volumes of a BIIGLE server arrive as reports and images. A look notices new annotations, though volumes have no such date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from biigle_server import EMAIL, TOKEN, Biigle, Volume
from fetched_sources import Step, allow, image
from pelagos_contract.annotation_tools import BiigleSource
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import SECRET_CONTENT, Origin
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.sources import biigle
from pelagos_pipelines.sources.place import Errand
from web_servers import Fault, Server, serving

IMAGES = {f"{number}.png": image(number) for number in range(4)}
SHAPES = [
    (name, ("crab", "fish")[place % 2], "Rectangle", [2.0, 3.0, 20.0, 3.0, 20.0, 25.0, 2.0, 25.0])
    for place, name in enumerate(IMAGES)
]
SECRET = {"email": EMAIL, "token": TOKEN}


@pytest.fixture
def service() -> Biigle:
    return Biigle(volumes={4: Volume("station", dict(IMAGES), list(SHAPES))})


@pytest.fixture
def server(service: Biigle) -> Iterator[Server]:
    with serving(service) as server:
        yield server


@contextmanager
def errand(server: Server, folder: Path, **secret: str) -> Iterator[Errand]:
    with server.client("source.biigle") as client:
        yield Errand(client, folder, SECRET | secret)


def fetched(server: Server, folder: Path, **told: int) -> tuple[SourceFiles, Origin]:
    asked = BiigleSource(url=server.url, **(told or {"volume": 4}))
    with errand(server, folder) as how:
        return biigle.fetch(asked, how, biigle.look(asked, how))


def test_a_volume_is_its_reports_and_images(server: Server, service: Biigle, tmp_path: Path) -> None:
    tree, origin = fetched(server, tmp_path)
    assert tree.images == tuple(f"images/4-station/{name}" for name in IMAGES)
    assert {"annotations/4-station.csv", "labels/4-station.csv"} < set(tree.files)
    assert (origin.version, tree.excluded, tree.warnings) == ("volume 4 (station)", (), ())
    assert service.reports == {}


def test_a_project_is_a_version_though_its_volumes_have_images_of_the_same_names(
    server: Server, service: Biigle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {name: image(number + 10) for number, name in enumerate(IMAGES)}
    service.volumes |= {5: Volume("station", others, list(SHAPES)), 6: Volume("dive", media="video")}
    service.projects = {2: [4, 5, 6]}
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps(SECRET))
    asked = {"url": server.url, "project": 2, "secretRef": {"name": "labels"}}
    step = Step(server, tmp_path, "biigle", asked, {"task": "Detection"})
    result = step.run()
    assert (result.images, {each.name: each.annotations for each in result.classes}) == (8, {"crab": 4, "fish": 4})
    assert step.run(retry="again") == result
    assert sum(each.path.endswith("/file") for each in server.seen) == 8


def test_a_look_sees_what_is_drawn(server: Server, service: Biigle, tmp_path: Path) -> None:
    asked = BiigleSource(url=server.url, volume=4)
    with errand(server, tmp_path) as how:
        first = biigle.look(asked, how)
        assert biigle.look(asked, how) == first
        service.volumes[4].shapes.pop()
        assert biigle.look(asked, how).state != first.state
    assert server.count("POST") == 0


def test_a_server_that_counts_requests_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.fail(Fault("answer", status=429, retry_after="0"), times=3, part="/images/")
    assert len(fetched(server, tmp_path)[0].images) == 4


def test_images_that_are_not_given_are_excluded_by_name(server: Server, service: Biigle, tmp_path: Path) -> None:
    service.lost = {"1.png"}
    tree, _ = fetched(server, tmp_path)
    assert [(each.path, each.reason) for each in tree.excluded] == [("4-station/1.png", ExclusionReason.NOT_FETCHED)]
    assert "BIIGLE did not give 1 images; the first one: HTTP 404" in tree.warnings


@pytest.mark.parametrize("name", ["../../outside.png", "/etc/outside.png", "a\nb.png"])
def test_names_that_lead_out_are_refused(server: Server, service: Biigle, tmp_path: Path, name: str) -> None:
    service.volumes[4].images[name] = image(9)
    folder = tmp_path / "far" / "below"
    folder.mkdir(parents=True)
    with pytest.raises(RefusedError) as caught:
        fetched(server, folder)
    assert caught.value.failure.reason is Reason.FORMAT_INVALID
    assert not [path for path in tmp_path.rglob("outside.png") if not path.is_relative_to(folder)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda service: service.volumes.clear(), Reason.SOURCE_NOT_FOUND),
        (lambda service: setattr(service.volumes[4], "media", "video"), Reason.SOURCE_EMPTY),
    ],
)
def test_what_is_no_volume_of_images_is_said(
    server: Server, service: Biigle, tmp_path: Path, change: Any, reason: Reason
) -> None:
    change(service)
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path)
    assert caught.value.failure.reason is reason


def test_refused_credentials_are_said(server: Server, tmp_path: Path) -> None:
    with errand(server, tmp_path, token="old-token") as how, pytest.raises(RefusedError) as caught:
        biigle.look(BiigleSource(url=server.url, volume=4), how)
    assert caught.value.failure.reason is Reason.SOURCE_ACCESS_DENIED
    assert "old-token" not in caught.value.failure.message
