"""What only the local Triton servers promise: they outlive the operator, survive its crashes, and can be trusted."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import model_packages
from local_triton import (
    altered,
    copy_of_package,
    folder,
    pid,
    processes_of,
    program,
    server,
    service,
    settled,
    shared_memory,
    triton,
    uid,
)
from pelagos.engines.processes import orderly
from pelagos.engines.triton import inference
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import ServiceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from pelagos.ports.serving import DesiredService

    MakeWant = Callable[..., DesiredService]

__all__ = ["triton", "uid"]


async def test_a_new_operator_finds_the_server_again(
    triton: TritonLocal, tmp_path: Path, environments: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    before = await settled(triton, uid)
    process = server(tmp_path, uid).process
    successor = TritonLocal(tmp_path, environments)
    await successor.apply(want)
    after = await successor.observe(uid)
    assert after is not None
    assert (after.state, after.restarts, after.grpc_url) == (ServiceState.LOADED, 0, before.grpc_url)
    assert server(tmp_path, uid).process == process
    assert (await successor.probe(uid)).correct
    await successor.close()


async def test_a_crash_after_the_start_leaves_no_second_server(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    """The operator died between starting the process and recording it."""
    want = make_want(uid=uid)
    await triton.apply(want)
    lost = server(tmp_path, uid)
    state = records.read(service(tmp_path, uid))
    records.write(service(tmp_path, uid), replace(state, current=replace(lost, process=None)))
    dead = await triton.observe(uid)
    assert dead is not None
    assert dead.state is ServiceState.DEAD
    await triton.apply(want)
    seen = await settled(triton, uid)
    assert (seen.state, seen.restarts) == (ServiceState.LOADED, 0)
    assert lost.process is not None
    assert lost.process.pid not in processes_of(tmp_path)


async def test_a_deleted_folder_does_not_hide_its_server(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    assert processes_of(tmp_path) != []
    assert shared_memory(tmp_path, uid) != []
    shutil.rmtree(service(tmp_path, uid))
    await triton.remove(uid)
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("name", ["1/served", "state.json"])
async def test_what_was_deleted_below_a_server_is_made_again(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant, name: str
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    await settled(triton, uid)
    path = service(tmp_path, uid) / name
    path.rename(tmp_path / "lost")
    assert await triton.observe(uid) is None
    await triton.apply(want)
    assert (await settled(triton, uid)).state is ServiceState.LOADED
    assert (await triton.probe(uid)).correct
    assert len([pid for pid in processes_of(tmp_path) if b"tritonserver" in program(pid)]) == 1


async def test_a_server_that_hangs_fails_its_probe_and_is_cured(
    tmp_path: Path, environments: Path, uid: str, make_want: MakeWant
) -> None:
    triton = TritonLocal(tmp_path, environments, probe_timeout=0.5)
    want = make_want(uid=uid)
    await triton.apply(want)
    await settled(triton, uid)
    os.kill(pid(tmp_path, uid), signal.SIGSTOP)
    seen = await triton.observe(uid)
    assert seen is not None
    assert (seen.state, seen.message) == (ServiceState.LOADED, "the server does not answer its health check")
    probe = await triton.probe(uid)
    assert (probe.correct, probe.message) == (False, "no answer within 0.5 s")
    await triton.restart(uid)
    await triton.apply(want)
    assert (await settled(triton, uid)).restarts == 1
    patient = TritonLocal(tmp_path, environments)
    assert (await patient.probe(uid)).correct
    await triton.remove(uid)
    await triton.close()


async def end(process: int) -> None:
    """Kill the process, and wait until it has ended: one with much memory takes some time."""
    os.kill(process, signal.SIGKILL)
    for _ in range(3000):
        if not program(process):
            return
        await asyncio.sleep(0.01)
    pytest.fail("it is there after 30 s")


async def test_a_server_that_was_ended_with_the_installation_has_not_died(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    await settled(triton, uid)
    orderly.mark(tmp_path)
    await end(pid(tmp_path, uid))
    gone = await triton.observe(uid)
    assert gone is not None
    assert (gone.state, gone.message) == (ServiceState.ENDED, "it was stopped with the installation")
    await triton.apply(want)
    again = await settled(triton, uid)
    assert (again.state, again.restarts) == (ServiceState.LOADED, 0)
    await end(pid(tmp_path, uid))
    dead = await triton.observe(uid)
    assert dead is not None
    assert dead.state is ServiceState.DEAD


async def test_another_model_is_told_where_both_detect_the_same(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    """The package describes outputs that its graph does not give: as if another graph were served in its place."""
    usual = make_want(uid=uid)
    told = json.loads((Path(usual.package_uri) / "package.json").read_text())["probe"]
    told["scores"] = base64.b64encode(bytes(len(base64.b64decode(told["scores"])))).decode()
    manifest, onnx = model_packages.altered(Path(usual.package_uri), tmp_path / "other", {}, probe=told)
    want = replace(usual, package_uri=str(tmp_path / "other"), manifest_sha256=manifest, onnx_sha256=onnx)
    await triton.apply(want)
    await settled(triton, uid)
    probe = await triton.probe(uid)
    assert not probe.correct
    assert "another model answers: before thresholds, the scores differ by" in probe.message


async def test_an_answer_unlike_that_of_the_training_framework_is_not_correct(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = altered(make_want(uid=uid), tmp_path / "other", "answers wrong")
    await triton.apply(want)
    assert (await settled(triton, uid)).state is ServiceState.LOADED
    probe = await triton.probe(uid)
    assert not probe.correct
    assert probe.message.startswith("missing: Ceratium with score 0.902 at [19.0, 0.0, 32.0, 16.0]")


async def test_settings_reach_the_model(triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid, confidence="0.75")
    await triton.apply(want)
    seen = await settled(triton, uid)
    image = (Path(want.package_uri) / "probe.png").read_bytes()
    answer, _ = await inference.infer(seen.grpc_url, want.model_name, image, 10)
    assert [round(found["score"], 1) for found in answer["detections"]] == [0.9, 0.8]


async def test_what_is_no_image_gets_an_error_that_says_so(triton: TritonLocal, uid: str, make_want: MakeWant) -> None:
    await triton.apply(make_want(uid=uid))
    seen = await settled(triton, uid)
    with pytest.raises(inference.InferenceError, match="is not JPEG, PNG"):
        await inference.infer(seen.grpc_url, "detector", b"text", 10)
    assert (await triton.probe(uid)).correct


async def test_a_package_that_was_deleted_is_still_served_after_a_death(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = copy_of_package(make_want(uid=uid), tmp_path / "package")
    await triton.apply(want)
    await settled(triton, uid)
    shutil.rmtree(tmp_path / "package")
    await triton.restart(uid)
    await triton.apply(want)
    assert (await settled(triton, uid)).state is ServiceState.LOADED


async def test_settings_change_when_the_package_was_deleted(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = copy_of_package(make_want(uid=uid), tmp_path / "package")
    await triton.apply(want)
    await settled(triton, uid)
    shutil.rmtree(tmp_path / "package")
    changed = replace(want, confidence="0.75", digest="changed")
    await triton.apply(changed)
    seen = await settled(triton, uid)
    assert (seen.state, seen.digest) == (ServiceState.LOADED, "changed")


async def test_a_refused_change_leaves_the_server_alone(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    want = make_want(uid=uid)
    await triton.apply(want)
    before = await settled(triton, uid)
    with pytest.raises(RejectedError, match=f"instead of {'0' * 64}"):
        await triton.apply(make_want(uid=uid, manifest_sha256="0" * 64))
    assert await triton.observe(uid) == before
    assert (await triton.probe(uid)).correct


async def test_nothing_is_left_but_the_files_that_are_kept(
    triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant
) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    await triton.remove(uid, keep_files=True)
    assert processes_of(tmp_path) == []
    assert (service(tmp_path, uid) / "1/served/repository/detector/1/model.onnx").is_file()
    await triton.remove(uid)
    assert list((tmp_path / "services").iterdir()) == []


async def test_the_log_stays_small(triton: TritonLocal, tmp_path: Path, uid: str, make_want: MakeWant) -> None:
    await triton.apply(make_want(uid=uid))
    await settled(triton, uid)
    log = folder(tmp_path, uid).log
    with log.open("ab") as file:
        file.write(b"filler\n" * 1_300_000 + b"the end\n")
    await triton.observe(uid)
    assert log.stat().st_size == 1024 * 1024
    assert log.read_bytes().endswith(b"the end\n")


async def test_without_the_environment_the_server_is_an_outage(tmp_path: Path, uid: str, make_want: MakeWant) -> None:
    triton = TritonLocal(tmp_path, tmp_path)
    with pytest.raises(OutageError, match="tritonserver is not installed; run `make install`"):
        await triton.apply(make_want(uid=uid))
    await triton.close()


@pytest.mark.parametrize("uid", ["", "../x", "a/b", ".hidden"])
async def test_a_uid_is_no_path(tmp_path: Path, uid: str) -> None:
    triton = TritonLocal(tmp_path, tmp_path)
    with pytest.raises(RejectedError, match="is not a uid"):
        await triton.observe(uid)
