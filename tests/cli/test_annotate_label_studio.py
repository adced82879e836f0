"""What a push makes in a real Label Studio server, and what a second one does not make again."""

from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image

from pelagos.cli.annotating import TOOLS
from pelagos.cli.annotating.images import Store
from pelagos.cli.annotating.tool import Suggestion, ToolError
from pelagos.settings import Settings
from real_label_studio import LabelStudio


def suggestion(shade: int, *scores: float) -> Suggestion:
    """An image of 100 x 80 pixels with a fish for each score."""
    content = io.BytesIO()
    Image.new("RGB", (100, 80), (shade, 0, 0)).save(content, "PNG")
    identity = hashlib.sha256(content.getvalue()).hexdigest()[:32]
    detections = [{"label": "fish", "score": score, "box": [10.0, 20.0, 30.0, 60.0]} for score in scores]
    found = {"task": "Detection", "width": 100, "height": 80, "detections": detections}

    async def read() -> bytes:
        return content.getvalue()

    return Suggestion(identity, "dive 1/\u00e4 b.png", read, "pelagos/reef@m1", found, 0.4)


async def push(server: LabelStudio, project: int, *suggestions: Suggestion) -> int:
    """How many were added."""
    secret = {"url": server.url, "project": str(project), "token": server.token}
    added: list[int] = []
    async with TOOLS.named("labelStudio").open(secret, Store("/nowhere/versions/ab", Settings())) as opened:
        await opened.prepare("Detection", ["crab", "fish"])
        known = await opened.known([each.identity for each in suggestions])
        await opened.add([each for each in suggestions if each.identity not in known], added.append)
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
