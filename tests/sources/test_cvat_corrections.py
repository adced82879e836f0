"""What people made of suggestions in CVAT is read back, and compared with what was kept when they were pushed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvat_server import TOKEN, Box, Cvat, Task
from fetched_sources import Step, allow, image
from object_storage import ObjectStorage, bucket, object_storage
from pelagos_contract.remote_sources import SECRET_CONTENT
from pelagos_contract.suggestions import Marked, Suggested
from pelagos_pipelines.sources import cvat, suggested
from web_servers import Server, serving

__all__ = ["bucket", "object_storage"]

MODEL = "pelagos/finder@m1"
PUSHED_FROM = "5e8c6b2c-2f0b-4f56-9a94-6b6f8b9d1c11"


@pytest.fixture
def service() -> Cvat:
    return Cvat(projects={5: "survey"})


@pytest.fixture
def server(service: Cvat) -> Iterator[Server]:
    with serving(service) as server:
        yield server


@pytest.fixture
def step(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    """The project as the source of another Dataset than the one that was pushed."""
    allow(server, monkeypatch, tmp_path)
    monkeypatch.setenv(SECRET_CONTENT, json.dumps({"token": TOKEN}))
    asked: dict[str, Any] = {"task": "Detection", "split": {"ratios": {"train": 100, "validation": 0, "test": 0}}}
    return Step(server, tmp_path, "cvat", {"url": server.url, "project": 5, "secretRef": {"name": "labels"}}, asked)


def suggest(root: Path, number: int, *boxes: Box) -> str:
    """Keep the suggestions for an image. Returns the image's name in the tool."""
    found = [{"label": label, "sides": sides, "score": 0.5} for label, *sides in boxes]
    one = Suggested.model_validate({"model": MODEL, "task": "Detection", "width": 40, "height": 30, "boxes": found})
    marked = Marked(f"{number:032x}", one.digest, PUSHED_FROM)
    (root / marked.path).parent.mkdir(parents=True, exist_ok=True)
    (root / marked.path).write_text(json.dumps(one.written(), indent=1))
    return marked.name(f"dive {number}.png")


def put(service: Cvat, drawn: dict[str, list[Box]], *jobs: tuple[int, int, str]) -> None:
    """Put a task with these images and annotations into the service; jobs have a first frame, a last frame and a state."""
    images = {name: image(number) for number, name in enumerate(drawn)}
    service.tasks[1] = Task(images=images, boxes=drawn, project=5)
    for number, (first, last, state) in enumerate(jobs, 1):
        service.jobs[number], service.states[number] = (1, first, last), state


CRAB: Box = ("crab", 2.0, 3.0, 20.0, 25.0)
FISH: Box = ("fish", 25.0, 3.0, 38.0, 25.0)


def test_each_fate_of_a_suggestion_is_counted(step: Step, service: Cvat, tmp_path: Path) -> None:
    drawn: dict[str, list[Box]] = {
        suggest(tmp_path, 1, CRAB): [CRAB],
        suggest(tmp_path, 2, CRAB): [("crab", 2.0, 3.0, 16.0, 25.0)],
        suggest(tmp_path, 3, CRAB): [("fish", *CRAB[1:])],
        suggest(tmp_path, 4, CRAB): [],
        suggest(tmp_path, 5, CRAB): [CRAB, FISH],
    }
    put(service, drawn, (0, 4, "completed"))

    result = step.run()

    (told,) = result.corrections
    assert told.written() == {"model": MODEL, "images": 5, "predicted": 5} | {
        "accepted": 2,
        "moved": 1,
        "relabelled": 1,
        "removed": 1,
        "added": 1,
    }
    assert (result.images, result.annotations) == (5, 5)


@pytest.mark.parametrize("task", ["OrientedDetection", "InstanceSegmentation"])
def test_the_fates_of_turned_boxes_and_masks_are_counted(step: Step, service: Cvat, tmp_path: Path, task: str) -> None:
    """Four images: unchanged, moved, of another class, removed."""
    step.request["task"] = task
    if task == "OrientedDetection":
        made: Any = {"boxes": [{"label": "crab", "sides": (5.0, 8.0, 25.0, 18.0), "score": 0.5, "angle": 20.0}]}
        as_it_was: Any = (("crab", 5.0, 8.0, 25.0, 18.0), 20.0)
        moved: Any = (("crab", 5.0, 8.0, 27.0, 18.0), 23.0)
        other: Any = (("fish", 5.0, 8.0, 25.0, 18.0), 20.0)
    else:
        part = {"left": 5, "top": 8, "width": 10, "height": 10, "runs": [0, 100]}
        made = {"masks": [{"label": "crab", "score": 0.5, **part}]}
        as_it_was = ("crab", [0, 100, 5, 8, 14, 17])
        moved = ("crab", [0, 120, 5, 8, 16, 17])
        other = ("fish", [0, 100, 5, 8, 14, 17])
    names = []
    for number in range(4):
        one = Suggested.model_validate({"model": MODEL, "task": task, "width": 40, "height": 30, **made})
        marked = Marked(f"{number:032x}", one.digest, PUSHED_FROM)
        (tmp_path / marked.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / marked.path).write_text(json.dumps(one.written()))
        names.append(marked.name(f"dive {number}.png"))
    put(service, {name: [] for name in names}, (0, 3, "completed"))
    drawn = {name: [found] for name, found in zip(names, (as_it_was, moved, other), strict=False)}
    service.tasks[1].turned, service.tasks[1].masks = (drawn, {}) if task == "OrientedDetection" else ({}, drawn)

    result = step.run()

    (told,) = result.corrections
    counts = {"accepted": 1, "moved": 1, "relabelled": 1, "removed": 1, "added": 0}
    assert told.written() == {"model": MODEL, "images": 4, "predicted": 4} | counts
    assert (result.images, result.annotations) == (4, 3)


