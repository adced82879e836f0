"""What a Trial may ask for: one model, for a time within bounds, with bounded data about the user."""

from __future__ import annotations

from typing import Any

import pytest

from pelagos.api import crds, kinds
from pelagos.api.trial import TrialSpec
from pelagos.decisions import rules

SHARED: dict[str, Any] = {"modelServiceRef": {"name": "plankton"}}
REGISTERED: dict[str, Any] = {"registry": {"model": "plankton", "alias": "champion"}}


def violation(spec: dict[str, Any]) -> str | None:
    return rules.violation(TrialSpec.model_validate(spec))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"isolation": "Dedicated"},
        {"user": "0123456789abcdef", "displayName": "Ærøskøbing, N. N.", "entitlements": ["urn:geant:a:b#c"]},
        {"duration": "1m"},
        {"duration": "60m"},
        {"duration": "1h"},
        {"duration": "9m60s", "tokenSha256": "0" * 64},
    ],
    ids=str,
)
def test_what_is_allowed(more: dict[str, Any]) -> None:
    assert violation(SHARED | more) is None


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.modelServiceRef and spec.registry: set exactly one of them"),
        (SHARED | REGISTERED, "spec.modelServiceRef and spec.registry: set exactly one of them"),
        ({"registry": {"model": "plankton"}}, "spec.registry: set exactly one of alias and version"),
        ({"registry": {"model": "p", "alias": "a", "version": "1"}}, "spec.registry: set exactly one"),
        (REGISTERED | {"isolation": "Shared"}, "spec.isolation: Shared goes with spec.modelServiceRef"),
        (SHARED | {"duration": "59s"}, "spec.duration must be from 1m to 60m; it is '59s'"),
        (SHARED | {"duration": "61m"}, "spec.duration must be from 1m to 60m; it is '61m'"),
        (SHARED | {"duration": "1h1s"}, "spec.duration must be from 1m to 60m"),
    ],
    ids=str,
)
def test_what_breaks_a_rule_is_told_with_the_field(spec: dict[str, Any], field: str) -> None:
    assert (violation(spec) or "").startswith(field)


@pytest.mark.parametrize(
    "more",
    [
        {"user": ""}, {"user": "x" * 129}, {"user": "a\nb"}, {"user": " a"}, {"displayName": "a\x1b[31m"},
        {"displayName": "x" * 201},
        {"duration": "10"}, {"duration": "1d"}, {"duration": "99999m"}, {"duration": "-1m"}, {"tokenSha256": "0" * 63},
        {"tokenSha256": "A" * 64}, {"entitlements": ["a b"]}, {"entitlements": [""]}, {"entitlements": ["x"] * 17},
        {"entitlements": ["x" * 513]}, {"suspend": True},
    ],
    ids=lambda more: str(more)[:40],
)  # fmt: skip
def test_what_has_a_bad_form_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TrialSpec.model_validate(SHARED | more)


@pytest.mark.parametrize(
    ("spec", "dedicated"),
    [(SHARED, False), (REGISTERED, True), (SHARED | {"isolation": "Dedicated"}, True)],
    ids=str,
)
def test_who_shares_a_server(spec: dict[str, Any], *, dedicated: bool) -> None:
    assert TrialSpec.model_validate(spec).is_dedicated is dedicated


@pytest.mark.parametrize(
    ("asked", "longest", "lasts"),
    [(None, "10m", "10m"), (None, "5m", "5m"), (None, "60m", "10m"), ("20m", "60m", "20m"), ("20m", "5m", "20m")],
)
def test_who_asks_for_no_duration_gets_the_usual_one_or_what_is_allowed(
    asked: str | None, longest: str, lasts: str
) -> None:
    assert TrialSpec.model_validate(SHARED | {"duration": asked}).lasting(longest) == lasts


def test_a_trial_is_immutable_and_the_server_stores_what_is_sent() -> None:
    """The hub signs what it sends: a default that the server filled in would break the signature."""
    spec = crds.render(kinds.TRIAL)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rendered = [rule["rule"] for rule in spec["x-kubernetes-validations"]]

    assert set(kinds.TRIAL.frozen) == set(spec["properties"])
    for name, field in spec["properties"].items():
        assert {"rule": "self == oldSelf", "message": f"spec.{name} is immutable; create a new Trial instead"} in field[
            "x-kubernetes-validations"
        ]
        assert f"has(self.{name}) == has(oldSelf.{name})" in rendered
    assert "default" not in str(spec).replace("'description'", "").replace("Default", "")
