"""``pelagos annotate push``: each image once, those of which the model is least sure first, and errors as one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import label_studio_server
import pushed_datasets
from label_studio_server import PAT, LabelStudio
from pelagos.cli.annotate import score_of
from pushed_datasets import push
from resource_servers import ApiServer, api

__all__ = ["api"]

CONFIG = (
    '<View><Image name="picture" value="$image"/><RectangleLabels name="kinds" toName="picture">'
    '<Label value="cod"/><Label value="eel"/></RectangleLabels></View>'
)
SCORES = {b"one": 0.9, b"two": 0.2, b"three": None}
"""The score of the model's only detection, by image."""


@pytest.fixture
def tool() -> Iterator[LabelStudio]:
    with label_studio_server.serving() as server:
        yield server


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Replaces the model; returns the list of images that it was asked about."""
    answers = {image: pushed_datasets.detections(*filter(None, [score])) for image, score in SCORES.items()}
    return pushed_datasets.answer_with(monkeypatch, answers)


@pytest.fixture
def world(api: ApiServer, tool: LabelStudio, tmp_path: Path) -> ApiServer:
    """A Dataset of three images, each twice in its source, a Ready service, and the Secret of the tool."""
    images = [(f"dive {number}/{image.decode()}.png", image) for number, image in enumerate((*SCORES, *SCORES))]
    pushed_datasets.declare(api, pushed_datasets.version(tmp_path / "store", images))
    api.secrets["crew"] = {"tool": "labelStudio", "url": tool.url, "project": "3", "token": PAT}
    return api


def test_an_image_that_was_converted_is_called_what_it_is_now(
    world: ApiServer, tool: LabelStudio, tmp_path: Path
) -> None:
    tool.config = CONFIG
    manifest = tmp_path / "store" / "versions" / "ab" / "manifest.json"
    entries = json.loads(manifest.read_text())["images"]
    changed = [entry | {"path": "a/scan.tif", "original": {"sha256": "0" * 64, "size": 1}} for entry in entries]
    manifest.write_text(json.dumps({"images": changed}))

    push("--limit", 1)

    assert [task["data"]["image"].rpartition("-")[2] for task in tool.tasks] == ["scan.tif.png"]


def test_the_images_of_which_the_model_is_least_sure_go_first(world: ApiServer, tool: LabelStudio) -> None:
    tool.config = CONFIG

    done = push("--limit", 2)

    assert done.exit_code == 0, done.output
    assert [task["data"]["image"].rpartition("-")[2] for task in tool.tasks] == ["two.png", "three.png"]
    (first, second) = tool.predictions
    assert first["model_version"] == "pelagos/finder@detector"
    assert (first["score"], second["result"]) == (0.2, [])
    (region,) = first["result"]
    assert (region["from_name"], region["to_name"]) == ("kinds", "picture")
    assert region["value"] == {
        "x": 10.0,
        "y": 25.0,
        "width": 20.0,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["cod"],
    }
    assert "2 of 3 images were added" in done.stderr


def test_pushing_again_adds_what_is_not_there_alone(world: ApiServer, tool: LabelStudio) -> None:
    push("--limit", 2)

    again = push("-o", "json")

    assert json.loads(again.stdout)["added"] == 1
    assert json.loads(again.stdout)["known"] == 2
    assert (len(tool.tasks), len(tool.predictions)) == (3, 3)
    assert json.loads(push("-o", "json").stdout)["added"] == 0


def test_a_push_that_broke_off_is_completed(world: ApiServer, tool: LabelStudio) -> None:
    push("--limit", 1)
    tool.tasks[0]["total_predictions"] = 0
    del tool.predictions[0]

    push()

    assert sorted(prediction["task"] for prediction in tool.predictions) == [1, 2, 3]
    assert len(tool.tasks) == 3


def test_an_empty_project_gets_an_interface_for_the_classes(world: ApiServer, tool: LabelStudio) -> None:
    push()

    assert tool.controls() == {"label": {"type": "RectangleLabels", "to_name": ["image"], "labels": ["cod", "eel"]}}


def test_a_server_that_asks_for_patience_gets_it(
    world: ApiServer, tool: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.answers = [(429, {"Retry-After": "0"}), (401, {}), (503, {"Retry-After": "0"})]

    assert push("-o", "json").exit_code == 0
    assert tool.access == 2  # the expired one was renewed
    assert len(tool.tasks) == 3


def test_lists_that_come_in_pieces_are_read_whole(world: ApiServer, tool: LabelStudio) -> None:
    other = {"data": {"image": f"/data/upload/3/{'x' * 400}.png"}, "total_predictions": 0, "total_annotations": 0}
    tool.tasks += [{"id": number, **other} for number in range(1, 451)]

    done = push()

    assert done.exit_code == 0, done.stderr
    assert len(tool.tasks) == 453


def test_an_image_that_the_model_refuses_is_named_and_the_others_go_on(
    world: ApiServer, tool: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed_datasets.answer_with(monkeypatch, {image: pushed_datasets.detections(0.5) for image in (b"two", b"three")})

    done = push()

    assert done.exit_code == 0
    assert (
        "1 images were refused by the model, the first dive 0/one.png: the image was refused: too small" in done.stderr
    )
    assert len(tool.tasks) == 2


@pytest.mark.parametrize("task", ["OrientedDetection", "InstanceSegmentation", "Classification"])
def test_a_model_of_another_task_is_refused_in_one_line(
    world: ApiServer, tool: LabelStudio, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    answer = pushed_datasets.detections(0.5) | {"task": task}
    pushed_datasets.answer_with(monkeypatch, dict.fromkeys(SCORES, answer))

    done = push()

    assert (done.exit_code, tool.tasks) == (1, [])
    assert f"the model's task is {task}, and the Dataset's is Detection" in done.stderr


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ({"token": "header.wrong.signature"}, "refuses the token"),
        ({"token": "wrong"}, "refuses the token"),
        ({"token": ""}, "lacks token (personal access token"),
        ({"tool": "paper"}, "the key tool is 'paper'; allowed are labelStudio, cvat"),
        ({"project": "three"}, "must be the project's number"),
        ({"project": "4"}, "was answered 404"),
        ({"url": "http://127.0.0.1:1"}, "cannot be reached"),
    ],
)
def test_a_secret_that_does_not_fit_is_told_in_one_line(
    world: ApiServer, tool: LabelStudio, monkeypatch: pytest.MonkeyPatch, secret: dict[str, str], words: str
) -> None:
    monkeypatch.setattr("pelagos.cli.annotating.calls.TRIES", 1)
    world.secrets["crew"] |= secret

    done = push()

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert tool.tasks == []


def test_an_interface_without_a_class_is_left_as_it_is(world: ApiServer, tool: LabelStudio) -> None:
    tool.config = CONFIG.replace('<Label value="eel"/>', "")

    done = push()

    assert "lacks eel: add them in the project's settings" in done.stderr
    assert (tool.tasks, done.exit_code) == ([], 1)


def test_a_damaged_image_is_not_sent(world: ApiServer, tool: LabelStudio, tmp_path: Path) -> None:
    for blob in (tmp_path / "store" / "blobs").glob("*/*"):
        blob.write_bytes(b"other")

    assert "missing or damaged" in push().stderr
    assert tool.tasks == []


@pytest.mark.parametrize(
    ("found", "score"),
    [
        ({"task": "Detection", "detections": [{"score": 0.8}, {"score": 0.4}]}, 0.6),
        ({"task": "Detection", "detections": []}, 0.5),
        ({"task": "Classification", "classes": [{"probability": 0.7}, {"probability": 0.3}]}, 0.7),
    ],
)
def test_how_sure_a_model_is_of_an_image(found: dict[str, Any], score: float) -> None:
    assert score_of(found) == pytest.approx(score)
