"""A run's place in its queue reaches status and metrics; each admission is counted once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import builders
from pelagos.api import kinds
from pelagos.observability import metrics
from pelagos.observability.metrics import REGISTRY
from pelagos.ports.pipelines import Queueing, RunName
from simulation import DETECTOR, FRAMES, Simulation, status

QUEUE = "of this test alone"
"""A queue of this test alone: all tests of a process share metrics."""
WORDS = "insufficient unused quota for cpu in flavor default, 1 more needed"


def admissions(queue: str) -> tuple[float, float]:
    """The number of admissions, and the total time that they waited."""
    labels = {"kind": "TrainingRun", "queue": queue}
    count, total = (
        REGISTRY.get_sample_value(f"pelagos_queue_wait_seconds_{part}", labels) or 0.0 for part in ("count", "sum")
    )
    return count, total


def submitted(world: Simulation) -> RunName:
    """Submit a training that waits; returns its name."""
    world.start()
    world.create(kinds.DATASET, FRAMES.name, builders.DATASET)
    world.run_until(lambda: world.ready(FRAMES).get("status") == "True")
    world.data_plane.halted = True
    world.create(kinds.TRAINING_RUN, DETECTOR.name, builders.TRAINING_RUN)

    def name() -> RunName | None:
        return next((each for each, run in world.pipelines.runs.items() if run.request.flow == "training"), None)

    world.run_until(lambda: name() is not None)
    found = name()
    assert found is not None
    return found


def test_a_run_in_a_queue_says_where_it_stands_until_it_ends(world: Simulation) -> None:
    run, since = submitted(world), world.clock.now()
    since = since.replace(microsecond=0)

    world.pipelines.queue(run, Queueing(QUEUE, since, None, 3, WORDS))
    world.run(10)

    at = since.isoformat().replace("+00:00", "Z")
    assert status(world, DETECTOR)["queue"] == {"name": QUEUE, "since": at, "position": 3, "reason": WORDS}
    assert world.ready(DETECTOR)["reason"] == "Queued"
    assert admissions(QUEUE) == (0, 0)

    world.pipelines.start(run)
    admitted = since + timedelta(seconds=90)
    world.pipelines.queue(run, Queueing(QUEUE, since, admitted))
    world.run(10)

    shown = status(world, DETECTOR)["queue"]
    assert (shown.keys(), shown["admittedAt"]) == (
        {"name", "since", "admittedAt"},
        admitted.isoformat().replace("+00:00", "Z"),
    )
    assert admissions(QUEUE) == (1, 90)

    # A gap in observation is not counted as another admission.
    known = world.pipelines.runs[run]
    seen, known.run = known.run, replace(known.run, queue=None)
    world.run(10)
    assert "queue" not in status(world, DETECTOR)
    known.run = seen
    world.run(10)
    assert admissions(QUEUE) == (1, 90)

    world.pipelines.interrupt(run)
    world.run(5)
    assert "queue" not in status(world, DETECTOR)


def test_tenants_with_many_queues_do_not_make_metrics_without_end(world: Simulation) -> None:
    submitted(world)
    resource = world.cluster.get(DETECTOR)
    assert resource is not None

    for number in range(metrics.MOST_QUEUES + 50):
        metrics.admitted(resource, f"q{number}", f"at {number}", 1)

    named = {
        sample.labels["queue"]
        for metric in metrics.QUEUE_SECONDS.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
    }
    assert len(named) <= metrics.MOST_QUEUES + 1
    assert admissions("")[0] >= 50
