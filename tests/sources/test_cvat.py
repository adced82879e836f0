"""A project, task or job of a CVAT server is exported, downloaded and compared with what the server says it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cvat_server import TOKEN, Cvat, reef
from fetched_sources import Step, allow, image
from pelagos_contract.annotation_tools import CvatSource
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import SECRET_CONTENT, Origin
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import FetchError
from pelagos_pipelines.sources import cvat
from pelagos_pipelines.sources.place import Errand
from web_servers import Fault, Reply, Server, serving

IMAGES = {f"dive {number}.png": image(number) for number in range(3)}


@pytest.fixture
def service() -> Cvat:
    return Cvat(tasks={1: reef(IMAGES)})


@pytest.fixture
def server(service: Cvat) -> Iterator[Server]:
    with serving(service) as server:
        yield server


@contextmanager
def errand(server: Server, folder: Path, **secret: str) -> Iterator[Errand]:
    with server.client("source.cvat") as client:
        yield Errand(client, folder, secret or {"token": TOKEN})


def source(server: Server, **told: Any) -> CvatSource:
    return CvatSource.model_validate({"url": f"{server.url}/"} | (told or {"task": 1}))


def fetched(server: Server, folder: Path, **told: Any) -> tuple[SourceFiles, Origin]:
    asked = source(server, **told)
    with errand(server, folder) as how:
        return cvat.fetch(asked, how, cvat.look(asked, how))


def test_a_task_is_exported_with_its_images(server: Server, tmp_path: Path) -> None:
    tree, origin = fetched(server, tmp_path)
    assert tree.files == ("annotations.xml", *(f"images/{name}" for name in IMAGES))
    assert tree.read("images/dive 1.png", 10**6) == IMAGES["dive 1.png"]
    assert (tree.excluded, tree.warnings) == ((), ())
    assert (origin.version, origin.modified, origin.files) == ("task 1 (reef)", "2026-11-01T10:00:00Z", 4)


def test_a_version_is_made_of_it_and_looking_again_brings_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": TOKEN}))
    asked = {"url": server.url, "task": 1, "secretRef": {"name": "labels"}}
    step = Step(
        server,
        tmp_path,
        "cvat",
        asked,
        {"task": "Detection", "split": {"ratios": {"train": 100, "validation": 0, "test": 0}}},
    )
    result = step.run()
    assert (result.images, {each.name: each.annotations for each in result.classes}) == (3, {"crab": 2, "fish": 1})
    assert step.run(retry="again") == result
    assert server.count("GET", "/download") == 1


def test_a_job_is_the_images_of_its_part(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.jobs = {7: (1, 1, 2)}
    tree, origin = fetched(server, tmp_path, job=7)
    assert tree.images == ("images/dive 1.png", "images/dive 2.png")
    assert (origin.version, tree.excluded) == ("job 7", ())


def test_a_project_is_all_its_tasks_over_all_pages(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.projects = {5: "survey"}
    service.tasks = {
        number: reef({f"{number}.png": image(number)}, project=5, subset="train") for number in range(1, 6)
    }
    tree, origin = fetched(server, tmp_path, project=5)
    assert len(tree.images) == 5
    assert origin.version == "project 5 (survey)"
    assert server.count("GET", "/api/tasks") > 3


@pytest.mark.parametrize(
    "change",
    [
        lambda service: setattr(service.tasks[1], "updated", "2026-11-02T10:00:00Z"),
        lambda service: service.labels.append("eel"),
    ],
)
def test_a_look_brings_nothing_and_sees_changes(server: Server, service: Cvat, tmp_path: Path, change: Any) -> None:
    with errand(server, tmp_path) as how:
        first = cvat.look(source(server), how)
        assert cvat.look(source(server), how) == first
        change(service)
        assert cvat.look(source(server), how).state not in {first.state, "", None}
    assert server.count("POST") == 0


def test_images_that_are_not_exported_are_excluded_by_name(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.tasks[1].lost = {"dive 1.png"}
    tree, _ = fetched(server, tmp_path)
    assert [(each.path, each.reason) for each in tree.excluded] == [("dive 1.png", ExclusionReason.NOT_FETCHED)]


def test_what_is_drawn_on_images_that_are_not_exported_is_left_out_with_them(
    server: Server, service: Cvat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.tasks[1].lost = {"dive 1.png"}
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": TOKEN}))
    asked = {"url": server.url, "task": 1, "secretRef": {"name": "labels"}}
    split = {"ratios": {"train": 100, "validation": 0, "test": 0}}

    result = Step(server, tmp_path, "cvat", asked, {"task": "Detection", "split": split}).run()

    assert (result.images, result.annotations) == (2, 2)
    assert "CVAT did not give 1 images, which are left out with what is drawn on them: dive 1.png" in result.warnings


def test_frames_that_claim_names_of_the_export_are_not_counted_twice(
    server: Server, service: Cvat, tmp_path: Path
) -> None:
    service.tasks[1].images |= {"annotations.xml": image(5), "images/dive 1.png": image(6)}
    service.tasks[1].lost = {"annotations.xml", "images/dive 1.png"}
    tree, _ = fetched(server, tmp_path)
    assert not {each.path for each in tree.excluded} & tree.known


def test_frames_that_people_deleted_are_not_missed(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.tasks[1].deleted = {1}
    tree, _ = fetched(server, tmp_path)
    assert (len(tree.images), tree.excluded, tree.warnings) == (2, (), ())


def test_an_export_that_somebody_else_started_is_waited_for(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.busy, service.prepares = 1, 0
    assert len(fetched(server, tmp_path)[0].images) == 3


@pytest.mark.parametrize(
    "fault", [Fault("answer", status=429, retry_after="0"), Fault("answer", status=500), Fault("cut"), Fault("drop")]
)
def test_a_server_in_trouble_is_asked_again(server: Server, tmp_path: Path, fault: Fault) -> None:
    server.fail(fault, times=2, method="GET")
    server.fail(fault, times=2, method="GET", part="/download")
    assert len(fetched(server, tmp_path)[0].images) == 3


def test_what_changes_while_it_is_exported_is_seen_by_the_next_look(
    server: Server, service: Cvat, tmp_path: Path
) -> None:
    asked = source(server)
    with errand(server, tmp_path) as how:
        before = cvat.look(asked, how)
        service.tasks[1].updated = "2026-11-03T10:00:00Z"
        _, origin = cvat.fetch(asked, how, before)
        assert cvat.look(asked, how).state != origin.state


def test_an_export_that_fails_says_why(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.fails = "No media data found\x1b[2J"
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path)
    assert caught.value.failure.reason is Reason.SOURCE_INVALID
    assert "could not export task 1: No media data found\\u001b[2J" in caught.value.failure.message


def test_an_export_that_is_gone_is_made_again_by_the_next_try(server: Server, tmp_path: Path) -> None:
    server.fail(Fault("answer", status=404), part="/download")
    with pytest.raises(FetchError):
        fetched(server, tmp_path)


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ({"token": "expired"}, Reason.SOURCE_ACCESS_DENIED),
        ({"username": "diver", "password": "wrong"}, Reason.SOURCE_ACCESS_DENIED),
        ({"username": "diver", "password": "reef"}, None),
    ],
)
def test_credentials_are_the_ones_of_the_secret(
    server: Server, tmp_path: Path, secret: dict[str, str], reason: Reason | None
) -> None:
    with errand(server, tmp_path, **secret) as how:
        if reason is None:
            assert cvat.look(source(server), how).version == "task 1 (reef)"
            return
        with pytest.raises(RefusedError) as caught:
            cvat.look(source(server), how)
    assert caught.value.failure.reason is reason
    assert all(value not in caught.value.failure.message for value in secret.values())


def test_a_task_that_is_not_there_is_waited_for(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path, task=9)
    assert caught.value.failure.reason is Reason.SOURCE_NOT_FOUND


def test_point_clouds_are_refused_by_name(server: Server, service: Cvat, tmp_path: Path) -> None:
    service.tasks[1].dimension = "3d"
    with pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path)
    assert "task 1 holds point clouds" in caught.value.failure.message


def test_another_service_is_refused(tmp_path: Path) -> None:
    with serving(lambda request: Reply({"id": 1, "title": "a shop"})) as server, pytest.raises(RefusedError) as caught:
        fetched(server, tmp_path)
    assert caught.value.failure.reason is Reason.SOURCE_INVALID
    assert "updated_date" in caught.value.failure.message
