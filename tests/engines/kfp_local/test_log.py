"""A run's log is plain text, and tells of all attempts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.ports.pipelines import RunName, RunState
from pipeline_worlds import reach

if TYPE_CHECKING:
    from pipeline_worlds import KfpLocalWorld

NAME = RunName("prepare-1")


async def test_the_log_is_plain_text_and_tells_of_all_attempts(world: KfpLocalWorld) -> None:
    request = world.request(NAME)
    await world.engine.submit(request)
    await world.fail(NAME, "the nets were empty")
    await world.engine.submit(replace(request, attempt=2))
    await world.succeed(NAME)
    run = await reach(world, NAME, RunState.SUCCEEDED)

    text = world.log(NAME)

    assert Path(run.url).is_absolute()
    assert "\x1b" not in text
    assert text.index("prepare-1, attempt 1") < text.index("ValueError: the nets were empty")
    assert text.index("ValueError: the nets were empty") < text.index("prepare-1, attempt 2")
    assert text.count("the step is at work") == 2
