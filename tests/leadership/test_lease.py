"""Candidates for one Lease of a real API server. The test controls their clocks, so that pauses cost no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from control_plane import ControlPlane
from pelagos.engines.kubernetes import leases
from pelagos.engines.kubernetes.leases import SAFE_SHARE, LeaseLeadership, Place
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.clock import monotonic

SECONDS = 2
"""Duration of the Lease, short enough to wait for."""


@dataclass
class Candidate:
    """One operator's view; ``asleep`` is how long its process was suspended."""

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
        """End it without releasing the Lease."""
        task = candidate.lease._task
        assert task is not None
        task.cancel()

    def written(self) -> Any:
        """The Lease as it is stored."""
        return self.plane.request("GET", self.place.path)

    def write(self, **spec: Any) -> None:
        """Write the Lease as another program would."""
        if any(known.lease.leads for known in self._all):
            patch = {"spec": self._spec(spec)}
            self.plane.request("PATCH", self.place.path, patch, kind="application/merge-patch+json")
        else:
            self.make(**spec)

    def make(self, **spec: Any) -> None:
        """Create the Lease as another program would."""
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.place.name}}
        self.plane.request("POST", self.place.collection, {**body, "spec": self._spec(spec)})

    def _spec(self, spec: dict[str, Any]) -> dict[str, Any]:
        return {"holderIdentity": "stranger", "leaseDurationSeconds": SECONDS, **spec}

    async def close(self) -> None:
        """End all candidates."""
        for candidate in self._all:
            await candidate.lease.stop()


@pytest.fixture
async def election(api: KubernetesRest, plane: ControlPlane, namespace: str) -> AsyncIterator[Election]:
    """A Lease that nobody has written yet."""
    made = Election(api, plane, namespace)
    yield made
    await made.close()


async def until(candidate: Candidate, leads: bool, *, seconds: float = 2.5 * SECONDS) -> float:
    """Wait until the candidate leads, or no longer does, and was notified; returns the seconds that took."""
    began = monotonic()
    # The Lease expires at an instant; the notification follows at the next check.
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
    """Another candidate may have led and ended in between."""
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


async def test_what_is_not_allowed_is_reported(plane: ControlPlane, api: KubernetesRest) -> None:
    candidate = LeaseLeadership(api, Place("no-such-namespace", "pelagos-operator", SECONDS), "candidate")
    await candidate.start(lambda: None, lambda: None)
    await asyncio.sleep(0.5)

    assert not candidate.leads
    assert "cannot be used" in candidate.standing
    assert "no-such-namespace" in candidate.standing
    await candidate.stop()


async def test_a_standby_leads_when_the_lease_was_deleted_and_its_holder_must_have_stopped(election: Election) -> None:
    election.write()
    candidate = await election.enter("candidate")
    await asyncio.sleep(0.7)  # By now it has read the Lease.

    election.plane.request("DELETE", election.place.path)

    assert await until(candidate, True) >= SECONDS - 1.0, "whoever held the Lease goes on until then"
    assert election.written()["spec"]["holderIdentity"] == "candidate"


async def test_of_a_leader_and_a_standby_one_leads_whoever_makes_the_deleted_lease_anew(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)
    second = await election.enter("second")
    await asyncio.sleep(0.5)

    election.plane.request("DELETE", election.place.path)
    ends = monotonic() + 2 * SECONDS
    while monotonic() < ends:
        assert not (first.lease.leads and second.lease.leads)
        await asyncio.sleep(0.02)

    assert first.lease.leads or second.lease.leads


async def test_a_leader_whose_lease_was_made_anew_by_another_stops_at_once(election: Election) -> None:
    first = await election.enter("first")
    await until(first, True)

    election.plane.request("DELETE", election.place.path)
    election.make(holderIdentity="stranger")

    assert await until(first, False) < SECONDS / 2
    assert first.lease.standing == "standby; stranger leads"


async def test_a_lease_kept_for_longer_than_any_operator_keeps_one_is_taken_after_that(
    election: Election, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LONGEST_DURATION", SECONDS)
    election.write(holderIdentity="somebody@desk", leaseDurationSeconds=10**9, renewTime=None)

    candidate = await election.enter("candidate")
    await asyncio.sleep(0.5)

    assert "somebody@desk holds the Lease for 1000000000 s" in candidate.lease.standing
    assert "it is taken at the latest 2 s after" in candidate.lease.standing
    assert SECONDS - 1.0 <= await until(candidate, True) <= SECONDS + 1.5


async def test_a_lease_that_is_only_labelled_again_and_again_counts_as_not_renewed(election: Election) -> None:
    election.write()
    candidate = await election.enter("candidate")

    async def label() -> None:
        for number in range(1000):
            patch = {"metadata": {"labels": {"touched": str(number)}}}
            kind = "application/merge-patch+json"
            await asyncio.to_thread(election.plane.request, "PATCH", election.place.path, patch, kind=kind)
            await asyncio.sleep(0.3)

    labelling = asyncio.create_task(label())
    await until(candidate, True, seconds=SECONDS + 1.5)
    labelling.cancel()


async def test_a_count_of_transitions_that_is_at_its_end_begins_anew(election: Election) -> None:
    election.write(leaseTransitions=2**31 - 1)

    candidate = await election.enter("candidate")

    await until(candidate, True)
    assert election.written()["spec"]["leaseTransitions"] == 0


async def test_a_namespace_that_comes_later_is_led_in(plane: ControlPlane, election: Election) -> None:
    election.place = Place(f"{election.place.namespace}-later", "pelagos-operator", SECONDS)
    candidate = await election.enter("candidate")
    await asyncio.sleep(0.5)
    assert "cannot be used" in candidate.lease.standing

    plane.create_namespace(election.place.namespace)

    await until(candidate, True)
