"""``python -m pelagos_gateway``: settings come from the environment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

from pydantic import ValidationError

from pelagos.engines.kubernetes import connecting
from pelagos.ports.clock import monotonic
from pelagos_gateway.app import Gateway
from pelagos_gateway.identities import identities_of
from pelagos_gateway.settings import Settings


async def _run(settings: Settings) -> None:
    stopping = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    identities = identities_of(settings, monotonic) if settings.oidc_issuer else None
    gateway = Gateway(settings, connecting.connect(settings.kubeconfig), identities)
    try:
        await gateway.run(stopping.wait())
    finally:
        if identities is not None:
            await identities.close()


def main() -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. 2: it cannot run, and stderr says why."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings()
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_run(settings))
    except (ValidationError, connecting.NoClusterError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"The gateway cannot run: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
