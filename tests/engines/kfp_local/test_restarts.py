"""An operator that is killed again and again, at any moment, makes each run exactly once."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

from pelagos.engines.kfp_local import records
from pelagos.ports.pipelines import RunName
from pipeline_worlds import PYTHON, until

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline_worlds import KfpLocalWorld

NAMES = [f"prepare-{number}" for number in range(8)]
KILLS = 6
OPERATOR = """
import asyncio, sys
from pathlib import Path
from pelagos.engines.kfp_local.engine import KfpLocal
from pelagos.ports.pipelines import RunRequest, RunState
home, python, compiled, steps = map(Path, sys.argv[1:5])
async def main():
    engine = KfpLocal(home, python, compiled)
    left = set(sys.argv[5:])
    while left:
        for name in sorted(left):
            run = await engine.find(name)
            if run is None:
                run = await engine.submit(RunRequest(name, "dataset-preparation", {"folder": str(steps / name)}))
            if run.state is RunState.SUCCEEDED:
                left.remove(name)
        await asyncio.sleep(0.02)
    await engine.close()
asyncio.run(main())
"""


async def test_each_run_is_made_once_by_operators_that_are_killed(world: KfpLocalWorld, compiled: Path) -> None:
    moments = random.Random(7)
    for name in NAMES:
        (world.step(name) / "succeed").touch()
    steps = world.step(NAMES[0]).parent
    arguments = [str(path) for path in (world.home, PYTHON, compiled, steps)]
    for _ in range(KILLS):
        operator = await asyncio.create_subprocess_exec(sys.executable, "-c", OPERATOR, *arguments, *NAMES)
        await asyncio.sleep(0.3 + 0.4 * moments.random())
        if operator.returncode is None:
            operator.kill()
        await operator.wait()

    last = await asyncio.create_subprocess_exec(sys.executable, "-c", OPERATOR, *arguments, *NAMES)
    await until(lambda: last.returncode is not None, "the end of all runs")

    assert await last.wait() == 0
    looks = [records.RunFolder(world.home / "runs", RunName(name)).look() for name in NAMES]
    assert [look.stored.request.attempt for look in looks if look] == [1] * len(NAMES)
    assert [world.begun(name) for name in NAMES] == [1] * len(NAMES)
