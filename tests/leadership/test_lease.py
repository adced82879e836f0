"""Candidates for one Lease of a real API server. Their clocks are the test's, so that pauses cost no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from control_plane import ControlPlane
from pelagos.engines.kubernetes_rest import KubernetesRest
from pelagos.engines.leases import SAFE_SHARE, LeaseLeadership, Place
from pelagos.ports.leadership import monotonic

SECONDS = 2
"""Duration of the Lease, short enough to wait for."""


@dataclass
class Candidate:
    """One operator's view; ``asleep`` is how long its process stood still."""

    lease: LeaseLeadership
    told: list[str] = field(default_factory=list)
    asleep: float = 0.0


class Election:
    """Makes candidates for one Lease and ends them."""

    def __init__(self, api: KubernetesRest, plane: ControlPlane, namespace: str) -> None:
        self.place = Place(namespace, "pelagos-operator", SECONDS)
        self.plane = plane
        self._api = api
        self._all: list[Candidate] = []

    async def enter(self, name: str) -> Candidate:
        """A new candidate that seeks the Lease."""
        made: Candidate
        lease = LeaseLeadership(self._api, self.place, name, clock=lambda: monotonic() + made.asleep)
        made = Candidate(lease)
        self._all.append(made)
        await lease.start(lambda: made.told.append("gained"), lambda: made.told.append("lost"))
        return made

    def crash(self, candidate: Candidate) -> None:
        """It ends without a word."""
        task = candidate.lease._task
        assert task is not None
        task.cancel()

    def written(self) -> Any:
        """The Lease as it is."""
        return self.plane.request("GET", self.place.path)

    def write(self, **spec: Any) -> None:
        """Write the Lease as another program would."""
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.place.name}}
        body["spec"] = {"holderIdentity": "stranger", "leaseDurationSeconds": SECONDS, **spec}
        if any(known.lease.leads for known in self._all):
            self.plane.request("PATCH", self.place.path, {"spec": body["spec"]}, kind="application/merge-patch+json")
        else:
            self.plane.request("POST", self.place.collection, body)

    async def close(self) -> None:
        """End all."""
        for candidate in self._all:
            await candidate.lease.stop()


@pytest.fixture
async def election(api: KubernetesRest, plane: ControlPlane, namespace: str) -> AsyncIterator[Election]:
    """A Lease that nobody has written yet."""
    made = Election(api, plane, namespace)
    yield made
    await made.close()


async def until(candidate: Candidate, leads: bool, *, seconds: float = 2.5 * SECONDS) -> float:
    """Wait until the candidate leads, or no longer does, and was told so; returns how long that took."""
    began = monotonic()
    # The Lease runs out in an instant; that it did is told at the next look.
    while candidate.lease.leads is not leads or (candidate.told[-1:] == ["gained"]) is not leads:
        assert monotonic() - began < seconds, candidate.lease.standing
        await asyncio.sleep(0.02)
    return monotonic() - began


async def test_the_first_leads_and_the_second_stands_by(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)
    second = await election.enter("second")
    await asyncio.sleep(2 * SECONDS)

    assert (first.lease.leads, second.lease.leads) == (True, False)
    assert (first.told, second.told) == (["gained"], [])
    assert second.lease.standing == "standby; first leads"
    assert election.written()["spec"]["holderIdentity"] == "first"


async def test_a_lease_that_is_released_is_taken_at_once(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)
    second = await election.enter("second")
    await asyncio.sleep(0.2)

    await first.lease.stop()

    assert not first.lease.leads
    assert await until(second, True) < SECONDS
    assert election.written()["spec"]["leaseTransitions"] == 1


async def test_a_holder_that_is_gone_is_followed_after_the_duration_and_not_before(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)
    second = await election.enter("second")
    await asyncio.sleep(0.2)

    election.crash(first)

    assert SECONDS - 0.5 <= await until(second, True) <= SECONDS + 1.5
    assert not first.lease.leads


async def test_a_holder_that_stood_still_knows_at_once_that_it_may_no_longer_lead(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)

    first.asleep = SAFE_SHARE * SECONDS

    assert not first.lease.leads


async def test_a_holder_that_stood_still_and_leads_again_drops_what_it_did_before(election: Election) -> None:
    """Another may have led and ended in between."""
    first = await election.enter("first")
    await until(first, True)

    first.asleep = 100.0
    await until(first, True)

    assert first.told == ["gained", "lost", "gained"]


async def test_a_holder_that_wakes_up_after_another_took_over_stands_by(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)
    second = await election.enter("second")
    election.crash(first)
    await until(second, True)

    again = await election.enter("first")
    await asyncio.sleep(SECONDS)

    assert (second.lease.leads, again.lease.leads) == (True, False)


@pytest.mark.parametrize("time", ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"])
async def test_clocks_of_other_machines_are_not_believed(election: Election, time: str) -> None:
    election.write(renewTime=time, acquireTime=time)

    candidate = await election.enter("candidate")

    assert SECONDS - 0.5 <= await until(candidate, True) <= SECONDS + 1.5


async def test_a_lease_without_a_duration_is_given_ours(election: Election) -> None:
    election.write(leaseDurationSeconds=None)

    candidate = await election.enter("candidate")

    assert SECONDS - 0.5 <= await until(candidate, True) <= SECONDS + 1.5


async def test_of_many_that_wait_exactly_one_follows(election: Election) -> None:
    election.write()
    waiting = [await election.enter(f"candidate-{number}") for number in range(6)]

    await asyncio.sleep(SECONDS + 1.5)

    assert sum(candidate.lease.leads for candidate in waiting) == 1
    assert sum(len(candidate.told) for candidate in waiting) == 1


async def test_a_lease_that_somebody_deleted_is_made_again(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)

    election.plane.request("DELETE", election.place.path)
    await asyncio.sleep(SECONDS)

    assert first.lease.leads
    assert election.written()["spec"]["holderIdentity"] == "first"


async def test_a_lease_that_somebody_took_by_force_is_given_up_in_time(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)

    election.write(holderIdentity="stranger")

    await until(first, False)
    assert first.told == ["gained", "lost"]


async def test_what_is_not_allowed_is_told(plane: ControlPlane, api: KubernetesRest) -> None:
    candidate = LeaseLeadership(api, Place("no-such-namespace", "pelagos-operator", SECONDS), "candidate")
    await candidate.start(lambda: None, lambda: None)
    await asyncio.sleep(0.5)

    assert not candidate.leads
    assert "cannot be used" in candidate.standing
    assert "no-such-namespace" in candidate.standing
    await candidate.stop()
