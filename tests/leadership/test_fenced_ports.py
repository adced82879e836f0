"""Writes are refused unless this operator leads; reads are not."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, cast, get_type_hints

import pytest

from pelagos.observability import calls, metrics
from pelagos.ports.fakes.leadership import LeadershipFake
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.leadership import NotLeadingError
from pelagos.ports.marks import mutating_methods
from pelagos.ports.pipelines import Pipelines, RunName, RunRequest, RunState
from pelagos.reconcilers.dependencies import PORTS, Dependencies

LOOKING = {
    "pipelines": {"find", "find_owned", "owned"},
    "tracking": {"uri", "get_run", "find_runs", "owned"},
    "registry": {"find_by_uid", "find_by_alias", "find_by_version", "owner", "owned"},
    "serving": {"observe", "probe", "owned"},
    "objects": {"uri", "path", "names", "read_json", "read_bytes", "exists", "written_at"},
    "volumes": {"root", "fingerprint"},
    "tenants": {"find"},
    "cluster": {"read", "list"},
}
NO_PORTS = {"clock", "cache", "probes", "authority", "gateway", "hub_key"}
REQUEST = RunRequest(RunName("a-run"), "training", {})


def refused(system: str, operation: str) -> float:
    labels = {"system": system, "operation": operation}
    return metrics.REGISTRY.get_sample_value("pelagos_fenced_calls_total", labels) or 0.0


def fenced(engine: PipelinesFake, leadership: LeadershipFake) -> Pipelines:
    return calls.wrapped(cast("Pipelines", engine), Pipelines, name="pipelines", require=calls.guard(leadership))


def members(protocol: Any) -> set[str]:
    return {name for name, _ in inspect.getmembers(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("port", sorted(LOOKING))
def test_every_method_of_every_port_is_known_to_change_something_or_not(port: str) -> None:
    changing = mutating_methods(PORTS[port])

    assert members(PORTS[port]) == LOOKING[port] | changing
    assert not LOOKING[port] & changing


def test_every_port_is_wrapped() -> None:
    hints = get_type_hints(Dependencies)
    assert {name: hints[name] for name in hints.keys() - NO_PORTS} == PORTS


async def test_a_leader_may_change_and_look() -> None:
    engine = PipelinesFake()
    port = fenced(engine, LeadershipFake(leads=True))

    await port.submit(REQUEST)

    assert (await port.find(REQUEST.name)) is not None


async def test_who_does_not_lead_may_only_look_and_refusals_are_counted() -> None:
    engine = PipelinesFake()
    port = fenced(engine, LeadershipFake())
    before = refused("pipelines", "submit")

    with pytest.raises(NotLeadingError, match=r"pipelines\.submit was not done"):
        await port.submit(REQUEST)

    assert await port.find(REQUEST.name) is None
    assert not engine.runs
    assert refused("pipelines", "submit") == before + 1


async def test_a_method_that_only_returns_something_to_await_is_refused_as_well() -> None:
    class Delegating:
        def __init__(self, engine: PipelinesFake) -> None:
            self._engine = engine

        def cancel(self, name: RunName) -> Awaitable[None]:
            return self._engine.cancel(name)

    engine, leadership = PipelinesFake(), LeadershipFake()
    await engine.submit(REQUEST)
    port = fenced(cast("PipelinesFake", Delegating(engine)), leadership)

    with pytest.raises(NotLeadingError):
        await port.cancel(REQUEST.name)
    running = await engine.find(REQUEST.name)
    leadership.leads = True
    await port.cancel(REQUEST.name)

    canceled = await engine.find(REQUEST.name)
    assert running is not None
    assert running.state is not RunState.CANCELED
    assert canceled is not None
    assert canceled.state is RunState.CANCELED


async def test_leadership_is_asked_at_every_call() -> None:
    engine, leadership = PipelinesFake(), LeadershipFake(leads=True)
    port = fenced(engine, leadership)
    await port.submit(REQUEST)

    leadership.leads = False
    with pytest.raises(NotLeadingError):
        await port.cancel(REQUEST.name)
    leadership.leads = True
    await port.cancel(REQUEST.name)
