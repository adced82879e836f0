"""One real API server for the tests that need one; each test leaves it as it was. See tests/installed.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import installed
from model_packages import environments, make_want, packages

__all__ = ["environments", "make_want", "packages"]


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[installed.Site]:
    """An API server without our kinds."""
    with installed.site(tmp_path_factory.mktemp("site"), "--allow-privileged=true") as running:
        yield running


@pytest.fixture(scope="package")
def strict_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[installed.Site]:
    """Another one, which enforces who may block an owner's deletion by its dependents (as OpenShift does)."""
    options = ("--enable-admission-plugins=OwnerReferencesPermissionEnforcement",)
    with installed.site(tmp_path_factory.mktemp("strict"), *options) as running:
        yield running
