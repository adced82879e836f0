"""Real: the gateway, Envoy, the servers behind it. Not real: the API server, unless a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.sites import Site, running
from model_packages import environments

__all__ = ["environments"]


@pytest.fixture
async def site(environments: Path) -> AsyncIterator[Site]:
    """A gateway that requires a token of everyone."""
    async with running(environments) as found:
        yield found


@pytest.fixture
async def open_site(environments: Path) -> AsyncIterator[Site]:
    """A gateway that requires no token on loopback."""
    async with running(environments, open=True) as found:
        yield found


@pytest.fixture
async def two_services(site: Site) -> Site:
    """A site that serves reef/detector and reef/classifier."""
    for name in ("detector", "classifier"):
        await site.serve("reef", name)
    return site
