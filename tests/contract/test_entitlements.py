"""Entitlements as providers send them, and whether they contain the required one."""

from __future__ import annotations

import pytest

from pelagos_contract import entitlements

GROUP = "urn:mace:egi.eu:group:imagine.eu:role=member#aai.egi.eu"
OLDER = "urn:mace:egi.eu:aai.egi.eu:member@imagine.eu"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (GROUP, GROUP),
        (GROUP, OLDER),
        (OLDER, GROUP),
        ("urn:mace:egi.eu:group:imagine.eu#aai.egi.eu", GROUP),
        ("urn:mace:egi.eu:group:imagine.eu", GROUP),
        ("urn:mace:egi.eu:group:imagine.eu:role=member", GROUP),
        ("urn:mace:egi.eu:group:imagine.eu", OLDER),
        ("access:imagine:ap-a", "access:imagine:ap-a"),
    ],
)
def test_the_same_membership_said_in_another_way_is_enough(asked: str, told: str) -> None:
    assert entitlements.satisfied([asked], ["something else", told])
    assert entitlements.satisfied(["urn:x:group:y", asked], [told])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (GROUP, "urn:mace:egi.eu:group:imagine.eu#aai.egi.eu"),
        (GROUP, "urn:mace:egi.eu:group:imagine.eu:role=manager#aai.egi.eu"),
        (GROUP, "urn:mace:egi.eu:group:imagine.eu:sub:role=member#aai.egi.eu"),
        (GROUP, "urn:mace:egi.eu:group:imagine.eu:role=member#aai.elsewhere.eu"),
        (GROUP, "urn:mace:elsewhere:group:imagine.eu:role=member#aai.egi.eu"),
        ("urn:mace:egi.eu:group:imagine.eu", "urn:mace:egi.eu:group:imagine.eu.evil.example#aai.egi.eu"),
        ("urn:mace:egi.eu:group:imagine.eu", "x urn:mace:egi.eu:group:imagine.eu"),
        ("access:imagine:ap-a", "access:imagine:ap-a1"),
        ("access:imagine:ap-a", "Access:imagine:ap-a"),
    ],
)
def test_what_only_looks_like_it_is_not(asked: str, told: str) -> None:
    assert not entitlements.satisfied([asked], [told])


def test_nobody_is_entitled_where_nothing_is_asked_for() -> None:
    assert not entitlements.satisfied([], [GROUP])


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        ([GROUP, OLDER], (GROUP, OLDER)),
        (GROUP, (GROUP,)),
        (f"{GROUP} {OLDER}", (GROUP, OLDER)),
        ([GROUP, 7, None, {"x": 1}, "x" * 5000], (GROUP,)),
        (None, ()),
        ({"x": GROUP}, ()),
        (["a"] * 9999, ("a",) * entitlements.MOST),
    ],
)
def test_claims_are_lists_or_texts_and_bounded(claim: object, found: tuple[str, ...]) -> None:
    assert entitlements.listed(claim) == found
