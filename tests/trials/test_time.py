"""No Trial outlives its time: whichever process dies, whenever, and whatever is done to the clock."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

import pytest

from pelagos.api import kinds
from simulation import SERVICE, CrashError, Fault, faults
from trials.worlds import TOKEN, Trials, token_of
from trials.worlds import trials as made


def test_a_thousand_trials_open_and_end_in_their_time_and_none_is_refused_below_the_limit(trials: Trials) -> None:
    """Of 100 users, one every two seconds, for 60 to 179 s: no more than 90 are open at once, and one of each user."""
    trials.allow(trials_at_once=90, trials_per_user=1, trials_longest="60m", trials_keep="5m")
    keys = []
    for number in range(1000):
        keys.append(trials.sign_and_create(f"t{number}", f"user{number % 100}", duration=f"{60 + number % 120}s"))
        trials.world.run(2)
    trials.world.run(500)

    late = []
    for number, key in enumerate(keys):
        history = [known.status for known in trials.world.auditor.seen[key] if known.status]
        phases = [status["phase"] for status in history if "phase" in status]
        assert phases[0] == "Open", (key, history)
        (ended,) = {status["endedAt"] for status in history if status.get("phase") == "Expired"}
        (due,) = {status["expiresAt"] for status in history if "expiresAt" in status}
        assert (number, history[-1]["duration"]) == (number, f"{60 + number % 120}s")
        late.append(datetime.fromisoformat(ended) - datetime.fromisoformat(due))
    assert timedelta() <= min(late) <= max(late) <= timedelta(seconds=1)
    assert {trials.phase(key) for key in keys} == {"Gone"}


@pytest.mark.parametrize("signed", [True, False], ids=["of a user", "of a namespace"])
def test_who_races_at_the_limit_gets_it_once(trials: Trials, *, signed: bool) -> None:
    """Twenty at once, with four workers, and a watch that is always behind."""
    trials.allow(trials_per_user=3, trials_at_once=100 if signed else 3)
    trials.world.cluster.lagging = True
    make = trials.sign_and_create if signed else trials.create
    keys = [make(f"t{number}", user="jane", tokenSha256=token_of(f"t{number}")) for number in range(20)]
    trials.world.cluster.catch_up()
    trials.world.cluster.lagging = True
    trials.world.run(5)
    trials.world.cluster.catch_up()
    trials.world.run(5)

    phases = [trials.phase(key) for key in keys]
    assert (phases.count("Open"), phases.count("Refused")) == (3, 17)


def test_places_are_counted_anew_when_the_operator_was_killed(trials: Trials) -> None:
    first = [trials.create(f"t{number}", tokenSha256=token_of(f"t{number}")) for number in range(5)]
    trials.world.run(1)
    trials.world.restart()
    late = trials.create("late", tokenSha256=token_of("late"))
    trials.world.run(1)

    assert [trials.phase(key) for key in first] == ["Open"] * 5
    assert trials.phase(late) == "Refused"


@pytest.mark.parametrize("dedicated", [False, True], ids=["shared", "dedicated"])
def test_whenever_the_operator_dies_the_limit_holds_and_nothing_is_left(*, dedicated: bool) -> None:
    """Before and after every call that changes something, from the creation to the end."""

    def story(fault: Fault | None) -> list[str]:
        with made() as found:
            world = found.world
            found.allow(trials_at_once=1, trials_keep="1m")
            world.restart(fault)
            spec = {"isolation": "Dedicated"} if dedicated else {}
            keys = [found.create(name, duration="1m", **spec) for name in ("one", "two")]
            for _ in range(20):
                survive(found, 0.5)
            phases = sorted(found.phase(key) for key in keys)
            assert phases == ["Open", "Refused"], (fault, phases)
            assert len(world.cluster.tokens) == 1
            (opened,) = [key for key in keys if found.phase(key) == "Open"]
            due = datetime.fromisoformat(found.status(opened)["expiresAt"])
            while world.clock.now() < due + timedelta(seconds=1):
                survive(found, 0.25)
            assert found.phase(opened) == "Expired", (fault, found.status(opened))
            for _ in range(150):
                survive(found, 1)
            assert {found.phase(key) for key in keys} == {"Gone"}, fault
            assert world.cluster.tokens == {}
            assert [each.key for each in world.cluster.all() if each.kind is kinds.MODEL_SERVICE] == [SERVICE]
            assert world.life is not None
            return world.life.calls

    calls = story(None)
    changing = [
        fault for fault in faults(calls, crashes=True) if fault.call == 1 or calls[int(fault.call) - 1] in CHANGING
    ]
    assert len(changing) > 10
    for fault in changing:
        story(fault)


CHANGING = frozenset(
    {"cluster.patch_status", "cluster.set_finalizers", "cluster.delete_resource", "cluster.create_owned"}
    | {"cluster.issue_token", "cluster.revoke_token"}
)


def survive(trials: Trials, seconds: float) -> None:
    """Let time pass; an operator that dies is started again."""
    world = trials.world
    with contextlib.suppress(CrashError):
        world.run(seconds)
    if world.life is not None and world.life.dead:
        world.stop()
        world.start()


@pytest.mark.parametrize("hours", [1, -1, 24 * 365, -24 * 365])
def test_a_clock_that_is_set_lengthens_nothing(trials: Trials, hours: int) -> None:
    key = trials.create("t", tokenSha256=TOKEN, duration="2m")
    trials.world.run(1)
    trials.world.wrong = timedelta(hours=hours)
    trials.world.run(60)
    assert trials.phase(key) == "Open"
    trials.world.run(60)
    assert trials.phase(key) == "Expired"


@pytest.mark.parametrize("hours", [1, -1])
def test_when_the_operator_is_restarted_as_well_it_lasts_one_duration_more_at_most(trials: Trials, hours: int) -> None:
    key = trials.create("t", tokenSha256=TOKEN, duration="2m")
    trials.world.run(60)
    trials.world.stop()
    trials.world.wrong = timedelta(hours=hours)
    trials.world.start()
    trials.world.run(1)
    assert trials.phase(key) == ("Expired" if hours > 0 else "Open")
    trials.world.run(121)
    assert trials.phase(key) == "Expired"


def test_while_the_operator_was_away_its_time_went_on(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN, duration="2m")
    trials.world.run(1)
    trials.world.stop()
    trials.world.run(600)
    trials.allow(trials_at_once=1)
    late = trials.create("late", tokenSha256=token_of("late"))
    trials.world.start()
    trials.world.run(1)
    assert trials.phase(key) == "Expired"
    assert trials.phase(late) == "Open", "a place whose time is over is free, whoever comes first"


def test_an_api_server_that_is_away_at_the_end_is_told_as_soon_as_it_is_back(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN, duration="1m")
    trials.world.run(50)
    trials.world.cluster.outage = True
    trials.world.run(60)
    trials.world.cluster.outage = False
    trials.world.run(40)
    assert trials.phase(key) == "Expired"


def test_a_service_that_goes_takes_its_trials_with_it(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN)
    trials.world.run(1)
    trials.world.cluster.delete(SERVICE)
    trials.world.run(5)
    assert (trials.phase(key), trials.reason(key)) == ("Stopped", "ServiceRemoved")
    assert "tokenSha256" not in trials.status(key)


def test_a_service_that_fails_for_a_while_is_told_and_the_time_goes_on(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN, duration="5m")
    trials.world.run(1)
    until = trials.status(key)["expiresAt"]
    trials.world.serving.kill(trials.get(SERVICE).uid)
    trials.world.run_until(lambda: trials.reason(key) == "ServiceNotReady", within=30)
    assert trials.phase(key) == "Open"
    trials.world.run_until(lambda: trials.reason(key) == "Open", within=60)
    assert trials.status(key)["expiresAt"] == until


def test_a_spec_that_changes_after_all_ends_the_trial(trials: Trials) -> None:
    """On a server without CEL."""
    key = trials.create("t", tokenSha256=TOKEN)
    trials.world.run(1)
    trials.world.cluster.edit(key, {"duration": "60m"})
    trials.world.run(1)
    assert (trials.phase(key), trials.reason(key)) == ("Stopped", "SpecImmutable")


def test_a_status_that_is_lost_is_decided_on_anew_and_the_same_token_is_made(trials: Trials) -> None:
    key = trials.create("t")
    trials.world.run(1)
    tokens = dict(trials.world.cluster.tokens)
    trials.world.cluster.lose_status(key)
    trials.world.restart()
    trials.world.run(1)
    assert trials.phase(key) == "Open"
    assert trials.world.cluster.tokens == tokens


def test_what_is_applied_twice_is_one_trial_and_nothing_is_written(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN)
    trials.world.run(2)
    before = trials.world.cluster.status_patches
    trials.world.cluster.edit(key, {})
    trials.world.run(120)
    assert trials.world.cluster.status_patches == before
