"""A Dataset says how FAIR its newest version is, and whether that is enough to publish it; training needs none of that."""

from __future__ import annotations

from typing import Any

from builders import dataset_spec, make_dataset_observed, make_run, preparation_result
from described_datasets import FULL
from pelagos.decisions import dataset
from pelagos.decisions.dataset import observed
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, summary
from pelagos.ports.pipelines import RunState


def prepared(**fields: Any) -> observed.Observed:
    run = make_run(RunState.SUCCEEDED)
    return make_dataset_observed(run=run, report=Report(result=preparation_result()), spec=dataset_spec(**fields))


def verdict(decision: Decision) -> Verdict:
    (found,) = [each for each in decision.verdicts if each.type == "FairPassed"]
    return found


def test_the_score_is_published_whether_or_not_somebody_asks_for_one() -> None:
    decision = dataset.decide(prepared())

    assert decision.status["fair"]["score"] < 20
    assert "RDA-R1.1-01M" in decision.status["fair"]["failed"]
    assert (verdict(decision).state, verdict(decision).reason) == (ConditionState.DONE, "FairEnough")


def test_a_version_that_is_not_fair_enough_is_trained_on_and_not_published() -> None:
    seen = prepared(fair={"minScore": 60})
    decision = dataset.decide(seen)

    found = verdict(decision)
    assert (found.state, found.reason) == (ConditionState.NOTED, "FairScoreTooLow")
    assert "spec.fair.minScore is 60" in found.message
    assert "publish it" in found.message
    assert summary(decision).state is ConditionState.DONE


def test_words_alone_make_it_pass_without_another_run() -> None:
    seen = prepared(fair={"minScore": 60}, metadata=FULL)
    decision = dataset.decide(seen)

    assert verdict(decision).reason == "FairEnough"
    assert decision.status["fair"]["score"] >= 60
    assert not [effect for effect in decision.effects if type(effect).__name__ == "SubmitRun"]


def test_a_score_is_rounded_down_and_the_bound_itself_is_enough() -> None:
    score = dataset.decide(prepared(metadata=FULL)).status["fair"]["score"]

    for least, reason in ((score, "FairEnough"), (score + 1, "FairScoreTooLow")):
        decision = dataset.decide(prepared(metadata=FULL, fair={"minScore": least}))
        assert verdict(decision).reason == reason


def test_before_there_is_a_version_nothing_is_judged() -> None:
    decision = dataset.decide(make_dataset_observed(spec=dataset_spec(fair={"minScore": 60})))

    assert "fair" not in decision.status
    assert not [each for each in decision.verdicts if each.type == "FairPassed"]
