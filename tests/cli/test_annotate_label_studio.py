"""What a push creates in a real Label Studio server, and that a second push does not create it again."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pelagos.cli.annotating import TOOLS
from pelagos.cli.annotating.images import Store
from pelagos.cli.annotating.tool import Suggestion, ToolError
from pelagos.settings import Settings
from pelagos_contract import brushes, run_lengths
from real_label_studio import LabelStudio


def suggestion(shade: int, *scores: float) -> Suggestion:
    """An image of 100 x 80 pixels with a fish for each score."""
    content = io.BytesIO()
    Image.new("RGB", (100, 80), (shade, 0, 0)).save(content, "PNG")
    identity = hashlib.sha256(content.getvalue()).hexdigest()[:32]
    detections = [{"label": "fish", "score": score, "box": [10.0, 20.0, 30.0, 60.0]} for score in scores]
    found = {"task": "Detection", "width": 100, "height": 80, "detections": detections}
    return Suggestion(identity, "dive 1/\u00e4 b.png", Reading(content.getvalue()), "pelagos/reef@m1", found, 0.4)


class Reading:
    """Returns the content of an image."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __call__(self) -> bytes:
        return self.content


async def push(
    server: LabelStudio, project: int, *suggestions: Suggestion, left_out: Counter[str] | None = None
) -> int:
    """Push suggestions; returns how many were added."""
    task = str(suggestions[0].found["task"])
    secret = {"url": server.url, "project": str(project), "token": server.token}
    added: list[int] = []
    async with TOOLS.named("labelStudio").open(secret, Store("/nowhere/versions/ab", Settings())) as opened:
        await opened.prepare(task, ["crab", "fish"])
        known = await opened.known([each.identity for each in suggestions])
        await opened.add([each for each in suggestions if each.identity not in known], added.append)
        if left_out is not None:
            left_out.update(opened.left_out)
    return len(added)


async def test_each_image_is_a_task_with_its_prediction_once(label_studio: LabelStudio) -> None:
    project = label_studio.project("pushed")

    assert await push(label_studio, project, suggestion(1, 0.4), suggestion(2)) == 2
    assert await push(label_studio, project, suggestion(1, 0.4), suggestion(2), suggestion(3, 0.9)) == 1

    tasks = label_studio.tasks(project)
    assert [len(task["predictions"]) for task in tasks] == [1, 1, 1]
    (region,) = tasks[0]["predictions"][0]["result"]
    assert (region["from_name"], region["to_name"], region["score"]) == ("label", "image", 0.4)
    assert region["value"]["rectanglelabels"] == ["fish"]
    assert (region["value"]["x"], region["value"]["height"]) == (10.0, 50.0)


async def test_an_empty_project_gets_an_interface_and_another_one_is_left_alone(label_studio: LabelStudio) -> None:
    empty = label_studio.project("empty", "<View></View>")

    assert await push(label_studio, empty, suggestion(1, 0.4)) == 1

    choices = (
        '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="fish"/></Choices></View>'
    )
    with pytest.raises(ToolError, match="has 0 tags RectangleLabels"):
        await push(label_studio, label_studio.project("choices", choices), suggestion(1, 0.4))


def of_task(task: str, name: str, *found: dict[str, object]) -> Suggestion:
    plain = suggestion(9)
    return replace(plain, found={"task": task, "width": 100, "height": 80, name: list(found)})


async def test_turned_boxes_are_rectangles_that_are_turned_around_a_corner(label_studio: LabelStudio) -> None:
    """A fish of 40 x 20 pixels in the middle that looks down: its first corner is the upper right one."""
    corners = [[60.0, 20.0], [60.0, 60.0], [40.0, 60.0], [40.0, 20.0]]
    fish = {"label": "fish", "score": 0.8, "box": [50.0, 40.0, 40.0, 20.0, 90.0], "corners": corners}
    project = label_studio.project("turned", "<View></View>")

    assert await push(label_studio, project, of_task("OrientedDetection", "detections", fish)) == 1
    (region,) = label_studio.tasks(project)[0]["predictions"][0]["result"]
    assert region["value"] == {
        "x": 60.0,
        "y": 25.0,
        "width": 40.0,
        "height": 25.0,
        "rotation": 90.0,
        "rectanglelabels": ["fish"],
    }


async def test_masks_are_strokes_of_the_brush_and_what_has_no_pixels_is_counted(label_studio: LabelStudio) -> None:
    inside: Any = np.zeros((80, 100), bool)
    inside[10:30, 40:60] = inside[15, 60:70] = True
    masks = [run_lengths.encoded(run_lengths.Part(0, 0, one), (80, 100)) for one in (inside, inside & False)]
    found = [
        {
            "label": "fish",
            "score": 0.8,
            "box": [40, 10, 60, 30],
            "mask": {"size": [80, 100], "counts": counts},
            "area": 1,
        }
        for counts in masks
    ]
    project, left_out = label_studio.project("painted", "<View></View>"), Counter[str]()

    assert (
        await push(label_studio, project, of_task("InstanceSegmentation", "instances", *found), left_out=left_out) == 1
    )
    (region,) = label_studio.tasks(project)[0]["predictions"][0]["result"]
    assert (region["type"], region["value"]["brushlabels"], region["value"]["format"]) == (
        "brushlabels",
        ["fish"],
        "rle",
    )
    assert region["value"]["rle"] == brushes.encoded(inside)
    assert int.from_bytes(bytes(region["value"]["rle"][:4]), "big") == 4 * 100 * 80
    assert left_out == {"masks without pixels": 1}

    wrong = {**found[0], "mask": {"size": [80, 100], "counts": "0"}}
    with pytest.raises(ToolError, match="runs that do not fit an image"):
        await push(
            label_studio, project, replace(of_task("InstanceSegmentation", "instances", wrong), identity="0" * 32)
        )
