"""Gates judge the figures of the test split; a model that misses one is not Ready and not registered."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from builders import dataset_seen, make_training_observed, trained, training_result, training_run_spec
from pelagos.decisions import training_run
from pelagos.decisions.effects import RegisterModel
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity
from pelagos.decisions.verdicts import ConditionState, Decision, summary


def decide(*gates: tuple[str, str], **metrics: float | None) -> Decision:
    spec = training_run_spec(gates=[{"metric": metric, "minimum": minimum} for metric, minimum in gates])
    return training_run.decide(trained(spec=spec, report=Report(result=training_result(**metrics))))


@pytest.mark.parametrize(
    ("value", "passed"),
    [(0.8, True), (0.5, True), (0.4999999, False), (0.0, False), (float("nan"), False)],
    ids=["above", "equal", "just-below", "zero", "not-a-number"],
)
def test_a_gate_passes_from_its_minimum_on(value: float, passed: bool) -> None:
    decision = decide(("test/mAP50", "0.5"), mAP50=value)

    (gate,) = decision.status["gates"]
    assert gate["passed"] is passed
    assert builders.conditions(decision)["GatesPassed"][0] == ("Done" if passed else "Refused")


def test_the_outcome_of_every_gate_is_published_with_its_value() -> None:
    decision = decide(("test/mAP50", "0.5"), ("test/mAP50-95", "0.9"))

    assert decision.status["gates"] == [
        {"metric": "test/mAP50", "minimum": "0.5", "passed": True, "value": "0.8000"},
        {"metric": "test/mAP50-95", "minimum": "0.9", "passed": False, "value": "0.4000"},
    ]


def test_a_missed_gate_names_the_gate_value_minimum_and_next_step() -> None:
    decision = decide(("test/mAP50", "0.5"), ("test/mAP50-95", "0.9"))

    assert summary(decision).reason == "GateFailed"
    assert summary(decision).message == (
        "spec.gates[1]: test/mAP50-95 is 0.4000, the minimum is 0.9. "
        "Correct spec.gates, or train a better model as a new TrainingRun"
    )


def test_an_unknown_metric_lists_those_that_there_are() -> None:
    decision = decide(("test/mAp50", "0.5"))

    assert summary(decision).reason == "GateMetricUnknown"
    assert summary(decision).message.startswith(
        "spec.gates[0].metric: the run has no metric test/mAp50 (did you mean 'test/mAP50' or 'test/mAP50-95'?); it has "
        "test/mAP50, test/mAP50-95. "
    )
    assert decision.status["gates"] == [{"metric": "test/mAp50", "minimum": "0.5", "passed": False}]


def test_an_undefined_metric_does_not_pass_and_says_why() -> None:
    decision = decide(("test/mAP50", "0"), mAP50=None)

    assert summary(decision).reason == "GateMetricUnknown"
    assert summary(decision).message.startswith(
        "spec.gates[0].metric: test/mAP50 is undefined, because the test split has nothing to compute it from"
    )
    assert decision.status["metrics"] == {"test/mAP50-95": "0.4000"}
    assert decision.status["gates"] == [{"metric": "test/mAP50", "minimum": "0", "passed": False}]


def test_a_gate_may_judge_a_single_class() -> None:
    assert summary(decide(("test/mAP50/copepod", "0.7"))).state is not ConditionState.REFUSED


def test_a_class_that_is_named_otherwise_is_judged_by_none_and_its_like_are_listed() -> None:
    decision = decide(("test/mAP50/a/b", "0.1"), **{"mAP50/a:2Fb": 0.9, "mAP50/a_b": 0.9, "recall/a_b": 0.9})

    assert summary(decision).reason == "GateMetricUnknown"
    message = summary(decision).message
    assert "no metric test/mAP50/a/b (did you mean 'test/mAP50/a_b' or" in message
    assert "?); it has test/mAP50/a:2Fb, test/mAP50/a_b, test/mAP50/copepod. " in message


def test_of_many_classes_some_are_listed() -> None:
    decision = decide(("test/mAP50/unknown", "0.1"), **{f"mAP50/species {number:03}": 0.9 for number in range(100)})

    assert "species 018 and 81 more. " in summary(decision).message


def test_what_a_reader_should_know_of_the_figures_is_in_the_status() -> None:
    result = training_result() | {"warnings": ["1 of 3 classes have no annotation in the test split"]}
    decision = training_run.decide(trained(spec=training_run_spec(), report=Report(result=result)))

    assert decision.status["warnings"] == ["1 of 3 classes have no annotation in the test split"]
    assert decide().status["warnings"] is None, "a result of before has none"


def test_every_missed_gate_is_told_at_once() -> None:
    message = summary(decide(("test/mAP50", "0.9"), ("test/mAP50-95", "0.9"))).message

    assert "spec.gates[0]" in message
    assert "spec.gates[1]" in message


def test_without_gates_every_model_passes() -> None:
    assert builders.conditions(decide())["GatesPassed"] == ("Done", "GatesPassed")


def test_a_missed_gate_registers_nothing_and_ends_the_run_as_failed() -> None:
    decision = decide(("test/mAP50", "0.9"))

    assert not any(isinstance(effect, RegisterModel) for effect in decision.effects)
    assert builders.conditions(decision)["Succeeded"] == ("Refused", "GateFailed")
    assert builders.conditions(decision)["Evaluated"] == ("Done", "Evaluated")


def test_lowering_the_gate_of_a_finished_training_lets_it_pass() -> None:
    assert summary(decide(("test/mAP50", "0.7"))).state is not ConditionState.REFUSED


def test_figures_model_and_primary_metric_are_published() -> None:
    status: Any = decide().status

    assert status["metrics"] == {"test/mAP50": "0.8000", "test/mAP50-95": "0.4000"}
    assert status["primaryMetric"] == "mAP50 0.800"
    assert status["model"] == {
        "uri": "/objects/model",
        "onnxSha256": builders.ONNX,
        "manifestSha256": builders.MANIFEST,
    }


@pytest.mark.parametrize(
    ("metrics", "want"),
    [({"test/accuracy": 0.91}, "accuracy 0.910"), ({"test/loss": 1.0}, "no figure")],
)
def test_the_primary_metric_is_the_figure_that_a_table_has_room_for(metrics: dict[str, float], want: str) -> None:
    result = training_result() | {"metrics": metrics}
    decision = training_run.decide(trained(spec=training_run_spec(gates=[]), report=Report(result=result)))

    assert decision.status["primaryMetric"] == want


def judged(gate: dict[str, Any], **metrics: float | None) -> Decision:
    result = training_result(**metrics)
    result["metrics"] |= {"export/difference": 0.002, "test/mAP50/Acartia :28Acanthacartia:29 tonsa": 0.61}
    result |= {
        "intervals": {"test/mAP50/Acartia :28Acanthacartia:29 tonsa": {"low": 0.52, "high": 0.7}},
        "resampling": {"by": "image", "groups": 40, "level": 0.95, "samples": 1000},
    }
    return training_run.decide(trained(spec=training_run_spec(gates=[gate]), report=Report(result=result)))


@pytest.mark.parametrize(
    ("maximum", "passed"), [("0.01", True), ("0.002", True), ("0.0019", False)], ids=["below", "equal", "above"]
)
def test_a_gate_passes_up_to_its_maximum(maximum: str, passed: bool) -> None:
    decision = judged({"metric": "export/difference", "maximum": maximum})

    (gate,) = decision.status["gates"]
    assert gate == {"metric": "export/difference", "maximum": maximum, "value": "0.0020", "passed": passed}


def test_a_metric_above_its_maximum_says_so_and_what_would_not_help() -> None:
    message = summary(judged({"metric": "export/difference", "maximum": "0.001"})).message

    assert message.startswith(
        "spec.gates[0]: export/difference is 0.0020, the maximum is 0.001; other data would not help"
    )


def test_a_small_value_is_told_with_the_digits_that_tell_it_from_its_bound() -> None:
    result = training_result()
    result["metrics"] |= {"export/difference": 0.0000123}
    spec = training_run_spec(gates=[{"metric": "export/difference", "maximum": "1e-5"}])
    decision = training_run.decide(trained(spec=spec, report=Report(result=result)))

    assert "export/difference is 1.23e-05, the maximum is 1e-5; " in summary(decision).message


def test_both_bounds_on_one_metric_are_two_gates_that_are_judged_apart() -> None:
    spec = training_run_spec(gates=[{"metric": "mAP50", "minimum": "0.5"}, {"metric": "mAP50", "maximum": "0.7"}])
    decision = training_run.decide(trained(spec=spec))

    assert [gate["passed"] for gate in decision.status["gates"]] == [True, False]
    assert "spec.gates[1]: test/mAP50 is 0.8000, the maximum is 0.7. " in summary(decision).message


@pytest.mark.parametrize(
    ("metric", "label"), [("mAP50", "copepod"), ("test/mAP50", "copepod"), ("test/mAP50/copepod", None)]
)
def test_a_class_is_named_beside_the_metric_or_in_its_whole_name(metric: str, label: str | None) -> None:
    decision = judged({"metric": metric, "minimum": "0.7"} | ({"class": label} if label else {}))

    (gate,) = decision.status["gates"]
    assert (gate["metric"], gate["value"], gate["passed"]) == ("test/mAP50/copepod", "0.7000", True)
    assert gate.get("class") == label


def test_a_class_that_misses_its_minimum_is_told_with_its_interval_and_what_would_help() -> None:
    decision = judged({"metric": "mAP50", "class": "Acartia (Acanthacartia) tonsa", "minimum": "0.75"})

    assert summary(decision).message.startswith(
        "spec.gates[0]: mAP50 of the class 'Acartia (Acanthacartia) tonsa' is 0.6100 (95 % interval 0.5200\u20130.7000), the "
        "minimum is 0.75; more images of the class 'Acartia (Acanthacartia) tonsa' would help. "
    )
    (gate,) = decision.status["gates"]
    assert gate["class"] == "Acartia (Acanthacartia) tonsa"
    assert gate["interval"] == {"low": "0.5200", "high": "0.7000", "level": "0.95"}


def before(gate: dict[str, Any], classes: tuple[str, ...] | None = ("copepod", "krill")) -> Decision:
    """The decision for a TrainingRun for which nothing exists yet."""
    spec = training_run_spec(gates=[{"metric": "F1", "minimum": "0.1"}, gate])
    return training_run.decide(make_training_observed(spec=spec, dataset=dataset_seen(classes=classes)))


@pytest.mark.parametrize(
    ("gate", "want"),
    [
        (
            {"metric": "F2"},
            "metric: models that detect have no F2 (did you mean 'F1'",
        ),
        ({"metric": "test/Recall"}, "metric: models that detect have no Recall (did you mean 'recall'"),
        ({"metric": "tets/F1"}, "metric: there are no metrics of 'tets'; a gate names one of the test split: F1, "),
        (
            {"metric": "export/differences"},
            "metric: there is no export/differences (did you mean 'export/difference'?)",
        ),
        (
            {"metric": "confidence", "class": "krill"},
            "metric: confidence is measured over all classes together, not for a single one",
        ),
        (
            {"metric": "F1", "class": "Copepod"},
            "class: Dataset frames has no class 'Copepod' (did you mean 'copepod'?); its classes are copepod, krill. Correct",
        ),
        ({"metric": "test/F1/kril"}, "metric: Dataset frames has no class 'kril' (did you mean 'krill'?)"),
    ],
)
def test_a_gate_that_no_model_could_pass_is_refused_before_anything_is_made(gate: dict[str, Any], want: str) -> None:
    decision = before(gate | {"maximum": "0.5"})

    assert decision.effects == ()
    assert builders.conditions(decision)["GatesPassed"] == ("Refused", "GateMetricUnknown")
    assert summary(decision).message.startswith(f"spec.gates[1].{want}")
    assert summary(decision).message.endswith(". Correct spec.gates; nothing is trained until then")
    assert decision.recheck_after is not None


@pytest.mark.parametrize(
    ("gate", "classes"),
    [
        ({"metric": "F1", "class": "krill"}, ("copepod", "krill")),
        ({"metric": "F1", "class": "of a Dataset with more classes than its status names"}, None),
        ({"metric": "validation/box-loss"}, ("copepod",)),
        ({"metric": "export/difference"}, ("copepod",)),
    ],
)
def test_a_gate_that_may_be_judged_is_left_to_the_result(gate: dict[str, Any], classes: tuple[str, ...] | None) -> None:
    assert before(gate | {"maximum": "0.5"}, classes).effects != ()


def test_a_gate_that_was_corrected_lets_the_training_begin() -> None:
    assert before({"metric": "F2", "minimum": "0.1"}).effects == ()
    assert before({"metric": "F1", "minimum": "0.1"}).effects != ()


SLICED: dict[str, float | None] = {
    "slice/site/north/F1": 0.8,
    "slice/site/K:C3:B6ge/F1": 0.4,
    "slice/site/:unknown/F1": 0.1,
    "worst/site/F1": 0.4,
    "slice/site/north/recall": None,
}


def sliced(*gates: dict[str, Any], fields: tuple[str, ...] = ("site",)) -> Decision:
    result = training_result()
    result["metrics"] |= SLICED
    spec = training_run_spec(gates=list(gates), evaluation={"slices": list(fields)})
    frozen = identity.freeze(spec, builders.dataset_version())
    return training_run.decide(trained(spec=spec, frozen=frozen, report=Report(result=result)))


def test_a_part_of_the_test_split_is_judged_by_its_value() -> None:
    decision = sliced({"metric": "F1", "slice": {"field": "site", "value": "north"}, "minimum": "0.8"})

    assert decision.status["gates"] == [
        {
            "metric": "slice/site/north/F1",
            "slice": {"field": "site", "value": "north"},
            "minimum": "0.8",
            "value": "0.8000",
            "passed": True,
        }
    ]


def test_without_a_value_the_worst_part_that_is_known_is_judged_and_named() -> None:
    decision = sliced({"metric": "test/F1", "slice": {"field": "site"}, "minimum": "0.5"})

    (gate,) = decision.status["gates"]
    assert (gate["metric"], gate["value"], gate["slice"]) == (
        "worst/site/F1",
        "0.4000",
        {"field": "site", "value": "Köge"},
    )
    assert summary(decision).message.startswith(
        "spec.gates[0]: F1 of the worst site 'Köge' is 0.4000, the minimum is 0.5; more images with site 'Köge' would help. "
    )


@pytest.mark.parametrize(
    ("gate", "want"),
    [
        (
            {"metric": "F1", "slice": {"field": "site", "value": "Koge"}},
            "no image of the test split has the site 'Koge' (did you mean 'Köge'?); there are Köge, north, unknown site",
        ),
        (
            {"metric": "IoU", "slice": {"field": "site"}},
            "parts of the test split are not measured by IoU, but by F1, recall",
        ),
        ({"metric": "recall", "slice": {"field": "site", "value": "north"}}, "recall of the site is undefined"),
        (
            {"metric": "F1", "slice": {"field": "depthBand"}},
            "the test split was not sliced by depthBand (spec.evaluation.slices), but by site",
        ),
    ],
)
def test_a_part_that_there_is_not_passes_nobody(gate: dict[str, Any], want: str) -> None:
    decision = sliced({**gate, "minimum": "0.1"}, fields=("site", "depthBand"))

    assert summary(decision).reason == "GateMetricUnknown"
    assert want in summary(decision).message


def test_a_field_that_is_not_measured_is_refused_before_anything_is_made_with_the_line_to_add() -> None:
    gate = {"metric": "F1", "slice": {"field": "depthBand"}, "minimum": "0.1"}
    spec = training_run_spec(gates=[gate], evaluation={"slices": ["site"]})
    decision = training_run.decide(make_training_observed(spec=spec))

    assert decision.effects == ()
    assert summary(decision).message.startswith(
        "spec.gates[0].slice.field: the test split is not sliced by depthBand; add slices: [site, depthBand] to "
        "spec.evaluation of a new TrainingRun. "
    )
