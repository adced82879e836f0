"""One tracked run per TrainingRun: created before the pipeline, updated when it ends, and never an obstacle to a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import builders
from builders import frozen_inputs, make_run, make_tracked, make_training_observed, trained
from pelagos.api import reasons
from pelagos.decisions import training_run
from pelagos.decisions.effects import CreateTrackedRun, SetOutcome, SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import summary
from pelagos.ports.pipelines import RunState
from pelagos.ports.tracking import Outcome

OUTAGE = "tracking: connection refused"
REFUSED = Report(failure={"reason": "TrainingDiverged", "message": "the loss became NaN"})


def outcomes(decision: Any) -> list[Outcome]:
    return [effect.outcome for effect in decision.effects if isinstance(effect, SetOutcome)]


def test_the_tracked_run_is_made_before_the_pipeline_starts() -> None:
    decision = training_run.decide(make_training_observed())

    (effect,) = decision.effects
    assert isinstance(effect, CreateTrackedRun)
    assert (effect.want.uid, effect.want.name, effect.want.experiment) == ("uid-2", "detector", "default/frames")
    assert decision.recheck_after == 0


def test_the_experiment_is_the_one_that_spec_names() -> None:
    spec = builders.training_run_spec(tracking={"experiment": "plankton"})

    (effect,) = training_run.decide(make_training_observed(spec=spec)).effects

    assert isinstance(effect, CreateTrackedRun)
    assert effect.want.experiment == "plankton"


def test_its_id_is_handed_down_to_the_pipeline() -> None:
    (effect,) = training_run.decide(make_training_observed(frozen=frozen_inputs(), tracked=make_tracked())).effects

    assert isinstance(effect, SubmitRun)
    assert effect.request.parameters["tracking_run"] == "t1"
    assert effect.request.parameters["tracking_uri"] == "http://tracking"


def test_without_a_tracking_server_nothing_is_launched() -> None:
    decision = training_run.decide(make_training_observed(frozen=frozen_inputs(), tracking_outage=OUTAGE))

    assert builders.conditions(decision)["Tracked"] == ("Unknown", "TrackingUnavailable")
    assert decision.effects == ()
    assert decision.recheck_after == 5


def test_nothing_is_frozen_while_the_tracking_server_may_know_of_an_earlier_freeze() -> None:
    decision = training_run.decide(make_training_observed(tracking_outage=OUTAGE))

    assert decision.status == {}


def test_a_training_goes_on_while_the_tracking_server_is_away() -> None:
    seen = make_training_observed(frozen=frozen_inputs(), tracking_outage=OUTAGE, run=make_run(RunState.RUNNING))

    decision = training_run.decide(seen)

    assert builders.conditions(decision)["Tracked"] == ("Noted", "TrackingUnavailable")
    assert builders.conditions(decision)["Evaluated"] == ("Progressing", "Running")


@pytest.mark.parametrize("reason", [None, reasons.UNSCHEDULABLE, reasons.REQUEST_TOO_LARGE])
def test_a_run_that_waits_has_not_failed_whatever_it_waits_for(reason: reasons.Reason | None) -> None:
    run = replace(make_run(RunState.PENDING, message="the cluster's words"), reason=reason)

    assert (
        outcomes(training_run.decide(make_training_observed(frozen=frozen_inputs(), tracked=make_tracked(), run=run)))
        == []
    )


def test_an_attempt_waits_for_the_tracking_server() -> None:
    run = make_run(RunState.INTERRUPTED, finished_at=None)
    seen = make_training_observed(frozen=frozen_inputs(), tracking_outage=OUTAGE, run=run)

    decision = training_run.decide(seen)

    assert decision.effects == ()
    assert decision.recheck_after == 5


def test_a_tracked_run_that_a_person_deleted_is_made_again_before_the_next_attempt() -> None:
    run = make_run(RunState.INTERRUPTED, finished_at=None)

    decision = training_run.decide(make_training_observed(frozen=frozen_inputs(), run=run))

    assert [type(effect) for effect in decision.effects] == [CreateTrackedRun]
    assert decision.recheck_after == 0


def test_a_tracked_run_that_a_person_deleted_does_not_disturb_a_training_that_goes_on() -> None:
    decision = training_run.decide(make_training_observed(frozen=frozen_inputs(), run=make_run(RunState.RUNNING)))

    assert builders.conditions(decision)["Tracked"] == ("Noted", "TrackedRunMissing")
    assert decision.effects == ()


@pytest.mark.parametrize(
    ("run", "report", "want"),
    [
        pytest.param(make_run(RunState.RUNNING), Report(), Outcome.RUNNING, id="running"),
        pytest.param(make_run(RunState.INTERRUPTED), Report(), Outcome.RUNNING, id="interrupted-and-going-on"),
        pytest.param(make_run(RunState.FAILED), REFUSED, Outcome.FAILED, id="refused"),
        pytest.param(
            make_run(RunState.FAILED, attempt=3, attempts_with_key=3), Report(), Outcome.FAILED, id="given-up"
        ),
        pytest.param(
            make_run(RunState.SUCCEEDED), Report(result=builders.training_result()), Outcome.FINISHED, id="done"
        ),
    ],
)
def test_it_tells_the_same_as_the_pipeline_run(run: Any, report: Report, want: Outcome) -> None:
    other = Outcome.KILLED
    tells_so, tells_else = (
        training_run.decide(
            make_training_observed(
                frozen=frozen_inputs(), tracked=make_tracked(outcome=outcome), run=run, report=report
            )
        )
        for outcome in (want, other)
    )

    assert outcomes(tells_so) == []
    assert outcomes(tells_else) == [want]


def test_a_model_that_misses_a_gate_is_a_finished_training() -> None:
    result = builders.training_result(mAP50=0.1)

    decision = training_run.decide(trained(report=Report(result=result), tracked=make_tracked()))

    assert outcomes(decision) == [Outcome.FINISHED]


@pytest.mark.parametrize("register", [None, {"model": "detector"}], ids=["nowhere", "registered"])
def test_a_run_that_is_done_comes_back_until_the_tracking_server_knows_it(register: builders.Yaml | None) -> None:
    spec = builders.training_run_spec(register=register)
    version = builders.model_version() if register else None

    away = training_run.decide(trained(spec=spec, version=version, tracked=None, tracking_outage=OUTAGE))
    back = training_run.decide(trained(spec=spec, version=version))

    assert summary(away).reason == "Completed"
    assert (away.recheck_after, back.recheck_after) == (5, None)


def test_a_suspended_run_comes_back_until_the_tracking_server_knows_it() -> None:
    spec = builders.training_run_spec(suspend=True)
    seen = make_training_observed(spec=spec, frozen=frozen_inputs(), tracking_outage=OUTAGE)

    assert training_run.decide(seen).recheck_after == 5
