"""What changes something is refused unless this operator leads; what only looks is not."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from pelagos.observability import metrics
from pelagos.ports.fakes.leadership import LeadershipFake
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.leadership import NotLeadingError
from pelagos.ports.pipelines import RunName, RunRequest
from pelagos.reconcilers import fencing
from pelagos.reconcilers.dependencies import Dependencies

LOOKING = {
    "pipelines": {"find", "find_owned", "owned"},
    "tracking": {"uri", "get_run", "find_runs", "owned"},
    "registry": {"find_by_uid", "find_by_alias", "find_by_version", "owner", "owned"},
    "serving": {"observe", "probe", "owned"},
    "objects": {"uri", "path", "names", "read_json", "read_bytes", "exists", "written_at"},
    "volumes": {"root", "fingerprint"},
    "tenants": {"find"},
    "cluster": {"read"},
}
NO_PORTS = {"clock", "cache", "probes", "authority"}
REQUEST = RunRequest(RunName("a-run"), "training", {})


def refused(system: str, operation: str) -> float:
    labels = {"system": system, "operation": operation}
    return metrics.REGISTRY.get_sample_value("pelagos_fenced_calls_total", labels) or 0.0


def members(protocol: Any) -> set[str]:
    return {name for name, _ in inspect.getmembers(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("port", sorted(LOOKING))
def test_every_method_of_every_port_is_known_to_change_something_or_not(port: str) -> None:
    protocol = get_type_hints(Dependencies)[port]

    assert members(protocol) == LOOKING[port] | fencing.CHANGES[port]
    assert not LOOKING[port] & fencing.CHANGES[port]


def test_every_port_of_the_world_is_fenced() -> None:
    assert {field.name for field in fields(Dependencies)} - NO_PORTS == fencing.CHANGES.keys()


async def test_a_leader_may_change_and_look() -> None:
    engine = PipelinesFake()
    port = fencing.fenced(engine, "pipelines", LeadershipFake(leads=True))

    await port.submit(REQUEST)

    assert (await port.find(REQUEST.name)) is not None


async def test_who_does_not_lead_may_only_look_and_refusals_are_counted() -> None:
    engine = PipelinesFake()
    port = fencing.fenced(engine, "pipelines", LeadershipFake())
    before = refused("pipelines", "submit")

    with pytest.raises(NotLeadingError, match=r"pipelines\.submit was not done"):
        await port.submit(REQUEST)

    assert await port.find(REQUEST.name) is None
    assert not engine.runs
    assert refused("pipelines", "submit") == before + 1


async def test_leadership_is_asked_at_every_call() -> None:
    engine, leadership = PipelinesFake(), LeadershipFake(leads=True)
    port = fencing.fenced(engine, "pipelines", leadership)
    await port.submit(REQUEST)

    leadership.leads = False
    with pytest.raises(NotLeadingError):
        await port.cancel(REQUEST.name)
    leadership.leads = True
    await port.cancel(REQUEST.name)
