"""A user id that no pod may have is refused when it is set, and not by the API server when a step is to run."""

from __future__ import annotations

import pytest

from pelagos.settings import Settings


@pytest.mark.parametrize("user", ["", "1", "10001", "2147483647"])
def test_a_user_of_pods_is_taken(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("PELAGOS_POD_USER", user)

    assert Settings().pod_user == user


@pytest.mark.parametrize("user", ["2147483648", "9999999999"])
def test_a_user_that_kubernetes_does_not_take_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setenv("PELAGOS_POD_USER", user)

    with pytest.raises(
        ValueError, match=f"PELAGOS_POD_USER is {user}; allowed: a user from 1 to 2147483647, or nothing"
    ):
        Settings()


@pytest.mark.parametrize("user", ["0", "-1", "root", "1e3"])
def test_what_is_no_user_is_refused(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("PELAGOS_POD_USER", user)

    with pytest.raises(ValueError, match="pod_user"):
        Settings()
