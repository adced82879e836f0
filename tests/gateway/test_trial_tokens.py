"""Trials through the gateway."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.sites import BINARY, INFER, Site, until
from pelagos_gateway.trials import Trials

READY = "/reef/detector/v2/health/ready"


async def test_the_token_of_a_trial_opens_its_service_by_both_protocols(site: Site) -> None:
    upstream = await site.serve("reef", "detector")
    token = await site.trial("reef", "mine", "detector")
    answer = await site.ask("GET", READY, token=token)
    assert (answer.status, answer.body) == (200, b'{"model_name": "detector", "outputs": []}')
    infer = "/reef/detector/v2/models/detector/infer"
    assert (await site.ask("POST", infer, b"image", token, **BINARY)).status == 200
    assert await site.call(INFER, b"x", token) == ("OK", "")
    assert [(path, body) for path, body, _ in upstream.reached] == [
        ("/v2/health/ready", b""),
        ("/v2/models/detector/infer", b"image"),
        (INFER, b"x"),
    ]
    for _, _, headers in upstream.reached:
        assert not {name for name in headers if name.startswith("pelagos") or name == "authorization"}


async def test_nobody_gets_in_without_a_token(site: Site) -> None:
    upstream = await site.serve("reef", "detector")
    answer = await site.ask("GET", READY)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="pelagos"')
    assert "Send 'Authorization: Bearer <token>'" in answer.error
    code, words = await site.call(pelagos_service="reef/detector")
    assert code == "UNAUTHENTICATED"
    assert "Send 'Authorization: Bearer <token>'" in words
    assert upstream.reached == []


async def test_a_trial_opens_its_own_service_and_no_other(site: Site) -> None:
    await site.serve("reef", "detector")
    other = await site.serve("reef", "classifier")
    token = await site.trial("reef", "mine", "detector")
    for path in (
        "/reef/classifier/v2",
        "/reef/classifier/v2/../../classifier/v2/models/m/infer",
        "/lagoon/detector/v2",
    ):
        answer = await site.ask("GET", path, token=token)
        assert answer.status == 403, path
        assert "This trial is for reef/detector, and opens nothing else" in answer.error
    assert (await site.call(token=token, pelagos_service="reef/classifier"))[0] == "PERMISSION_DENIED"
    assert (await site.call(token=token, pelagos_service="reef/detector"))[0] == "OK"
    assert other.reached == []


async def test_a_trial_of_another_namespace_opens_nothing_here_whatever_its_status_says(site: Site) -> None:
    await site.serve("reef", "detector")
    token = f"pt_{'a' * 43}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    status = {
        "phase": "Open",
        "tokenSha256": digest,
        "expiresAt": "2999-01-01T00:00:00Z",
        "service": {"name": "detector", "namespace": "reef"},
    }
    await site.api.put("trials", "lagoon", "forged", spec={"duration": "10m"}, status=status)
    await site.trial("lagoon", "marker", "detector")
    assert (await site.ask("GET", READY, token=token)).status == 401


async def test_a_token_dies_at_its_time_though_nobody_else_is_there(site: Site) -> None:
    await site.serve("reef", "detector")
    token = await site.trial("reef", "mine", "detector", seconds=600)
    await site.api.stop()
    site.clock.ahead = 598
    assert (await site.ask("GET", READY, token=token)).status == 200
    site.clock.ahead = 600
    answer = await site.ask("GET", READY, token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="pelagos", error="invalid_token"'
    assert "This trial has ended" in answer.error
    assert (await site.call(token=token))[0] == "UNAUTHENTICATED"
    await site.api.start()


async def test_a_trial_that_is_stopped_ends_at_once(site: Site) -> None:
    await site.serve("reef", "detector")
    token = await site.trial("reef", "mine", "detector")
    assert (await site.ask("GET", READY, token=token)).status == 200
    await site.api.delete("trials", "reef", "mine")
    await until(lambda: not site.gateway._trials.open_at(0))
    assert (await site.ask("GET", READY, token=token)).status == 401


@pytest.mark.parametrize("change", ["longer", "reopened"])
async def test_nothing_that_is_written_later_gives_a_trial_more_time(site: Site, change: str) -> None:
    await site.serve("reef", "detector")
    token = await site.trial("reef", "mine", "detector", seconds=60)
    body = site.api.objects["trials", "reef", "mine"]
    status = body["status"] | {"expiresAt": "2999-01-01T00:00:00Z"}
    if change == "reopened":
        await site.api.put("trials", "reef", "mine", spec=body["spec"], status=status | {"phase": "Expired"})
    await site.api.put("trials", "reef", "mine", spec=body["spec"], status=status)
    await site.trial("reef", "marker", "detector")
    site.clock.ahead = 61
    assert (await site.ask("GET", READY, token=token)).status == 401


COPIED = {"metadata": {"creationTimestamp": "2026-11-29T12:00:01Z"}}


@pytest.mark.parametrize("namespace", ["lagoon", "reef"])
async def test_who_copies_the_digest_of_a_token_gets_nothing_of_what_is_sent_with_it(
    site: Site, namespace: str
) -> None:
    hers = await site.serve("reef", "detector")
    his = await site.serve(namespace, "copier")
    token = await site.trial("reef", "mine", "detector", metadata={"creationTimestamp": "2026-11-29T12:00:00Z"})
    spec = {"tokenSha256": hashlib.sha256(token.encode()).hexdigest()}
    status = site.api.objects["trials", "reef", "mine"]["status"] | {"service": {"name": "copier"}}
    await site.api.put("trials", namespace, "a-copy", **COPIED, spec=spec, status=status)
    await site.trial("reef", "marker", "detector")

    assert await site.call(INFER, b"image", token) == ("OK", "")
    assert [body for _, body, _ in hers.reached] == [b"image"]
    # Nor does the copy inherit it, as long as the gateway runs.
    await site.api.delete("trials", "reef", "mine")
    await site.trial("reef", "another-marker", "detector")
    assert (await site.call(INFER, b"image", token))[0] == "UNAUTHENTICATED"
    assert his.reached == []


@pytest.mark.parametrize("phase", ["Open", "Expired"])
def test_of_several_trials_with_one_token_the_first_has_it_whatever_became_of_it(phase: str) -> None:
    now = datetime.now(UTC)
    first, copy, token = opened(0, now, phase=phase), opened(0, now), f"pt_{0:043d}"
    first["spec"]["tokenSha256"] = copy["spec"]["tokenSha256"] = copy["status"]["tokenSha256"]
    for ours, theirs, uid in (("12:00:00Z", "12:00:01Z", "a"), ("12:00:01Z", "12:00:01Z", "x")):
        first["metadata"] |= {"creationTimestamp": f"2026-11-29T{ours}", "uid": "b"}
        copy["metadata"] |= {"creationTimestamp": f"2026-11-29T{theirs}", "uid": uid}
        for order in ((first, copy), (copy, first)):
            trials = Trials()
            trials.take({("reef", str(number)): body for number, body in enumerate(order)}, now, 0.0)
            found = trials.opened(token, 0.0)
            assert (found.uid if found is not None else None) == ("b" if phase == "Open" else None)


def test_a_token_of_a_trial_that_was_refused_may_be_used_again() -> None:
    now = datetime.now(UTC)
    refused, again = opened(0, now, phase="Refused"), opened(0, now)
    refused["spec"]["tokenSha256"] = again["spec"]["tokenSha256"] = again["status"]["tokenSha256"]
    again["metadata"]["uid"] = "again"
    trials = Trials()
    trials.take({("reef", "0"): refused, ("reef", "again"): again}, now, 0.0)
    assert trials.opened(f"pt_{0:043d}", 0.0) is not None


def opened(number: int, now: datetime, **status: Any) -> dict[str, Any]:
    digest = hashlib.sha256(f"pt_{number:043d}".encode()).hexdigest()
    ends = (now + timedelta(seconds=60 + number)).isoformat()
    told = {"phase": "Open", "tokenSha256": digest, "expiresAt": ends, "service": {"name": "detector"}}
    metadata = {"namespace": "reef", "name": str(number), "uid": str(number)}
    return {"metadata": metadata, "spec": {"duration": "60m"}, "status": told | status}


def test_of_a_thousand_trials_none_outlives_its_time() -> None:
    now, trials = datetime.now(UTC), Trials()
    found = {("reef", str(number)): opened(number, now) for number in range(1000)}
    trials.take(found, now, 0.0)
    for number in range(1000):
        token = f"pt_{number:043d}"
        assert (found_now := trials.opened(token, 60 + number - 0.001)) is not None
        assert found_now.service == "reef/detector"
        assert trials.opened(token, 60.0 + number) is None
    assert len(trials.open_at(559.5)) == 500


@pytest.mark.parametrize("moved", [timedelta(days=-365), timedelta(days=365)])
def test_a_clock_that_is_set_while_the_gateway_lives_changes_nothing(moved: timedelta) -> None:
    now, trials = datetime.now(UTC), Trials()
    found = {("reef", "0"): opened(0, now)}
    trials.take(found, now, 0.0)
    trials.take(found, now + moved, 10.0)
    assert trials.opened(f"pt_{0:043d}", 60.0) is None


def test_after_a_restart_with_a_clock_that_was_set_back_a_trial_has_its_duration_at_most() -> None:
    now, trials = datetime.now(UTC), Trials()
    trials.take({("reef", "0"): opened(0, now)}, now - timedelta(days=365), 0.0)
    assert trials.opened(f"pt_{0:043d}", 3599.0) is not None
    assert trials.opened(f"pt_{0:043d}", 3600.0) is None


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Pending"},
        {"phase": "Expired"},
        {"tokenSha256": "short"},
        {"expiresAt": "soon"},
        {"expiresAt": None},
        {"service": None},
        {"service": {"name": "detector", "namespace": "lagoon"}},
    ],
)
def test_what_is_not_open_or_cannot_be_understood_opens_nothing(status: dict[str, Any]) -> None:
    now, trials = datetime.now(UTC), Trials()
    trials.take({("reef", "0"): opened(0, now, **status)}, now, 0.0)
    assert trials.open_at(0.0) == []


@pytest.mark.parametrize("token", ["", "pt_", f"pt_{0:042d}", f"pt_{0:044d}", f"PT_{0:043d}", f"pt_{0:043d}\n"])
def test_a_token_is_as_it_was_given_or_is_none(token: str) -> None:
    now, trials = datetime.now(UTC), Trials()
    trials.take({("reef", "0"): opened(0, now)}, now, 0.0)
    assert trials.opened(token, 0.0) is None
