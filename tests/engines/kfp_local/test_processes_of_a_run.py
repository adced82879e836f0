"""What the processes of a run get, what they survive, and that none is left when the run has ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos.engines.kfp_local import records
from pelagos.engines.kfp_local.launch import Login
from pelagos.engines.processes import groups, orderly
from pelagos.ports.authority import Authority
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.pipelines import RunName, RunResources, RunState
from pelagos.ports.placement import Placement
from pelagos_contract import cost
from pelagos_contract.sealing import STEP_KEY
from pipeline_worlds import PYTHON, reach, until

if TYPE_CHECKING:
    import pytest

    from pipeline_worlds import KfpLocalWorld

NAME = RunName("train-1")
OPERATOR = """
import asyncio, sys
from pathlib import Path
from pelagos.engines.kfp_local.engine import KfpLocal
from pelagos.ports.pipelines import RunRequest
home, python, compiled, step = map(Path, sys.argv[1:])
async def main():
    engine = KfpLocal(home, python, compiled)
    await engine.submit(RunRequest("train-1", "training", {"folder": str(step)}))
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def begin(world: KfpLocalWorld) -> dict[str, Any]:
    """Start a training; returns what its step recorded about itself."""
    await world.engine.submit(replace(world.request(NAME, "training"), resources=RunResources(cpu=3)))
    await world.begin(NAME)
    facts: dict[str, Any] = json.loads((world.step(NAME) / "facts.json").read_text())
    return facts


