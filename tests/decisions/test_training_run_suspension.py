"""spec.suspend ends a training in progress and leaves finished ones alone; resuming continues it."""

from __future__ import annotations

import pytest

import builders
from builders import frozen_inputs, make_run, make_tracked, make_training_observed, trained
from pelagos.decisions import training_run
from pelagos.decisions.effects import CancelRun, SetOutcome, SubmitRun
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.pipelines import RunState
from pelagos.ports.tracking import Outcome

SUSPENDED = builders.training_run_spec(suspend=True)


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING])
def test_a_run_in_progress_is_ended_everywhere(state: RunState) -> None:
    seen = make_training_observed(spec=SUSPENDED, frozen=frozen_inputs(), tracked=make_tracked(), run=make_run(state))
    assert seen.run is not None

    decision = training_run.decide(seen)

    assert decision.effects == (CancelRun(seen.run.name), SetOutcome("t1", Outcome.KILLED))
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.PAUSED, "Suspended")
    assert decision.status["dataset"]["version"] == builders.VERSION


def test_before_the_start_nothing_is_made() -> None:
    decision = training_run.decide(make_training_observed(spec=SUSPENDED))

    assert (decision.effects, decision.status, decision.recheck_after) == ((), {}, None)


def test_a_suspended_run_is_left_alone_once_it_has_ended() -> None:
    tracked = make_tracked(outcome=Outcome.KILLED)
    seen = make_training_observed(
        spec=SUSPENDED, frozen=frozen_inputs(), tracked=tracked, run=make_run(RunState.CANCELED)
    )

    assert training_run.decide(seen).effects == ()


def test_resuming_starts_the_next_attempt_and_the_tracked_run_goes_on() -> None:
    tracked = make_tracked(outcome=Outcome.KILLED)
    seen = make_training_observed(frozen=frozen_inputs(), tracked=tracked, run=make_run(RunState.CANCELED))

    submit, outcome = training_run.decide(seen).effects

    assert isinstance(submit, SubmitRun)
    assert submit.request.attempt == 2
    assert outcome == SetOutcome("t1", Outcome.RUNNING)


def test_a_finished_training_is_not_affected() -> None:
    usual, suspended = (
        trained(version=builders.model_version()),
        trained(spec=SUSPENDED, version=builders.model_version()),
    )

    assert training_run.decide(suspended) == training_run.decide(usual)


def test_a_training_whose_result_was_lost_is_not_started_again_while_suspended() -> None:
    seen = make_training_observed(
        spec=SUSPENDED, frozen=frozen_inputs(), tracked=make_tracked(), run=make_run(RunState.SUCCEEDED)
    )

    decision = training_run.decide(seen)

    assert not any(isinstance(effect, SubmitRun) for effect in decision.effects)
    assert summary(decision).state is ConditionState.PAUSED
