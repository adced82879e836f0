"""The checks of ``pelagos doctor`` for model servers on this machine. Called through the descriptor."""

from __future__ import annotations

from collections.abc import Iterable

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, ok, program
from pelagos.engines.triton_local.gateway import Gateway
from pelagos.settings import Settings


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check Triton's environment, and the gateway in front of the servers."""
    given = context.settings
    return [program("serving", given.environments / "triton/bin/python"), await _gateway(given)]


async def _gateway(given: Settings) -> Finding:
    """Check the Envoy in front of local model servers."""
    gateway = Gateway(given.home.absolute(), given.environments.absolute() / "triton")
    if not gateway.is_installed:
        return failure("gateway", "Envoy is missing in the environment triton", "make install")
    trouble = await gateway.trouble()
    if trouble:
        return failure("gateway", trouble, "The operator starts it within seconds; if this persists, see its log.")
    return ok("gateway", "Envoy runs in front of the model servers" if gateway.process else "Envoy; no model is served")
