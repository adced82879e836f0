"""One pass: finalizer, gather, decide, act, report. What it writes, when it writes nothing, and what errors become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import builders
import simulation
from kstatus import Kstatus
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError, RejectedError, UnfinishedError
from pelagos.reconcilers import driver
from simulation import DETECTOR, FRAMES, SERVICE, Simulation


@pytest.fixture
def frames(world: Simulation) -> Key:
    return world.create(kinds.DATASET, "frames", builders.DATASET)


def calls_of_a_pass(world: Simulation, key: Key) -> list[str]:
    world.prepare()
    world.make_pass(key)
    assert world.life is not None
    return world.life.calls


def test_the_finalizer_stands_before_the_first_external_effect(world: Simulation, frames: Key) -> None:
    calls = calls_of_a_pass(world, frames)

    assert calls[0] == "cluster.set_finalizers"
    assert "pipelines.submit" in calls
    found = world.cluster.get(frames)
    assert found is not None
    assert found.finalizers == (meta.FINALIZER,)


def test_finalizers_of_others_are_kept(world: Simulation, frames: Key) -> None:
    found = world.cluster.get(frames)
    assert found is not None
    world.ask(world.cluster.set_finalizers(found, ("others/finalizer",)))

    world.make_pass(frames)

    after = world.cluster.get(frames)
    assert after is not None
    assert after.finalizers == ("others/finalizer", meta.FINALIZER)


def test_without_the_finalizer_there_is_no_effect(world: Simulation, frames: Key) -> None:
    world.cluster.outage = True

    with pytest.raises(OutageError):
        world.make_pass(frames)

    assert world.pipelines.runs == {}


@pytest.mark.parametrize("key", [FRAMES, DETECTOR, SERVICE], ids=lambda key: key.kind)
def test_a_pass_writes_status_once_and_an_unchanged_resync_not_at_all(world: Simulation, key: Key) -> None:
    simulation.apply_samples(world)

    for _ in range(4):
        before = world.cluster.status_patches
        world.make_pass(key)
        assert world.cluster.status_patches - before <= 1
    quiet = world.versions()
    world.make_pass(key)

    assert world.versions() == quiet


def test_the_first_status_has_every_condition_and_names_the_generation(world: Simulation, frames: Key) -> None:
    world.make_pass(frames)

    found = world.cluster.get(frames)
    assert found is not None
    assert [condition["type"] for condition in found.status["conditions"]] == [
        *("Ready", "Reconciling", "SourceResolved", "Prepared", "QualityPassed", "FairPassed", "Published"),
    ]
    assert found.status["observedGeneration"] == found.generation == 1


def test_the_generation_that_was_looked_at_is_told_after_an_edit(world: Simulation, frames: Key) -> None:
    world.make_pass(frames)
    world.cluster.edit(frames, {"refresh": "1h"})
    assert world.state(frames) is Kstatus.IN_PROGRESS

    world.make_pass(frames)

    found = world.cluster.get(frames)
    assert found is not None
    assert found.status["observedGeneration"] == found.generation == 2


def test_what_users_own_is_never_written(world: Simulation, frames: Key) -> None:
    before = world.cluster.get(frames)
    for _ in range(3):
        world.make_pass(frames)
    after = world.cluster.get(frames)

    assert before is not None
    assert after is not None
    assert (after.spec, after.annotations, after.generation) == (before.spec, before.annotations, before.generation)


def test_a_resource_that_vanishes_meanwhile_is_borne_and_no_event_is_posted(world: Simulation, frames: Key) -> None:
    world.make_pass(frames)
    stale = world.cluster.get(frames)
    assert stale is not None
    world.ask(world.cluster.set_finalizers(stale, ()))
    world.cluster.delete(frames)
    events = len(world.cluster.events)
    world.volumes.files.clear()

    assert world.life is not None
    world.ask(driver.reconcile(_reconciler(frames), stale, world.life.dependencies))

    assert len(world.cluster.events) == events


EDITS: dict[str, tuple[Callable[[Simulation], object], Callable[[Simulation], bool]]] = {
    "spec": (
        lambda world: world.cluster.edit(DETECTOR, {"gates": [{"metric": "test/mAP50", "minimum": "0.99"}]}),
        lambda world: world.ready(DETECTOR)["reason"] == "GateFailed",
    ),
    "suspension": (
        lambda world: world.cluster.edit(SERVICE, {"suspend": True}),
        lambda world: world.ready(SERVICE)["reason"] == "Suspended",
    ),
    "deletion": (
        lambda world: world.cluster.delete(DETECTOR),
        lambda world: world.cluster.get(DETECTOR) is None,
    ),
}


@pytest.mark.parametrize(("edit", "holds"), EDITS.values(), ids=EDITS)
def test_an_edit_during_a_pass_is_not_lost_though_the_reply_to_the_status_already_has_it(
    world: Simulation,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Simulation], object],
    holds: Callable[[Simulation], bool],
) -> None:
    """A finished TrainingRun is looked at only when it changes: an edit that was mistaken for old news would wait forever."""
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    patch_status = world.cluster.patch_status
    edited: list[object] = []

    async def edit_first(resource: Resource, patch: Any) -> Any:
        if not edited:
            edited.append(edit(world))
        return await patch_status(resource, patch)

    monkeypatch.setattr(world.cluster, "patch_status", edit_first)
    world.cluster.edit(DETECTOR, {"gates": []})
    world.cluster.edit(SERVICE, {"thresholds": {"iou": "0.6"}})
    world.run(0.1)
    world.run_until(lambda: holds(world), within=2)


@pytest.mark.parametrize(
    ("spec", "wants"),
    [
        ({"task": "Detect"}, ["spec.task: input should be 'Classification', 'Detection', ", "(it is 'Detect')"]),
        ({"task": None}, ["spec.task: field required"]),
        ({"refresh": "soon"}, ["spec.refresh: ", "(it is 'soon')"]),
        ({"split": {"ratios": {"train": 900}}}, ["spec.split.ratios.train: input should be less than or equal to 100"]),
        ({"split": {"ratios": {"train": 71}}}, ["spec.split.ratios: train, validation and test must add up to 100"]),
    ],
)
def test_an_invalid_spec_is_refused_with_field_value_and_what_is_allowed(
    world: Simulation, spec: builders.Yaml, wants: list[str]
) -> None:
    key = world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, spec))

    outcome = world.make_pass(key)

    assert (outcome.result, world.ready(key)["reason"], world.state(key)) == ("refused", "InvalidSpec", Kstatus.FAILED)
    for want in wants:
        assert want in world.ready(key)["message"]


def test_several_faults_are_told_at_once(world: Simulation) -> None:
    spec = builders.changed(builders.DATASET, {"task": "Detect", "format": "Csv"})
    key = world.create(kinds.DATASET, "frames", spec)

    world.make_pass(key)

    assert "spec.task" in world.ready(key)["message"]
    assert "spec.format" in world.ready(key)["message"]
    assert world.ready(key)["message"].endswith("Correct the field and apply the resource again")


def test_a_field_that_is_not_known_is_refused(world: Simulation) -> None:
    """The API server would drop it; an older CRD, or a newer operator, may let it through."""
    with pytest.raises(Exception, match="extra_forbidden") as caught:
        kinds.DATASET.spec.model_validate({**builders.DATASET, "tsak": "Detection"})

    assert "spec.tsak: extra inputs are not permitted" in driver.explain(caught.value)  # type: ignore[arg-type]


def test_a_value_that_is_too_long_for_a_status_is_cut_in_the_message(world: Simulation) -> None:
    names = {f"{number:0150}": "x" * 150 for number in range(200)}
    key = world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, {"labels": {"rename": names}}))

    world.make_pass(key)

    assert "spec.labels: value error, all names together take" in world.ready(key)["message"]
    assert len(world.ready(key)["message"]) < 1000


def test_correcting_an_invalid_spec_goes_on(world: Simulation) -> None:
    key = world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, {"task": "Detect"}))
    world.start()
    world.run(1)

    world.cluster.edit(key, {"task": "Detection"})

    world.run_until(world.all_current)


@pytest.mark.parametrize("system", ["pipelines", "objects", "volumes"])
def test_an_outage_makes_ready_unknown_and_is_tried_again(world: Simulation, frames: Key, system: str) -> None:
    world.make_pass(frames)
    getattr(world, system).outage = True

    outcome = world.make_pass(frames)

    assert (world.ready(frames)["status"], world.ready(frames)["reason"]) == ("Unknown", "SystemUnavailable")
    assert system in world.ready(frames)["message"]
    assert world.state(frames) is Kstatus.IN_PROGRESS
    assert outcome == driver.Pass("unknown", None, failed=True)


def test_a_run_that_takes_its_time_to_end_is_in_progress_and_no_outage(
    world: Simulation, frames: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancel(name: str) -> None:
        raise UnfinishedError("pipelines", f"run {name} is being ended")

    world.make_pass(frames)
    monkeypatch.setattr(world.pipelines, "cancel", cancel)
    world.cluster.edit(frames, {"suspend": True})

    outcome = world.make_pass(frames)

    assert (world.ready(frames)["status"], world.ready(frames)["reason"]) == ("Unknown", "Ending")
    assert "is being ended" in world.ready(frames)["message"]
    assert world.state(frames) is Kstatus.IN_PROGRESS
    assert outcome == driver.Pass("progressing", None, failed=True)


def test_after_an_outage_all_is_as_before(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)

    world.outages(True)
    world.run(120)
    world.outages(False)

    world.run_until(world.all_current, within=90)
    assert (world.pipelines.attempts_begun, world.tracking.created, world.serving.started) == (2, 1, 1)


def test_a_refusal_of_another_system_stalls_and_is_looked_at_again(world: Simulation, frames: Key) -> None:
    async def refuse(*_: Any) -> Any:
        raise RejectedError("pipelines", "there is no flow dataset-preparation")

    setattr(world.pipelines, "submit", refuse)  # noqa: B010

    outcome = world.make_pass(frames)

    assert (outcome.result, outcome.recheck_after) == ("refused", driver.REJECTED_RETRY)
    assert (world.ready(frames)["reason"], world.state(frames)) == ("SystemRejected", Kstatus.FAILED)
    assert world.ready(frames)["message"].startswith("pipelines: there is no flow dataset-preparation. ")
    assert "checked again" in world.ready(frames)["message"]


@pytest.mark.parametrize("deleting", [False, True])
def test_a_bug_is_told_and_passed_on(world: Simulation, frames: Key, deleting: bool) -> None:
    world.make_pass(frames)
    if deleting:
        world.cluster.delete(frames)

    async def fail(*_: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    for call in ("find", "find_owned"):
        setattr(world.pipelines, call, fail)

    with pytest.raises(ZeroDivisionError):
        world.make_pass(frames)

    assert (world.ready(frames)["status"], world.ready(frames)["reason"]) == ("Unknown", "InternalError")
    assert "unexpected ZeroDivisionError: division by zero" in world.ready(frames)["message"]


def test_a_change_of_ready_is_an_event_and_a_change_of_message_is_none(world: Simulation, frames: Key) -> None:
    world.make_pass(frames)
    world.volumes.files.clear()
    world.make_pass(frames)
    posted = [(event.severity, event.reason) for event in world.cluster.events]

    world.cluster.edit(frames, {"source": {"volume": {"path": "elsewhere"}}})
    world.make_pass(frames)

    assert posted == [("Normal", "Submitting"), ("Normal", "SourceNotFound")]
    assert [(event.severity, event.reason) for event in world.cluster.events] == posted
    assert "elsewhere" in world.ready(frames)["message"]


def test_weights_that_leave_the_volume_are_refused_in_the_words_of_the_rule(world: Simulation) -> None:
    spec = builders.changed(builders.TRAINING_RUN, {"model": {"weights": {"path": "../secret.pt"}}})
    key = world.create(kinds.TRAINING_RUN, "detector", spec)

    world.make_pass(key)

    assert world.ready(key)["reason"] == "InvalidSpec"
    assert world.ready(key)["message"].startswith("spec.model.weights.path must be relative to the data volume")


def _reconciler(key: Key) -> driver.Reconciler:
    return simulation.RECONCILERS[key.kind]


@pytest.mark.parametrize(
    "uri", ["s3://weights/official.pt", "models:/detector@champion", "https://weights.example/a.pt"]
)
def test_weights_that_lie_elsewhere_are_not_looked_for_on_the_data_volume(world: Simulation, uri: str) -> None:
    simulation.apply_samples(world, training={"model": {"weights": {"uri": uri, "sha256": "d4" * 32}}})
    world.start()

    world.run_until(world.all_current)

    assert world.ready(DETECTOR)["status"] == "True"


def test_weights_that_are_not_there_yet_are_waited_for_and_nothing_is_started(world: Simulation) -> None:
    simulation.apply_samples(world, training={"model": {"weights": {"path": "checkpoints/plankton.pt"}}})
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "CheckpointNotFound")

    assert "spec.model.weights.path" in world.condition(DETECTOR, "Waiting")["message"]
    assert world.tracking.created == 0

    world.volumes.put("checkpoints/plankton.pt", "weights")
    world.run_until(world.all_current)


def ended_kinds(world: Simulation) -> list[str]:
    """The operator's writes and deletions, in order."""
    assert world.life is not None
    told = ("cluster.patch_status", "serving.stop", "serving.restart", "pipelines.cancel")
    return [call for call in world.life.calls if call in told]


