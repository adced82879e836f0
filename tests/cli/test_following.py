"""Following resources: until all are Ready, one is stalled, or it takes too long; and the output in the meantime."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from pelagos.api.kinds import DATASET, TRAINING_RUN
from pelagos.cli import following
from pelagos.cli.following import Ending, Followed

IMAGES = Followed(DATASET, "default", "plankton")
RUN = Followed(TRAINING_RUN, "default", "detector")
IN_PROGRESS = {"epoch": 3, "epochs": 10, "percent": 30}


def body(ready: str, reason: str, message: str = "", *, stalled: bool = False, **status: Any) -> Mapping[str, Any]:
    entries = [{"type": "Ready", "status": ready, "reason": reason, "message": message}]
    if stalled:
        entries.append({"type": "Stalled", "status": "True", "reason": reason, "message": message})
    entries.append({"type": "Prepared", "status": ready, "reason": reason, "message": message})
    return {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": entries, **status}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PERIOD", 0.0)


def follow(*looks: Mapping[Followed, Mapping[str, Any] | None], timeout: float = 60.0) -> tuple[Ending, str]:
    """Follow a world with these states, the last of which stays; returns the ending and the output."""
    resources = list(looks[0])
    steps: Iterator[Mapping[Followed, Mapping[str, Any] | None]] = iter(looks)
    now: dict[Followed, Mapping[str, Any] | None] = {}

    def fetch(resource: Followed) -> Mapping[str, Any] | None:
        if resource == resources[0]:
            now.update(next(steps, {}))
        return now[resource]

    console = Console(file=io.StringIO(), width=200)
    ending = following.follow(resources, fetch, console, timeout=timeout)
    return ending, console.file.getvalue()  # type: ignore[attr-defined]


def test_it_ends_well_when_all_are_ready() -> None:
    ending, said = follow(
        {IMAGES: body("Unknown", "Running"), RUN: None},
        {IMAGES: body("True", "VersionReady"), RUN: body("True", "Completed")},
    )

    assert ending.problem is None
    assert set(ending.bodies) == {IMAGES, RUN}
    assert "TrainingRun detector: Completed" in said


def test_a_stalled_resource_ends_it_with_its_message() -> None:
    ending, _ = follow({IMAGES: body("False", "CorruptImages", "replace them", stalled=True)})

    assert ending.problem == "Dataset plankton is stalled: CorruptImages: replace them"


def test_it_does_not_wait_for_ever() -> None:
    ending, _ = follow({IMAGES: body("Unknown", "Running")}, timeout=-1)

    assert ending.problem is not None
    assert "Dataset plankton" in ending.problem


def test_a_status_of_an_earlier_generation_is_not_believed() -> None:
    stale = {**body("True", "VersionReady"), "metadata": {"generation": 2}}
    ending, _ = follow({IMAGES: stale}, {IMAGES: body("True", "VersionReady")})

    assert ending.bodies[IMAGES]["metadata"]["generation"] == 1


def test_away_from_a_terminal_every_change_is_one_line() -> None:
    first = {RUN: body("Unknown", "Training", "epoch 3 of 10", progress=IN_PROGRESS)}
    _, said = follow(first, first, first, {RUN: body("True", "Completed", "mAP50 0.9")})

    lines = [line.split("] ", 1)[1] for line in said.splitlines()]
    assert lines == ["TrainingRun detector: Training: epoch 3 of 10", "TrainingRun detector: Completed: mAP50 0.9"]


def test_the_table_shows_conditions_and_epochs() -> None:
    progress = IN_PROGRESS | {"loss": "0.4322", "imagesPerSecond": "12"}
    training = body("Unknown", "Training", "epoch 3 of 10", progress=progress)
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)

    console.print(following.render([RUN], {RUN: training}, 12.0))

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "epoch 3 of 10" in text
    assert "loss 0.4322, 12 images/s" in " ".join(text.split())
    assert "Prepared" in text
    assert "detector" in text


def test_the_table_shows_the_stage_with_its_time_and_those_before() -> None:
    since = (datetime.now(UTC) - timedelta(seconds=12)).isoformat()
    progress = IN_PROGRESS | {"stage": "Evaluation", "stageSince": since, "stagePercent": 50}
    progress |= {"stages": [{"stage": "Training", "seconds": 90}]}
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)

    console.print(following.render([RUN], {RUN: body("Unknown", "Evaluating", "measured", progress=progress)}, 12.0))

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Training 90 s → Evaluation 12 s" in text
    assert "epoch" not in text


def test_the_table_shows_how_many_images_were_checked() -> None:
    progress = {"stage": "CheckingImages", "imagesDone": 30, "imagesTotal": 120, "stagePercent": 25}
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)

    console.print(following.render([IMAGES], {IMAGES: body("Unknown", "Running", progress=progress)}, 12.0))

    assert "CheckingImages, 30 of 120 images" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_nobody_asks_for_is_not_shown_as_failed() -> None:
    published = {"type": "Published", "status": "False", "reason": "NotAskedFor"}
    ready = body("True", "VersionReady")
    ready["status"]["conditions"].append(published)
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)

    console.print(following.render([IMAGES], {IMAGES: ready}, 12.0))

    assert "Published" not in console.file.getvalue()  # type: ignore[attr-defined]
