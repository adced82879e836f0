"""Ready means that a real inference was made and its answer was right."""

from __future__ import annotations

import pytest

import builders
from builders import RIGHT, WRONG, make_service, make_service_observed
from pelagos.decisions import model_service
from pelagos.decisions.effects import RestartService
from pelagos.decisions.model_service import conditions
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.serving import ServiceState

LOADED = make_service(ServiceState.LOADED)


def test_a_loaded_model_is_not_ready_before_it_has_answered() -> None:
    decision = model_service.decide(make_service_observed(service=LOADED))

    assert builders.conditions(decision)["ModelLoaded"] == ("Done", "Loaded")
    assert builders.conditions(decision)["Probed"] == ("Progressing", "Probing")
    assert summary(decision).state is ConditionState.PROGRESSING


def test_a_right_answer_makes_it_ready() -> None:
    decision = model_service.decide(make_service_observed(service=LOADED, probe=RIGHT))

    assert builders.conditions(decision)["Probed"] == ("Done", "ProbeSucceeded")
    assert (summary(decision).state, summary(decision).message) == (ConditionState.DONE, "serving TrainingRun detector")
    assert decision.status["model"]["onnxSha256"] == builders.ONNX
    assert decision.recheck_after == conditions.WATCH


@pytest.mark.parametrize(("wrong", "restarts"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_server_that_answers_wrong_three_times_is_started_anew(wrong: int, restarts: bool) -> None:
    decision = model_service.decide(make_service_observed(service=LOADED, probe=WRONG, wrong_probes=wrong))

    assert decision.effects == ((RestartService("uid-3"),) if restarts else ())
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.FAILING, "ProbeFailed")
    assert "1 box, and 3 were expected" in summary(decision).message