def command_lines() -> list[bytes]:
    """Command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def alive(pid: int) -> bool:
    return groups.identify(pid) is not None


def exists(path: str) -> bool:
    return Path(path).exists()


async def test_a_step_gets_its_threads_a_low_priority_and_no_secret(
    world: KfpLocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary@proxy")
    monkeypatch.setenv("PYTHONPATH", "/canary")
    monkeypatch.setenv(cost.WATTS_PER_CORE, "6.5")
    facts = await begin(world)

    environment = facts["environment"]
    assert "canary" not in json.dumps(environment)
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment[cost.WATTS_PER_CORE] == "6.5", "what power is taken for"
    assert environment["ULTRALYTICS_SAFE_LOAD"] == "1"
    assert environment["PATH"].split(":")[0] == str(PYTHON.parent)
    assert facts["niceness"] == min(os.nice(0) + 5, 19)
    assert facts["litter"].startswith(str(world.home / "tmp"))


async def test_trainings_alone_get_the_login_of_mlflow_and_no_file_or_command_line_holds_it(
    world: KfpLocalWorld, tmp_path: Path
) -> None:
    user, password = tmp_path / "steps-username", tmp_path / "steps-password"
    user.write_text("steps\n")
    password.write_text("CANARY-password\n")
    world.login = Login(user, password)
    await world.restart_engine()
    facts = await begin(world)
    await world.engine.submit(world.request("prepare-1"))
    await world.begin("prepare-1")
    prepared = json.loads((world.step("prepare-1") / "facts.json").read_text())

    assert facts["environment"]["MLFLOW_TRACKING_USERNAME"] == "steps"
    assert facts["environment"]["MLFLOW_TRACKING_PASSWORD"] == "CANARY-password"
    assert not [name for name in prepared["environment"] if name.startswith("MLFLOW_TRACKING")]
    assert not [content for content in (*command_lines(), *contents(world.home)) if b"CANARY-password" in content]


async def test_the_key_of_a_run_goes_to_its_step_and_no_file_or_command_line_holds_it(world: KfpLocalWorld) -> None:
    authority = Authority(KeysFake())
    world.keys = authority.step_environment
    await world.restart_engine()
    request = replace(world.request(NAME, "training"), namespace="reef")
    await world.engine.submit(request)
    await world.begin(NAME)
    facts = json.loads((world.step(NAME) / "facts.json").read_text())

    wanted = authority.step_environment("reef", NAME, 1)
    assert {name: facts["environment"].get(name) for name in wanted} == wanted
    key = wanted[STEP_KEY].encode()
    assert not [content for content in (*command_lines(), *contents(world.home)) if key in content]


async def test_canceling_leaves_no_process_and_no_temporary_file_but_the_log(world: KfpLocalWorld) -> None:
    facts = await begin(world)

    await world.engine.cancel(NAME)

    assert not alive(facts["pid"])
    assert not alive(facts["child"])
    assert not exists(facts["litter"])
    await reach(world, NAME, RunState.CANCELED)
    assert "the step is at work" in world.log(NAME)


async def test_a_step_that_heeds_no_sigterm_is_ended_all_the_same(world: KfpLocalWorld) -> None:
    """What it holds, such as a GPU, is free once canceling returns: `kfp_local.engine.GRACE_SECONDS` after the first signal."""
    (world.step(NAME) / "stubborn").touch()
    facts = await begin(world)

    await world.engine.cancel(NAME)

    assert not alive(facts["pid"])
    await reach(world, NAME, RunState.CANCELED)


async def test_deleting_leaves_nothing(world: KfpLocalWorld) -> None:
    facts = await begin(world)

    await world.engine.delete(NAME)

    assert not alive(facts["pid"])
    assert not alive(facts["child"])
    assert list((world.home / "runs").iterdir()) == []
    assert list((world.home / "tmp").iterdir()) == []


async def test_success_leaves_no_temporary_file(world: KfpLocalWorld) -> None:
    facts = await begin(world)
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    assert not exists(facts["litter"])


async def test_a_runner_killed_alone_interrupts_the_run_and_its_step_does_not_go_on(world: KfpLocalWorld) -> None:
    facts = await begin(world)
    os.kill(world.process(NAME).pid, signal.SIGKILL)

    await reach(world, NAME, RunState.INTERRUPTED)

    assert not alive(facts["pid"])
    assert not alive(facts["child"])
    assert not exists(facts["litter"])


async def test_a_step_killed_from_outside_interrupts_the_run(world: KfpLocalWorld) -> None:
    facts = await begin(world)
    os.kill(facts["pid"], signal.SIGKILL)

    run = await reach(world, NAME, RunState.INTERRUPTED)

    assert "step work was ended with SIGKILL" in run.message
    assert "memory" in run.message


async def test_a_step_that_crashes_fails_the_run(world: KfpLocalWorld) -> None:
    facts = await begin(world)
    os.kill(facts["pid"], signal.SIGSEGV)

    run = await reach(world, NAME, RunState.FAILED)

    assert run.message == "step work crashed with SIGSEGV"


async def test_a_run_survives_the_operators_sudden_death(world: KfpLocalWorld, compiled: Path) -> None:
    arguments = [str(path) for path in (world.home, PYTHON, compiled, world.step(NAME))]
    operator = await asyncio.create_subprocess_exec(sys.executable, "-c", OPERATOR, *arguments)
    await world.begin(NAME)
    operator.kill()
    await operator.wait()

    await reach(world, NAME, RunState.RUNNING)
    await world.engine.submit(world.request(NAME, "training"))
    await world.succeed(NAME)
    await reach(world, NAME, RunState.SUCCEEDED)

    assert world.begun(NAME) == 1


async def test_a_request_that_an_operator_wrote_before_it_died_is_carried_out(world: KfpLocalWorld) -> None:
    folder = records.RunFolder(world.home / "runs", NAME)
    folder.request(records.Stored(world.request(NAME, "training"), 1, records.now()))

    await world.engine.find(NAME)

    await world.begin(NAME)


async def test_an_operator_that_starts_anew_knows_which_steps_a_run_has(world: KfpLocalWorld) -> None:
    folder = records.RunFolder(world.home / "runs", NAME)
    on_gpus = RunResources(placement=Placement(gpus=1))
    for resources, flow in ((on_gpus, "training-on-gpus.yaml"), (RunResources(), "training.yaml")):
        asked = replace(world.request(NAME, "training"), resources=resources)
        folder.request(records.Stored(asked, 1, records.now()))
        look = folder.look()
        assert look is not None
        assert world.launcher().pipeline(look.stored.request).name == flow


async def test_an_attempt_begins_once_however_many_processes_are_started_for_it(world: KfpLocalWorld) -> None:
    folder = records.RunFolder(world.home / "runs", NAME)
    request = world.request(NAME, "training")
    folder.request(records.Stored(request, 1, records.now()))
    other = world.new_engine()
    try:
        await asyncio.gather(
            world.engine.find(NAME), other.find(NAME), other.submit(request), world.engine.submit(request)
        )
        await world.succeed(NAME)
        await reach(world, NAME, RunState.SUCCEEDED)
        late = world.launcher().start(folder, request)
        await until(lambda: not groups.is_alive(late), "the late runner's end")
    finally:
        await other.close()

    assert world.begun(NAME) == 1
    assert (await reach(world, NAME, RunState.SUCCEEDED)).attempt == 1


async def test_a_process_of_an_earlier_boot_is_neither_waited_for_nor_killed(world: KfpLocalWorld) -> None:
    folder = records.RunFolder(world.home / "runs", NAME)
    folder.request(records.Stored(world.request(NAME, "training"), 1, records.now()))
    bystander = groups.start_detached(["/bin/sleep", "600"], environment={}, output=folder.log)
    document = {
        "attempt": 1,
        "pid": bystander.pid,
        "started": bystander.started,
        "boot": "x",
        "startedAt": "2024-01-01T00:00:00+00:00",
    }
    (folder.path / "process.json").write_text(json.dumps(document))
    try:
        await reach(world, NAME, RunState.INTERRUPTED)
        assert groups.is_alive(bystander)
    finally:
        await groups.kill_group(bystander, 0)


async def test_a_run_that_was_ended_with_the_installation_has_not_died(world: KfpLocalWorld) -> None:
    facts = await begin(world)

    orderly.mark(world.home)
    await world.new_engine().interrupt_all()

    run = await reach(world, NAME, RunState.CANCELED)
    assert not alive(facts["pid"])
    assert run.message == "it was stopped with the installation"
    await world.engine.submit(replace(world.request(NAME, "training"), attempt=2))
    await reach(world, NAME, RunState.RUNNING)
    os.kill(world.process(NAME).pid, signal.SIGKILL)
    await reach(world, NAME, RunState.INTERRUPTED)


async def test_ending_all_processes_interrupts_runs_so_that_they_can_go_on_later(world: KfpLocalWorld) -> None:
    facts = await begin(world)

    await world.new_engine().interrupt_all()

    assert not alive(facts["pid"])
    await reach(world, NAME, RunState.INTERRUPTED)


async def test_a_runner_that_cannot_start_fails_the_run_and_says_why(world: KfpLocalWorld, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such interpreter' >&2\nexit 1\n")
    broken.chmod(0o755)
    world.python = broken
    await world.restart_engine()
    await world.engine.submit(world.request(NAME, "training"))

    run = await reach(world, NAME, RunState.FAILED)

    assert "no such interpreter" in run.message


async def test_how_long_a_run_took_does_not_depend_on_the_clock(world: KfpLocalWorld) -> None:
    """As if the clock had been set forward since the run began; a new operator has no other time to use."""
    await begin(world)
    file = world.home / "runs" / NAME / "process.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"startedAt": "2024-01-01T00:00:00+00:00"}))
    await world.restart_engine()

    running = await world.engine.find(NAME)
    assert running is not None
    assert running.ran is not None
    assert running.ran < timedelta(minutes=10)

    await world.succeed(NAME)
    ended = await reach(world, NAME, RunState.SUCCEEDED)
    assert ended.ran is not None
    assert running.ran - timedelta(seconds=5) < ended.ran < timedelta(minutes=10)


async def test_a_canceled_run_keeps_how_long_it_took(world: KfpLocalWorld) -> None:
    await begin(world)

    await world.engine.cancel(NAME)

    canceled = await reach(world, NAME, RunState.CANCELED)
    assert canceled.ran is not None
    assert timedelta() < canceled.ran < timedelta(minutes=10)
