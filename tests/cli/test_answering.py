"""`pelagos up` waits for model servers that ran before, and names those that do not answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pelagos.cli import answering
from pelagos.cli.answering import Silent

Body = Mapping[str, Any]


def service(
    name: str, *, reason: str = "Serving", stalled: bool = False, served: bool = True, suspend: bool = False
) -> Body:
    conditions = [{"type": "Ready", "status": "True", "reason": reason, "message": "words"}]
    conditions += [{"type": "Stalled", "status": "True", "reason": reason, "message": "words"}] if stalled else []
    status = {"conditions": conditions} | ({"model": {"name": name}} if served else {})
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"suspend": suspend}, "status": status}


def follow(bodies: list[Body], answers: Callable[[Body], bool], patience: float = 60) -> list[Silent]:
    return list(answering.follow(lambda: bodies, answers, patience))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_PERIOD", 0.0)


def test_a_server_that_starts_is_waited_for_whatever_its_status_says_from_before() -> None:
    looks = iter([False, False, True])

    assert follow([service("detector")], lambda _body: next(looks)) == []


def test_an_api_server_that_does_not_tell_now_is_asked_again() -> None:
    looks = iter([None, [service("broken", stalled=True)]])

    assert [silent.name for silent in answering.follow(lambda: next(looks), lambda _body: False, 60)] == [
        "default/broken"
    ]


def test_one_that_does_not_answer_in_time_is_named_with_what_its_status_says() -> None:
    found = follow(
        [service("well"), service("slow", reason="Loading")], lambda body: body["metadata"]["name"] == "well", 0
    )

    assert found == [Silent("default/slow", "Loading: words")]


def test_one_that_waits_for_a_person_is_named_at_once() -> None:
    found = follow([service("broken", reason="ModelLoadFailed", stalled=True)], lambda _body: False)

    assert found == [Silent("default/broken", "ModelLoadFailed: words")]


@pytest.mark.parametrize("kind", [{"served": False}, {"suspend": True}], ids=str)
def test_one_that_never_served_or_is_suspended_keeps_nobody_waiting(kind: Any) -> None:
    assert follow([service("later", **kind)], lambda _body: False) == []


@pytest.mark.parametrize("url", [None, "file:///etc/passwd", "http://192.0.2.1:80", "http://127.0.0.1:x"])
def test_nobody_but_a_server_of_this_machine_is_asked(url: str | None) -> None:
    body = service("detector")
    status = {**body["status"], "endpoints": {"http": url}}

    assert not answering._answers({**body, "status": status})
