"""A Dataset first needs its source; a corrected source is noticed without telling the operator."""

from __future__ import annotations

import pytest

import builders
from builders import make_dataset_observed, make_run
from pelagos.decisions import dataset
from pelagos.decisions.dataset import source
from pelagos.decisions.effects import CancelRun
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.pipelines import RunName, RunState
from pelagos.ports.volumes import Fingerprint


def test_a_missing_source_is_waited_for_and_told_with_field_value_and_next_step() -> None:
    decision = dataset.decide(make_dataset_observed(fingerprint=None))

    (verdict,) = decision.verdicts
    assert (verdict.type, verdict.state, verdict.reason) == ("SourceResolved", ConditionState.WAITING, "SourceNotFound")
    assert 'spec.source.volume.path: "samples/frames" does not exist yet on the data volume (/data)' in verdict.message
    assert "Put the images there, or correct the path" in verdict.message
    assert decision.recheck_after == source.SOURCE_POLL
    assert decision.effects == ()


def test_nothing_is_started_for_a_folder_without_files_which_may_be_about_to_be_uploaded() -> None:
    decision = dataset.decide(make_dataset_observed(fingerprint=Fingerprint("sha256:nothing", 0)))

    assert builders.conditions(decision) == {"SourceResolved": ("Waiting", "SourceEmpty")}
    assert (decision.effects, decision.recheck_after) == ((), source.SOURCE_POLL)


def test_a_source_that_the_volume_refuses_is_refused_in_its_words() -> None:
    seen = make_dataset_observed(fingerprint=None, source_error="spec.source.volume.path: a link leads out")

    decision = dataset.decide(seen)

    assert builders.conditions(decision) == {"SourceResolved": ("Refused", "SourceRejected")}
    assert decision.verdicts[0].message == "spec.source.volume.path: a link leads out"
    assert decision.recheck_after == source.SOURCE_POLL


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"source": {"volume": {"path": "../etc"}}}, "spec.source.volume.path", id="path-leaves-volume"),
        pytest.param({"source": {"volume": {"path": "/etc"}}}, "'/etc'", id="absolute-path"),
        pytest.param({"split": {"ratios": {"train": 71}}}, "spec.split.ratios", id="ratios-beyond-100"),
    ],
)
def test_a_rule_across_fields_is_refused_before_anything_is_looked_at(spec: builders.Yaml, want: str) -> None:
    decision = dataset.decide(make_dataset_observed(spec=builders.dataset_spec(**spec), fingerprint=None))

    assert builders.conditions(decision) == {"SourceResolved": ("Refused", "InvalidSpec")}
    assert want in decision.verdicts[0].message


@pytest.mark.parametrize("changes", [{}, {"fingerprint": None}, {"spec": builders.dataset_spec(suspend=True)}])
def test_runs_for_earlier_inputs_are_ended_whatever_the_source_is_now(changes: builders.Yaml) -> None:
    old = tuple(make_run(RunState.RUNNING, name=RunName(name)) for name in ("dataset-1", "dataset-2"))

    decision = dataset.decide(make_dataset_observed(superseded=old, **changes))

    cancelled = [effect for effect in decision.effects if isinstance(effect, CancelRun)]
    assert cancelled == [CancelRun(RunName("dataset-1")), CancelRun(RunName("dataset-2"))]


def test_the_summary_tells_why_the_source_stands_in_the_way() -> None:
    ready = summary(dataset.decide(make_dataset_observed(fingerprint=None)))

    assert (ready.type, ready.state, ready.reason) == ("Ready", ConditionState.WAITING, "SourceNotFound")