def test_images_of_jobs_that_nobody_finished_are_no_ground_truth(
    step: Step, server: Server, service: Cvat, tmp_path: Path
) -> None:
    """A model is not trained or evaluated on its own suggestions before someone has reviewed them, and they are not fetched."""
    names = [suggest(tmp_path, number, CRAB) for number in range(3)]
    put(service, {name: [CRAB] for name in names}, (0, 0, "completed"), (1, 2, "in progress"))
    service.tasks[1].subset = "train"

    result = step.run()

    assert (result.images, result.corrections[0].images, result.excluded) == (1, 1, [])
    assert any("2 images with suggestions are in jobs that nobody has finished yet" in each for each in result.warnings)
    assert not any("CVAT has" in each or "CVAT did not" in each for each in result.warnings)
    assert [each.query["number"] for each in server.seen if each.query.get("type") == "frame"] == ["0"]


def test_images_that_nobody_finished_are_left_out_of_an_export_of_all(
    step: Step, server: Server, service: Cvat, tmp_path: Path
) -> None:
    names = [suggest(tmp_path, number, CRAB) for number in range(3)]
    put(service, {name: [CRAB] for name in names}, (0, 1, "completed"), (2, 2, "in progress"))

    result = step.run()

    assert (result.images, result.corrections[0].images) == (2, 2)
    assert {(each.reason, each.files) for each in result.excluded} == {("Unlabelled", 1)}
    assert server.count("GET", "/data/meta") == 1


@pytest.mark.parametrize(
    ("jobs", "done"),
    [
        ([(0, 3)], {0, 1, 2, 3}),
        ([(1, 1), (3, 3)], {1, 3}),
        ([(0, 5), (2, 3)], {0, 1, 2, 3, 4, 5}),
        ([(2, 3), (2, 4), (2, 2)], {2, 3, 4}),
        ([(4, 2**53), (0, 0)], {0, 4, 5, 6}),
        ([], set()),
    ],
)
def test_jobs_are_the_frames_from_their_first_to_their_last(jobs: list[tuple[int, int]], done: set[int]) -> None:
    found = cvat._Done()
    for first, last in jobs:
        found.add(1, first, last)
        found.has(1, 3)  # queries between additions must not disturb the result

    assert {number for number in range(7) if found.has(1, number)} == done
    assert not found.has(2, 0)


def test_a_job_that_is_finished_later_is_seen_by_the_next_look(step: Step, service: Cvat, tmp_path: Path) -> None:
    """Even if the server does not report the task as changed."""
    names = [suggest(tmp_path, number, CRAB) for number in range(2)]
    put(service, {name: [CRAB] for name in names}, (0, 0, "completed"), (1, 1, "in progress"))
    assert step.run().images == 1
    service.states[2] = "completed"

    assert step.run(retry="again").images == 2


def test_images_of_others_are_read_as_they_are(step: Step, service: Cvat, tmp_path: Path) -> None:
    put(service, {"reef.png": [CRAB], suggest(tmp_path, 1, CRAB): [CRAB]}, (0, 1, "new"))

    result = step.run()

    assert (result.images, result.annotations, result.corrections) == (1, 1, [])


def damage(file: Path) -> None:
    file.write_text(file.read_text().replace("crab", "fish"))


@pytest.mark.parametrize("harm", [Path.unlink, damage, lambda file: file.write_bytes(b"{")])
def test_a_suggestion_that_is_gone_or_another_is_not_compared_with(
    step: Step, service: Cvat, tmp_path: Path, harm: Any
) -> None:
    name = suggest(tmp_path, 1, CRAB)
    put(service, {name: [CRAB]}, (0, 0, "completed"))
    marked = Marked.of(name)
    assert marked is not None
    harm(tmp_path / marked.path)

    result = step.run()

    assert (result.images, result.annotations, result.corrections) == (1, 1, [])
    assert any("what was suggested for 1 images is in no store of the namespace" in each for each in result.warnings)


def test_a_name_leads_to_no_other_place(step: Step, service: Cvat, tmp_path: Path) -> None:
    name = suggest(tmp_path, 1, CRAB).replace(PUSHED_FROM, "..")
    put(service, {name: [CRAB]}, (0, 0, "completed"))

    assert Marked.of(name) is None
    assert step.run().corrections == []


def test_suggestions_are_found_in_object_storage(object_storage: ObjectStorage, bucket: str, tmp_path: Path) -> None:
    names = [suggest(tmp_path, number, CRAB) for number in range(2)]
    marked = {name: found for name in names if (found := Marked.of(name)) is not None}
    kept = marked[names[0]]
    object_storage.put(bucket, f"datasets/reef/{kept.path}", (tmp_path / kept.path).read_bytes())
    other = marked[names[1]]._replace(store="another")

    known = suggested.found(f"s3://{bucket}/datasets/reef/{'0' * 36}", {"here": kept, "gone": other})

    assert {name: each.digest for name, each in known.items()} == {"here": kept.digest}
