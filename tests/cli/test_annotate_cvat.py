"""A push to CVAT: one task with its images in order and their suggestions, created once, wherever an earlier push stopped."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pushed_datasets
from cvat_server import TOKEN, Cvat, reef
from pelagos.cli.annotating import calls, cvat
from pelagos_contract import run_lengths, suggestions
from pelagos_contract.suggestions import Marked
from pushed_datasets import push
from resource_servers import ApiServer, api
from web_servers import Fault, Reply, Request, Server, serving

__all__ = ["api"]

STORE = "4f1c9c1e-5a39-4c77-8a53-0a3f0c5de3a1"


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (100, 80), (shade, 0, 0)).save(content, "PNG")
    return content.getvalue()


IMAGES = {"one": picture(1), "two": picture(2), "three": picture(3)}
SURE = {"one": [0.9], "two": [0.2], "three": []}
"""The scores of the model's detections in each image."""


@pytest.fixture
def tool() -> Cvat:
    return Cvat(projects={5: "survey"}, labels=["cod", "eel"], prepares=1)


@pytest.fixture
def server(tool: Cvat) -> Iterator[Server]:
    with serving(tool) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat, "_PAUSES", (0.001, 0.002))
    monkeypatch.setattr(calls, "TRIES", 1)


@pytest.fixture
def world(api: ApiServer, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    answers = {IMAGES[name]: pushed_datasets.detections(*scores) for name, scores in SURE.items()}
    pushed_datasets.answer_with(monkeypatch, answers)
    images = [(f"dive/{name}.png", image) for name, image in IMAGES.items()]
    pushed_datasets.declare(api, pushed_datasets.version(tmp_path / STORE, images))
    api.secrets["crew"] = {"tool": "cvat", "url": server.url, "project": "5", "token": TOKEN}
    return api


def pushed(tool: Cvat) -> list[str]:
    """The images' names in our version, in the order of tasks and frames."""
    return [name.rpartition(".png")[0].rpartition(".")[2] for task in tool.tasks.values() for name in task.images]


def test_the_images_of_which_the_model_is_least_sure_are_a_task_with_their_suggestions(
    world: ApiServer, tool: Cvat
) -> None:
    done = push("--limit", 2)

    assert done.exit_code == 0, done.output
    assert pushed(tool) == ["two", "three"]
    (task,) = tool.tasks.values()
    assert (task.name, task.project, [*task.images.values()]) == (
        "pelagos/finder@detector",
        5,
        [IMAGES["two"], IMAGES["three"]],
    )
    ((_, drawn),) = tool.imported
    (shape,) = drawn["shapes"]
    assert (shape["source"], shape["score"], shape["frame"]) == ("auto", 0.2, 0)
    assert task.boxes == {next(iter(task.images)): [("cod", 10.0, 20.0, 30.0, 60.0)]}
    assert "2 of 3 images were added" in done.stderr


def test_what_was_suggested_is_kept_in_the_store_under_the_name_that_the_image_has(
    world: ApiServer, tool: Cvat, tmp_path: Path
) -> None:
    push("--limit", 1)

    (name,) = next(iter(tool.tasks.values())).images
    marked = Marked.of(name)
    assert marked is not None
    kept = suggestions.read((tmp_path / marked.path).read_bytes(), marked.digest)
    assert (marked.store, kept.model, kept.boxes[0].label) == (STORE, "pelagos/finder@detector", "cod")


def test_pushing_again_adds_what_is_not_there_alone(world: ApiServer, tool: Cvat) -> None:
    push("--limit", 2)

    again = json.loads(push("-o", "json").stdout)

    assert (again["added"], again["known"]) == (1, 2)
    assert pushed(tool) == ["two", "three", "one"]
    assert json.loads(push("-o", "json").stdout)["added"] == 0
    assert len(tool.tasks) == 2


@dataclass
class Killed:
    """A server whose client is killed after a number of requests; the last one is answered, or its answer is lost."""

    tool: Cvat
    left: int
    asks_last: bool

    def __call__(self, request: Request) -> Reply:
        self.left -= 1
        if self.left > 0 or (self.left == 0 and self.asks_last):
            reply = self.tool(request)
            if self.left > 0:
                return reply
        return Reply(b"killed", 400)


def test_a_push_that_is_killed_anywhere_is_completed_by_the_next(world: ApiServer, server: Server, tool: Cvat) -> None:
    push("--limit", 2)
    whole = len(server.seen)
    # Before a request that changes the server, and after it but before its answer.
    for requests, asks_last in [*zip(range(4, whole + 1), itertools.cycle((False, True, True)))]:
        for number in [*tool.tasks]:
            tool.forget(number)
        server.handler = Killed(tool, requests, asks_last)
        assert push("--limit", 2).exit_code == 1
        server.handler = tool

        done = push("--limit", 2)

        assert done.exit_code == 0, done.stderr
        assert len(pushed(tool)) == len(set(pushed(tool)))
        assert {"two", "three"} <= {*pushed(tool)}
        boxes = {Marked.of(name): found for task in tool.tasks.values() for name, found in task.boxes.items()}
        assert [len(found) for found in boxes.values()] == [1] * (len(pushed(tool)) - 1)
        assert {task.name for task in tool.tasks.values()} == {"pelagos/finder@detector"}


def test_a_killed_push_whose_images_the_server_still_looks_at_is_waited_for(
    world: ApiServer, server: Server, tool: Cvat
) -> None:
    server.fail(Fault("answer", status=400), times=1, method="GET", part="/api/requests/")
    tool.prepares = 3
    assert push("--limit", 2).exit_code == 1

    again = json.loads(push("-o", "json", "--limit", 1).stdout)

    assert (again["known"], again["added"]) == (2, 1)


def test_an_image_larger_than_a_chunk_goes_on_where_the_connection_broke(
    world: ApiServer, server: Server, tool: Cvat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvat, "_CHUNK", 64)
    monkeypatch.setattr(cvat, "TRIES", 3)
    server.fail(Fault("cut"), times=1, method="PATCH", part="/data/")
    server.fail(Fault("drop"), times=1, method="PATCH", part="/data/")

    assert push().exit_code == 0

    assert sorted(next(iter(tool.tasks.values())).images.values()) == sorted(IMAGES.values())
    assert server.count("HEAD") == 2


def test_labels_that_the_project_lacks_are_named_and_nothing_is_sent(world: ApiServer, tool: Cvat) -> None:
    tool.labels, tool.types = ["cod", "eel"], {"eel": "mask"}

    done = push()

    assert (
        "lacks labels of the type rectangle, or any, for eel (there it is a mask): add them on its page" in done.stderr
    )
    assert (tool.tasks, done.exit_code, done.stderr.count("\n")) == ({}, 1, 1)


def test_a_class_of_the_model_that_the_project_lacks_is_named(
    world: ApiServer, tool: Cvat, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {image: pushed_datasets.detections(0.4, label="skate") for image in IMAGES.values()}
    pushed_datasets.answer_with(monkeypatch, answers)

    assert "for skate: add them on its page" in push().stderr
    assert tool.tasks == {}


def test_an_empty_project_gets_labels_for_the_classes(world: ApiServer, tool: Cvat) -> None:
    tool.labels = []

    push()

    assert tool.labels == ["cod", "eel"]


def test_classes_of_whole_images_are_tags(world: ApiServer, tool: Cvat, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"task": "Classification", "width": 100, "height": 80, "classes": [{"label": "eel", "probability": 0.6}]}
    pushed_datasets.answer_with(monkeypatch, dict.fromkeys(IMAGES.values(), found))
    world.resources["default"][0]["status"]["task"] = "Classification"

    assert push("--limit", 1).exit_code == 0

    (task,) = tool.tasks.values()
    assert (task.tags, task.boxes) == ({next(iter(task.images)): ["eel"]}, {})


def of_task(task: str, member: str, *found: dict[str, Any]) -> dict[str, Any]:
    return {"task": task, "width": 100, "height": 80, member: found}


def test_turned_boxes_are_rectangles_with_their_rotation(
    world: ApiServer, tool: Cvat, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        {"label": "cod", "score": 0.7, "box": [50.0, 40.0, 30.0, 10.0, 33.333]},
        {"label": "eel", "score": 0.6, "box": [20.0, 20.0, 8.0, 6.0, 0.0]},
        {"label": "eel", "score": 0.5, "box": [20.0, 20.0, 8.0, 0.0, 12.0]},
    ]
    answer = of_task("OrientedDetection", "detections", *found)
    pushed_datasets.answer_with(monkeypatch, dict.fromkeys(IMAGES.values(), answer))
    world.resources["default"][0]["status"]["task"] = "OrientedDetection"

    done = push("--limit", 1)

    assert done.exit_code == 0, done.output
    (task,) = tool.tasks.values()
    (name,) = task.images
    assert task.turned == {name: [(("cod", 35.0, 35.0, 65.0, 45.0), 33.33)]}
    assert task.boxes == {name: [("eel", 16.0, 17.0, 24.0, 23.0)]}
    assert "boxes without area on their image" in done.stderr


def test_masks_are_runs_along_the_rows_of_their_part(
    world: ApiServer, tool: Cvat, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn = {"cod": [[1, 1, 0], [0, 1, 1]], "eel": [[0, 1], [1, 0]]}
    found = [{"label": label, "score": 0.7, "mask": mask(pixels, 90, 70)} for label, pixels in drawn.items()]
    found.append({"label": "eel", "score": 0.1, "mask": mask([[0]], 0, 0)})
    answer = of_task("InstanceSegmentation", "instances", *found)
    pushed_datasets.answer_with(monkeypatch, dict.fromkeys(IMAGES.values(), answer))
    world.resources["default"][0]["status"]["task"] = "InstanceSegmentation"
    tool.types = {"cod": "mask"}

    done = push("--limit", 1)

    assert done.exit_code == 0, done.output
    (task,) = tool.tasks.values()
    (name,) = task.images
    assert task.masks == {
        name: [("cod", [0, 2, 2, 2, 90, 70, 92, 71]), ("eel", [1, 2, 1, 90, 70, 91, 71])],
    }
    assert "masks without pixels" in done.stderr
    marked = Marked.of(name)
    assert marked is not None
    kept = suggestions.read((tmp_path / marked.path).read_bytes(), marked.digest)
    assert [one.runs for one in kept.masks or ()] == [(0, 2, 2, 2), (1, 2, 1)]


def mask(pixels: list[list[int]], left: int, top: int) -> dict[str, Any]:
    part = run_lengths.Part(left, top, np.array(pixels, bool))
    return {"size": [80, 100], "counts": run_lengths.encoded(part, (80, 100))}


def test_masks_of_more_runs_than_a_suggestion_holds_are_left_out_and_counted(
    world: ApiServer, tool: Cvat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggestions, "MOST_RUNS", 5)
    found = [{"label": "cod", "score": 0.7, "mask": mask([[1, 0, 1]], left, 3)} for left in (1, 9)]
    answer = of_task("InstanceSegmentation", "instances", *found)
    pushed_datasets.answer_with(monkeypatch, dict.fromkeys(IMAGES.values(), answer))
    world.resources["default"][0]["status"]["task"] = "InstanceSegmentation"

    done = push("--limit", 1)

    (task,) = tool.tasks.values()
    assert [len(each) for each in task.masks.values()] == [1]
    assert "masks beyond 5 runs of pixels in an image" in done.stderr


def test_suggestions_of_earlier_releases_keep_their_digest() -> None:
    box = {"label": "cod", "sides": (1.0, 2.0, 3.0, 4.0), "score": 0.5}
    kept = suggestions.Suggested.model_validate(
        {"model": "m", "task": "Detection", "width": 9, "height": 8, "boxes": [box]}
    )
    assert kept.digest == "16f212b50a5c6fa53b5cdfa0d184f64c"


def test_a_task_without_images_may_be_named_and_one_with_images_is_left_alone(world: ApiServer, tool: Cvat) -> None:
    tool.tasks[9] = reef({}, name="dive nine")
    del world.secrets["crew"]["project"]
    world.secrets["crew"]["task"] = "9"

    assert push("--limit", 2).exit_code == 0
    assert (tool.tasks[9].name, len(tool.tasks[9].images)) == ("dive nine", 2)
    assert "CVAT adds none to such a task: name a project" in push().stderr


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ({"token": "wrong"}, "refuses the token"),
        ({"token": "", "username": "diver"}, "lacks token (a personal access token), or username and password"),
        ({"project": ""}, "lacks project, or task (its number)"),
        ({"project": "five"}, "must be the project's number"),
        ({"project": "4"}, "was answered 404"),
        ({"url": "http://127.0.0.1:1"}, "cannot be reached"),
    ],
)
def test_a_secret_that_does_not_fit_is_told_in_one_line(
    world: ApiServer, tool: Cvat, secret: dict[str, str], words: str
) -> None:
    world.secrets["crew"] |= secret

    done = push()

    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr
    assert tool.tasks == {}


def test_a_password_logs_in_too(world: ApiServer, tool: Cvat) -> None:
    world.secrets["crew"] |= {"token": "", "username": "diver", "password": "reef"}

    assert push().exit_code == 0


def test_a_store_that_cannot_be_written_to_is_told_before_anything_is_sent(
    world: ApiServer, tool: Cvat, tmp_path: Path
) -> None:
    (tmp_path / STORE / suggestions.FOLDER).write_text("a file")

    done = push()

    assert "run this command where that folder can be written" in done.stderr
    assert tool.tasks == {}


@pytest.mark.parametrize(
    "name",
    ["reef.png", "pelagos-1.png", f"pelagos-{'0' * 32}-{'1' * 32}.../etc.x", f"pelagos-{'0' * 32}-{'g' * 32}.store.x"],
)
def test_names_of_others_are_no_suggestions(name: str) -> None:
    assert Marked.of(name) is None


def test_a_failed_task_says_why(world: ApiServer, tool: Cvat) -> None:
    tool.fails = "No media data found\x1b[2J"

    assert "could not create a task from the images: No media data found\\u001b[2J" in push().stderr


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/labels", {"results": [{"name": "cod"}]}),
        ("/api/labels", {"results": ["cod"]}),
        ("/api/tasks", {"results": [{"id": "1", "size": 3}]}),
        ("/api/projects/5", ["a list"]),
        ("/api/projects/5", b"<html>"),
    ],
)
def test_a_server_that_answers_otherwise_is_told_in_one_line(
    world: ApiServer, server: Server, tool: Cvat, path: str, body: object
) -> None:
    server.handler = lambda request: Reply(body) if request.path == path else tool(request)

    done = push()

    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: ")
