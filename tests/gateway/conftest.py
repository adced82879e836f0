"""Real: the gateway, Envoy, the servers behind. Not real: the API server, but where a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sites import Site, running
from model_packages import environments

__all__ = ["environments"]


@pytest.fixture
async def site(environments: Path) -> AsyncIterator[Site]:
    """A gateway where everybody needs a token."""
    async with running(environments) as found:
        yield found


@pytest.fixture
async def open_site(environments: Path) -> AsyncIterator[Site]:
    """One that needs none on loopback."""
    async with running(environments, open=True) as found:
        yield found


@pytest.fixture
async def two_services(site: Site) -> Site:
    """It serves reef/detector and reef/classifier."""
    for name in ("detector", "classifier"):
        await site.serve("reef", name)
    return site
