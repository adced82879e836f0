"""spec.suspend ends what runs for a Dataset, and keeps its versions."""

from __future__ import annotations

import builders
from builders import make_dataset_observed, make_run
from pelagos.decisions import dataset
from pelagos.decisions.effects import CancelRun, SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.pipelines import RunState

SUSPENDED = builders.dataset_spec(suspend=True)


def test_a_run_in_progress_is_ended() -> None:
    seen = make_dataset_observed(spec=SUSPENDED, run=make_run(RunState.RUNNING))
    assert seen.run is not None

    decision = dataset.decide(seen)

    assert decision.effects == (CancelRun(seen.run.name),)
    assert summary(decision).state is ConditionState.PAUSED
    assert "set it to false" in summary(decision).message


def test_nothing_is_started() -> None:
    decision = dataset.decide(make_dataset_observed(spec=SUSPENDED))

    assert decision.effects == ()
    assert decision.recheck_after is None


def test_what_was_published_stays() -> None:
    report = Report(result=builders.preparation_result())
    decision = dataset.decide(make_dataset_observed(spec=SUSPENDED, run=make_run(RunState.SUCCEEDED), report=report))

    assert decision.status == {}
    assert decision.effects == ()


def test_a_run_that_was_ended_by_suspension_is_started_again_at_once_when_resumed() -> None:
    decision = dataset.decide(make_dataset_observed(run=make_run(RunState.CANCELED)))

    (effect,) = decision.effects
    assert isinstance(effect, SubmitRun)
    assert effect.request.attempt == 2
    assert builders.conditions(decision)["Prepared"] == ("Progressing", "Retrying")
