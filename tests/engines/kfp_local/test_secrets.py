"""The Secret with which a step accesses its source: waited for, passed on, and never written down."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pelagos.api import reasons
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import RunRequest, SourceSecret
from pipeline_worlds import KfpLocalWorld

KEYS = (("token",), ("username", "password"))


def asking(world: KfpLocalWorld) -> RunRequest:
    return replace(world.request("frames"), namespace="reef", secret=SourceSecret("cvat", KEYS))


async def test_a_run_waits_until_its_secret_is_whole(world: KfpLocalWorld) -> None:
    for content, lacks in (
        (None, "it does not exist"),
        ({"password": "x"}, "it needs token or username and password, and has password"),
    ):
        if content is not None:
            world.secrets["reef", "cvat"] = content
        with pytest.raises(RejectedError, match=lacks) as caught:
            await world.engine.submit(asking(world))
        assert caught.value.reason is reasons.SOURCE_SECRET_INCOMPLETE
        assert "kubectl -n reef create secret generic cvat --from-literal=token=..." in str(caught.value)
    world.secrets["kelp", "cvat"] = {"token": "of another namespace"}
    with pytest.raises(RejectedError):
        await world.engine.submit(asking(world))

    world.secrets["reef", "cvat"] = {"token": "CANARY-token"}

    await world.engine.submit(asking(world))
    await world.begin("frames")
    environment = json.loads((world.step("frames") / "facts.json").read_text())["environment"]
    assert json.loads(environment["PELAGOS_SOURCE_SECRET_CONTENT"]) == {"token": "CANARY-token"}
    await world.succeed("frames")
    kept = [file.read_bytes() for file in world.home.rglob("*") if file.is_file()]
    assert not [content for content in kept if b"CANARY" in content]


async def test_a_run_without_one_is_given_none(world: KfpLocalWorld) -> None:
    world.secrets["reef", "cvat"] = {"token": "CANARY-token"}
    await world.engine.submit(replace(world.request("frames"), namespace="reef"))
    await world.begin("frames")
    assert "CANARY" not in (world.step("frames") / "facts.json").read_text()
    await world.succeed("frames")
