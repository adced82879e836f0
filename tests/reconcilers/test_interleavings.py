"""Users, faults and other systems act in any order: in the end everything is as specs say, and nothing was done twice.

Hypothesis generates the stories. Time passes between steps by fractions of what the data plane needs, so that most steps happen
while work is in progress. At the end all faults are healed and specs are as they were at the beginning.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import builders
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key
from pelagos.ports.pipelines import FINISHED, RunState
from simulation import DETECTOR, FRAMES, PORTS, SERVICE, THOROUGH, Fault, Simulation

KEYS = (FRAMES, DETECTOR, SERVICE)
KINDS = {FRAMES: kinds.DATASET, DETECTOR: kinds.TRAINING_RUN, SERVICE: kinds.MODEL_SERVICE}
SPECS = {FRAMES: builders.DATASET, DETECTOR: builders.TRAINING_RUN, SERVICE: builders.MODEL_SERVICE}
keys = st.sampled_from(KEYS)


class Interleavings(RuleBasedStateMachine):
    """One world, in which anything may happen next."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Simulation()
        for number in range(3):
            self.world.volumes.put(f"samples/frames/{number}.png", f"image {number}")
        self.files = dict(self.world.volumes.files)
        self.retries = 0
        self.lost = 0
        self.world.start()

    @initialize(order=st.permutations(KEYS), seconds=st.sampled_from([0.0, 3.0, 6.0, 20.0]))
    def begin(self, order: list[Key], seconds: float) -> None:
        for key in order:
            self.apply(key)
        self.world.run(seconds)

    @rule(key=keys)
    def apply(self, key: Key) -> None:
        if self.world.cluster.get(key) is None:
            self.world.cluster.create(KINDS[key], key.name, SPECS[key])

    @rule(key=keys, policy=st.sampled_from(["Retain", "Delete"]))
    def delete(self, key: Key, policy: str) -> None:
        if self.world.cluster.get(key) is not None:
            self.world.cluster.edit(key, {"deletionPolicy": policy})
            self.world.cluster.delete(key)

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0, 7.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(key=keys, suspend=st.booleans())
    def suspend(self, key: Key, suspend: bool) -> None:
        if self.world.cluster.get(key) is not None:
            self.world.cluster.edit(key, {"suspend": suspend})

    @rule(key=keys)
    def retry(self, key: Key) -> None:
        if self.world.cluster.get(key) is not None:
            self.retries += 1
            self.world.cluster.annotate(key, meta.RETRY_ANNOTATION, str(self.retries))

    @rule(minimum=st.sampled_from(["0.5", "0.99"]))
    def judge_otherwise(self, minimum: str) -> None:
        if self.world.cluster.get(DETECTOR) is not None:
            self.world.cluster.edit(DETECTOR, {"gates": [{"metric": "test/mAP50", "minimum": minimum}]})

    @rule(seeds=st.sampled_from([[0], [1]]))
    def change_what_is_frozen(self, seeds: list[int]) -> None:
        if self.world.cluster.get(DETECTOR) is not None:
            self.world.cluster.edit(DETECTOR, {"seeds": seeds})

    @rule(batch=st.sampled_from([4, 8]))
    def set_up_otherwise(self, batch: int) -> None:
        if self.world.cluster.get(SERVICE) is not None:
            self.world.cluster.edit(SERVICE, {"runtime": {"maxBatchSize": batch}})

    @rule(name=st.sampled_from(["detector", "misspelt"]))
    def point_elsewhere(self, name: str) -> None:
        if self.world.cluster.get(SERVICE) is not None:
            self.world.cluster.edit(SERVICE, {"model": {"trainingRunRef": {"name": name}}})

    @rule(content=st.sampled_from(["image", "another image"]))
    def change_the_source(self, content: str) -> None:
        self.world.volumes.put("samples/frames/extra.png", content)

    @rule()
    def lose_the_source(self) -> None:
        self.world.volumes.files.clear()

    @rule()
    def bring_the_source_back(self) -> None:
        self.world.volumes.files.update(self.files)

    @rule()
    def silence_the_watch(self) -> None:
        self.world.cluster.lagging = True

    @precondition(lambda self: self.world.cluster.lagging)
    @rule(expired=st.booleans())
    def hear_the_watch_again(self, expired: bool) -> None:
        if expired:
            self.world.cluster.expire()
        else:
            self.world.cluster.catch_up()

    @rule(system=st.sampled_from(PORTS), away=st.booleans())
    def outage(self, system: str, away: bool) -> None:
        getattr(self.world, system).outage = away

    @rule()
    def interrupt(self) -> None:
        for name, known in list(self.world.pipelines.runs.items()):
            if known.run.state is RunState.RUNNING:
                self.world.pipelines.interrupt(name)

    @rule()
    def kill_the_server(self) -> None:
        found = self.world.cluster.get(SERVICE)
        if found is not None and found.status.get("url") and not self.world.serving.outage:
            self.world.serving.now = self.world.clock.now()
            self.world.ask(self.world.serving.restart(found.uid))

    @rule(hours=st.sampled_from([-30, -1, 1, 30, 24 * 365]))
    def set_the_clock(self, hours: int) -> None:
        self.world.wrong += timedelta(hours=hours)

    @rule(call=st.integers(1, 12), crashes=st.booleans(), after=st.booleans())
    def fault(self, call: int, crashes: bool, after: bool) -> None:
        self.world.restart(Fault(call, crashes=crashes, after=after))

    @rule(key=keys)
    def restore_without_status(self, key: Key) -> None:
        self.world.stop()
        if self.world.cluster.get(key) is not None:
            self.world.cluster.lose_status(key)
            self.lost += key == FRAMES
        self.world.start()

    @precondition(lambda self: self.world.life is not None and self.world.life.dead)
    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def promises_are_kept(self) -> None:
        self.world.verify()
        for key in KEYS:
            found = self.world.cluster.get(key)
            if found is not None:
                runs = [
                    run for run in self.world.pipelines.runs.values() if run.request.labels[meta.UID_LABEL] == found.uid
                ]
                in_progress = [run for run in runs if run.run.state not in FINISHED]
                tracked = [run for run in self.world.tracking.runs.values() if run.tags[meta.UID_LABEL] == found.uid]
                assert len(tracked) <= 1
                assert key != DETECTOR or len(runs) <= 1, "one TrainingRun, two trainings"
                # Without its status, a Dataset does not know that a run for earlier content is in progress until the content
                # changes again.
                assert key != FRAMES or len(in_progress) <= 2 + self.lost

    def teardown(self) -> None:
        try:
            self.heal()
            self.check()
        finally:
            self.world.close()

    def heal(self) -> None:
        """All systems are back, the operator lives, and specs are as they were at first."""
        self.world.outages(False)
        self.world.cluster.expire()
        self.bring_the_source_back()
        self.world.restart()
        self.world.run(60)
        for key in KEYS:
            self.apply(key)
            self.world.cluster.edit(key, {**SPECS[key], "suspend": False, "runtime": None})
            self.retry(key)
        found = self.world.cluster.get(DETECTOR)
        assert found is not None
        frozen = found.status.get("inputs", {})
        self.world.cluster.edit(DETECTOR, {"seeds": frozen.get("seeds")})

    def check(self) -> None:
        self.world.run_until(self.world.all_current, within=400)
        self.world.run(30)
        before = self.world.versions()
        self.world.run(90)
        assert self.world.versions() == before
        self.world.verify()
        self.check_outside()

    def check_outside(self) -> None:
        """Every tracked run has ended, and nothing runs that no resource asks for."""
        uids = {resource.uid for resource in self.world.cluster.all()}
        assert all(known.run.state in FINISHED for known in self.world.pipelines.runs.values())
        assert {known.request.labels[meta.UID_LABEL] for known in self.world.pipelines.runs.values()} <= uids
        assert all(run.outcome.value != "RUNNING" for run in self.world.tracking.runs.values())


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=80 if THOROUGH else 25, stateful_step_count=25, deadline=None)
