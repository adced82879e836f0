"""Seals: what one states, and that nothing else is accepted as one. Both sides of a pipeline run compute the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from pelagos.engines.storage import reports
from pelagos.ports.authority import Authority, NoKeyError
from pelagos.ports.errors import RejectedError
from pelagos.ports.fakes.authority import KeysFake
from pelagos_contract import sealing

RUN = "training-3c9a8f4e-0000-4000-8000-000000000001-0123456789ab"
RESULT: dict[str, Any] = {
    "metrics": {"test/mAP50": 0.1 + 0.2, "test/recall/Größe": 1.0, "nothing": None, "tiny": 1e-17},
    "epochs": 3,
    "model": {"uri": "/store/m", "labels": ["ä", "\u2028"]},
}
OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))


def as_step(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in (sealing.STEP_KEY, sealing.STEP_NAMESPACE_KEY, sealing.STEP_RUN, sealing.STEP_ATTEMPT):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_seal_holds_for_its_claim_and_purpose_alone() -> None:
    authority = Authority(KeysFake())
    seal = authority.seal("tracked", {"uid": "1", "run": "a"})

    assert authority.holds("tracked", {"run": "a", "uid": "1"}, seal)
    assert not authority.holds("tracked", {"uid": "1", "run": "b"}, seal)
    assert not authority.holds("tracked", {"uid": "1"}, seal)
    assert not authority.holds("other", {"uid": "1", "run": "a"}, seal)
    for nonsense in (None, "", 7, seal[:-1], seal.upper(), f"{seal} ", "v1:é", [seal]):
        assert not authority.holds("tracked", {"uid": "1", "run": "a"}, nonsense)


def test_what_is_nested_as_deeply_as_can_be_read_is_no_claim_of_ours() -> None:
    authority, depth = Authority(KeysFake()), 800
    with contextlib.suppress(RejectedError):
        while True:
            content = f'{{"found": {"[" * depth}{"]" * depth}, "seal": {{"mac": "v1:00", "attempt": 1}}}}'
            report = reports.parsed("objects", "result.json", content.encode())
            assert authority.unseal("reef", RUN, 1, report)[0] is None
            assert not authority.holds("record", report, "v1:00")
            depth += 1
    assert depth > 800


def test_after_a_rotation_the_newest_key_seals_and_earlier_ones_are_still_read() -> None:
    before, after, without = (Authority(KeysFake(*keys)) for keys in ((OLD,), (NEW, OLD), (NEW,)))
    seal = before.seal("tracked", {"uid": "1"})

    assert after.holds("tracked", {"uid": "1"}, seal)
    assert after.seal("tracked", {"uid": "1"}) != seal
    assert not before.holds("tracked", {"uid": "1"}, after.seal("tracked", {"uid": "1"}))
    assert not without.holds("tracked", {"uid": "1"}, seal)


def test_without_a_key_nothing_is_sealed_and_nothing_holds() -> None:
    keys = KeysFake()
    authority = Authority(keys)
    seal = authority.seal("tracked", {})
    keys.known = ()

    asked: list[Callable[[], object]] = [
        authority.require,
        lambda: authority.seal("tracked", {}),
        lambda: authority.holds("tracked", {}, seal),
        lambda: authority.step_environment("reef", RUN, 1),
        lambda: authority.unseal("reef", RUN, 1, RESULT),
    ]
    for ask in asked:
        with pytest.raises(NoKeyError):
            ask()


@pytest.mark.parametrize("on_cluster", [False, True], ids=["key of the run", "key of the namespace"])
def test_what_a_step_seals_is_what_the_operator_believes(monkeypatch: pytest.MonkeyPatch, on_cluster: bool) -> None:
    authority = Authority(KeysFake())
    environment = (
        {sealing.STEP_NAMESPACE_KEY: authority.namespace_key("reef")} | sealing.step_identity(RUN, 2)
        if on_cluster
        else authority.step_environment("reef", RUN, 2)
    )
    as_step(monkeypatch, environment)

    assert authority.unseal("reef", RUN, 2, sealing.sealed(RESULT)) == (RESULT, "")


def test_a_key_of_a_run_is_none_of_another_run_or_namespace() -> None:
    authority = Authority(KeysFake())
    keys = [authority.step_environment(*asked)[sealing.STEP_KEY] for asked in (("reef", RUN, 1), ("bay", RUN, 1))]
    keys += [authority.step_environment("reef", f"{RUN}c", 1)[sealing.STEP_KEY], authority.namespace_key("reef")]
    assert len(set(keys)) == 4
    assert authority.step_environment("reef", RUN, 2)[sealing.STEP_KEY] == keys[0]


def altered(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda report: report | changes


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda report: {name: value for name, value in report.items() if name != "seal"}, "it carries no seal"),
        (altered(seal="v1:00"), "it carries no seal"),
        (altered(seal={"attempt": 2}), "its seal does not belong to this run"),
        (altered(epochs=4), "its seal does not belong to this run"),
        (altered(more="of it"), "its seal does not belong to this run"),
        (altered(metrics={"test/mAP50": 1.0}), "its seal does not belong to this run"),
        (lambda report: report | {"seal": report["seal"] | {"attempt": 3}}, "its seal does not belong to this run"),
    ],
)
def test_a_report_that_was_altered_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, alter: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    authority = Authority(KeysFake())
    as_step(monkeypatch, authority.step_environment("reef", RUN, 2))

    content, doubt = authority.unseal("reef", RUN, 2, alter(sealing.sealed(RESULT)))

    assert content is None
    assert doubt.startswith(words)


def test_a_report_of_another_attempt_run_namespace_or_key_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(KeysFake(NEW, OLD))
    as_step(monkeypatch, authority.step_environment("reef", RUN, 1))
    report = sealing.sealed(RESULT)

    assert authority.unseal("reef", RUN, 2, report) == (None, "it belongs to attempt 1, and the run is at attempt 2")
    for namespace, run in (("bay", RUN), ("reef", f"{RUN}c")):
        assert authority.unseal(namespace, run, 1, report)[0] is None
    assert Authority(KeysFake(OTHER)).unseal("reef", RUN, 1, report)[0] is None
    assert Authority(KeysFake(OTHER, NEW)).unseal("reef", RUN, 1, report) == (RESULT, "")


def test_a_seal_of_a_state_is_none_of_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(KeysFake())
    as_step(monkeypatch, authority.step_environment("reef", RUN, 1))

    assert authority.unseal("reef", RUN, 1, sealing.sealed(RESULT, sealing.STATE, step="export"))[0] is None
    assert sealing.opened(sealing.sealed(RESULT, sealing.STATE, step="train"), sealing.STATE, step="evaluation") is None