@pytest.mark.parametrize(("key", "ends"), [(SERVICE, "serving.stop"), (DETECTOR, "pipelines.cancel")], ids=str)
def test_what_is_ended_is_told_before(world: Simulation, key: Key, ends: str) -> None:
    simulation.apply_samples(world)
    world.start()
    wanted = {SERVICE: "Serving", DETECTOR: "Training"}[key]
    world.run_until(lambda: world.ready(key).get("reason") == wanted)
    assert world.life is not None
    world.life.calls.clear()

    world.cluster.edit(key, {"suspend": True})
    world.run_until(lambda: world.ready(key)["reason"] == "Suspended")

    calls = ended_kinds(world)
    assert calls[: calls.index(ends) + 1] == ["cluster.patch_status", ends]
    assert world.auditor.reasons(key)[-2:] == ["Ending", "Suspended"]
    assert [event.severity for event in world.cluster.events if event.reason in ("Ending", "Suspended")] == [
        "Normal"
    ] * 2


def test_a_server_that_is_started_anew_is_told_of_before_it_is_killed(world: Simulation) -> None:
    world.serving.automatic = False
    simulation.apply_samples(world)
    world.start()
    world.run_until(lambda: world.ready(SERVICE).get("reason") == "Loading")
    assert world.life is not None
    world.life.calls.clear()
    world.run_until(lambda: "serving.restart" in ended_kinds(world), within=200)

    calls = ended_kinds(world)
    assert calls[calls.index("serving.restart") - 1] == "cluster.patch_status"
    assert "LoadTimeout" in world.auditor.reasons(SERVICE)


def test_an_outage_while_something_is_ended_makes_no_status_swing(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.serving.outage = True
    world.cluster.edit(SERVICE, {"suspend": True})
    world.run(120)
    seen = len(world.auditor.seen[SERVICE])
    world.run(120)

    assert len(world.auditor.seen[SERVICE]) == seen
    world.serving.outage = False
    world.run_until(lambda: world.ready(SERVICE)["reason"] == "Suspended")
