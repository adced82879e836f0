"""When a failed publication is tried again, and what a decision about one never does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NOW, dataset_spec, make_dataset_observed, make_run, preparation_result
from described_datasets import FULL
from pelagos.api.dataset import Publication
from pelagos.decisions import dataset, moments
from pelagos.decisions.dataset import observed, publication
from pelagos.decisions.effects import SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.pipelines import RunName, RunState

ZENODO = {"zenodo": {"secretRef": {"name": "zenodo"}}}


def failed(reason: str, *, stuck: timedelta = timedelta(), ago: float = 0.0, **fields: Any) -> observed.Observed:
    """A Dataset whose publication failed ``ago`` seconds ago, and has been stuck for the time ``stuck``."""
    seen = make_dataset_observed(
        run=make_run(RunState.SUCCEEDED),
        report=Report(result=preparation_result()),
        spec=dataset_spec(metadata=FULL, publish=ZENODO, **fields),
    )
    key = submitted(seen)
    run = make_run(RunState.FAILED, name=RunName("publishes"), retry_key=key, finished_at=NOW - timedelta(seconds=ago))
    known = Publication(stuck_since=moments.timestamp(NOW - stuck))
    report = Report(failure={"reason": reason, "message": "no"})
    return replace(seen, publishing=observed.Publishing(run=run, report=report, known=known, now=NOW))


def submitted(seen: observed.Observed) -> str:
    """The retry key of the submitted run."""
    decision = dataset.decide(seen)
    (effect,) = [each for each in decision.effects if isinstance(each, SubmitRun)]
    assert effect.aside == "Published"
    return effect.request.retry_key


@pytest.mark.parametrize(
    ("reason", "stuck", "seconds"),
    [
        ("RepositorySecretIncomplete", timedelta(), 60),
        ("RepositoryAway", timedelta(), 600),
        ("RepositoryAccessDenied", timedelta(), 3600),
        ("OfANewerOne", timedelta(), 3600),
        ("RepositoryAway", timedelta(hours=12), 1800),
        ("RepositoryAway", timedelta(days=1), 3600),
        ("PublicationRefused", timedelta(days=10), 36_000),
        ("RepositorySecretIncomplete", timedelta(days=365), 86_400),
    ],
)
def test_it_is_tried_again_the_later_the_longer_it_is_stuck(reason: str, stuck: timedelta, seconds: float) -> None:
    assert publication.pause(failed(reason, stuck=stuck)) == seconds
    waits = failed(reason, stuck=stuck, ago=seconds - 1)
    assert not [each for each in dataset.decide(waits).effects if isinstance(each, SubmitRun)]
    before = failed(reason, stuck=stuck, ago=seconds).publishing.run
    assert before is not None
    assert submitted(failed(reason, stuck=stuck, ago=seconds)).startswith(f"{before.retry_key}@")


def test_another_description_is_tried_at_once() -> None:
    seen = failed("PublicationRefused", stuck=timedelta(days=10))
    assert seen.spec.metadata is not None
    said = seen.spec.metadata.model_copy(update={"title": "Another title"})

    key = submitted(replace(seen, spec=seen.spec.model_copy(update={"metadata": said})))

    assert seen.publishing.run is not None
    assert key != seen.publishing.run.retry_key
    assert "@" not in key


def test_whatever_becomes_of_it_the_dataset_is_ready() -> None:
    decision = dataset.decide(failed("PublicationRefused"))

    (verdict,) = [each for each in decision.verdicts if each.type == "Published"]
    assert (verdict.state, verdict.is_aside) == (ConditionState.REFUSED, True)
    assert summary(decision).state is ConditionState.DONE
