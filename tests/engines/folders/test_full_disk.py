"""On a full disk the embedded engines refuse with DiskFull, the volume and the file, and leave no half-written file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import small_volumes
from pelagos.engines.folders import keys as authority_keys
from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.kfp_local.engine import KfpLocal
from pelagos.engines.kfp_local.room import Room
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import RunName, RunRequest
from pelagos_contract import disk
from small_volumes import small

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pelagos.ports.serving import DesiredService

__all__ = ["small"]


@pytest.fixture
def full(small: Path) -> Iterator[Path]:
    small_volumes.fill(small)
    before = contents(small)
    yield small
    assert contents(small) == before


def contents(volume: Path) -> set[str]:
    return {str(path) for path in volume.rglob("*") if path.is_file() and path.stat().st_size}


def refusal(work: Callable[[], Awaitable[object]]) -> str:
    async def refused() -> str:
        with pytest.raises(RejectedError) as caught:
            await work()
        assert caught.value.reason == "DiskFull"
        return str(caught.value)

    return asyncio.run(refused())


def test_a_package_that_does_not_fit_beside_the_server(
    full: Path, environments: Path, make_want: Callable[..., DesiredService]
) -> None:
    async def serve() -> None:
        triton = TritonLocal(full, environments)
        try:
            await triton.apply(make_want(uid="5f0c5f0c-0000-4000-8000-000000000000"))
        finally:
            await triton.close()

    words = refusal(serve)
    assert f"no space is left on the volume {full} to write {full}/services/" in words
    assert "0 bytes of 1.0 MB are free; free space on the volume" in words


def test_the_request_of_a_pipeline_run(full: Path, tmp_path: Path) -> None:
    flows = tmp_path / "compiled"
    flows.mkdir()
    (flows / "training.yaml").touch()
    request = RunRequest(name=RunName("run"), flow="training", parameters={})

    async def submit() -> None:
        engine = KfpLocal(full, python=Path("python"), compiled=flows, capacity={"training": Room(runs=1)})
        try:
            await engine.submit(request)
        finally:
            await engine.close()

    assert f"no space is left on the volume {full} to write {full}/runs/run" in refusal(submit)


def test_a_document_of_the_object_store(full: Path) -> None:
    words = refusal(lambda: FolderObjects(full).write_json("reports/one.json", {"a": "b"}))

    assert f"no space is left on the volume {full} to write {full}/reports/one.json" in words


@pytest.mark.parametrize(
    "write",
    [
        lambda volume: authority_keys.make(volume / "keys"),
        lambda volume: disk.write_atomically(volume / "state.json", "{}", mode=disk.PRIVATE),
    ],
    ids=["a key", "a state"],
)
def test_what_the_start_writes(full: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(disk.FullError, match=f"no space is left on the volume {full} to write {full}/"):
        write(full)
