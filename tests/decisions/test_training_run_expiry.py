"""A finished TrainingRun is deleted when spec.ttlSecondsAfterFinished says so, and not before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import NOW, make_run, make_tracked, model_version, trained
from pelagos.decisions import training_run
from pelagos.decisions.effects import DeleteResource
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import Decision
from pelagos.ports.pipelines import RunState
from pelagos.ports.tracking import Outcome

HOUR_LATER = NOW + timedelta(hours=1)


def decide(*, seconds: int | None = 3600, **changes: Any) -> Decision:
    """The decision an hour later for a registered run that ended at NOW."""
    spec = builders.training_run_spec(ttlSecondsAfterFinished=seconds)
    usual: dict[str, Any] = {"spec": spec, "version": model_version(), "now": HOUR_LATER}
    return training_run.decide(trained(**usual | changes))


def goes(decision: Decision) -> bool:
    return any(isinstance(effect, DeleteResource) for effect in decision.effects)


def test_it_goes_when_its_time_is_up_by_name_and_uid() -> None:
    (effect,) = decide().effects

    assert isinstance(effect, DeleteResource)
    assert (effect.key.kind, effect.key.name, effect.uid) == ("TrainingRun", "detector", "uid-2")
    assert effect.why == "it had been over for 3600 s (spec.ttlSecondsAfterFinished)"


def test_before_that_it_stays_and_is_looked_at_in_time() -> None:
    decision = decide(now=NOW + timedelta(minutes=10))

    assert not goes(decision)
    assert decision.recheck_after == 50 * 60


def test_zero_deletes_at_once_and_nothing_never() -> None:
    assert goes(decide(seconds=0, now=NOW))
    assert not goes(decide(seconds=None, now=NOW + timedelta(days=3650)))


def test_one_that_failed_goes_as_well() -> None:
    failed = make_run(RunState.FAILED, attempt=3, attempts_with_key=3)
    tracked = make_tracked(outcome=Outcome.FAILED)

    assert goes(decide(run=failed, tracked=tracked, report=Report(), version=None))


def test_one_that_does_not_pass_its_gates_goes_as_well() -> None:
    spec = builders.training_run_spec(ttlSecondsAfterFinished=3600, gates=[{"metric": "test/mAP50", "minimum": "0.99"}])

    assert goes(decide(spec=spec, version=None))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None},
        {"version": None, "registry_outage": "connection refused"},
        {"run": make_run(RunState.RUNNING), "report": Report(), "version": None},
        {"run": make_run(RunState.FAILED), "report": Report(), "version": None},
    ],
    ids=["yet to be registered", "registry away", "runs", "another attempt is due"],
)
def test_what_is_not_over_stays_however_long_it_takes(changes: dict[str, Any]) -> None:
    assert not goes(decide(**changes))


def test_one_that_serves_stays_until_nobody_refers_to_it() -> None:
    decision = decide(served_by=frozenset({"detector"}))

    assert not goes(decision)
    assert decision.recheck_after is not None
    assert goes(decide(served_by=frozenset()))


def test_one_that_found_its_result_on_record_stays_lest_a_gitops_tool_makes_it_for_ever() -> None:
    assert not goes(decide(run=None))
