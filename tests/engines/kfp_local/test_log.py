"""A run's log is plain text, and covers all attempts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.cli.logs import files
from pelagos.cli.logs.lines import Wish
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


async def test_the_log_tells_its_attempts_and_steps_apart(world: KfpLocalWorld) -> None:
    request = replace(world.request(NAME), labels={"pelagos.dev/resource": "dataset/reef/frames"})
    await world.engine.submit(request)
    await world.fail(NAME, "the nets were empty")
    failed = await reach(world, NAME, RunState.FAILED)
    await world.engine.submit(replace(request, attempt=2))
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    def told(**wish: bool) -> list[str]:
        return [line.text for line in files.of_run(world.home, NAME, Wish(step="work", **wish), lambda: True)]

    assert failed.message.endswith("the nets were empty; pelagos logs frames -n reef --kind dataset shows its log")
    assert "ValueError: the nets were empty" in told(previous=True)
    assert "the step is at work" in told()
    assert "ValueError: the nets were empty" not in told()
    assert told() == told(follow=True)
