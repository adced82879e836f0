"""Serves the hub: pages on one port; /metrics, /healthz and /readyz on another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
from pydantic import ValidationError
from typing_extensions import override

from pelagos.engines.kubernetes import connecting
from pelagos_hub import health
from pelagos_hub.app import make_app
from pelagos_hub.connections import Impatient
from pelagos_hub.settings import Settings
from pelagos_hub.watched import WatchedCluster

_STOP_SECONDS = 3
_MOST_CONNECTIONS = 512


class _Server(uvicorn.Server):
    """A server without signal handlers: two of them share the process, which handles signals itself."""

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Serve both ports until SIGTERM or SIGINT."""
    cluster = WatchedCluster(connecting.connect(settings.kubeconfig), settings.namespace)
    app = make_app(settings, cluster)
    common: dict[str, Any] = {
        "host": settings.listen_address,
        "log_config": None,
        "http": Impatient,
        # Access log lines would contain query strings, which can hold login tokens.
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": _STOP_SECONDS,
    }
    servers = [
        _Server(
            uvicorn.Config(app, port=settings.port, limit_concurrency=_MOST_CONNECTIONS, proxy_headers=False, **common)
        ),
        _Server(
            uvicorn.Config(health.make_app(app.state.hub), port=settings.metrics_port, proxy_headers=False, **common)
        ),
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop)
    await asyncio.gather(*(server.serve() for server in servers))


def main() -> int:
    """Serve until a signal; returns the exit code, 2 when the hub cannot start."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    # At INFO it logs every call of the provider and the gateway with its URL.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        settings = Settings()
        asyncio.run(serve(settings))
    except (ValidationError, connecting.NoClusterError, OSError) as error:
        print(f"The hub cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
