"""A client of a model server, outside of the cluster, that never stops asking."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from cluster.platform.site import Site
from pelagos.engines.triton import inference


class Client(threading.Thread):
    """Sends one request after another until the context ends."""

    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._ends = threading.Event()
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()

    def run(self) -> None:
        while not self._ends.is_set():
            try:
                self._ask()
                self.answers += 1
            except Exception as error:
                self.failures.append(f"{time.strftime('%X')} {type(error).__name__}: {error}")
            time.sleep(0.1)


def directly(site: Site, service: str, image: bytes) -> Callable[[], object]:
    """Asks the service itself, each time on a new connection."""
    host, _, port = site.get("modelservice", service)["status"]["endpoints"]["grpc"].rpartition(":")
    forwarded = site.cluster.forward_service(host.split(".")[0], int(port), site.tenant)
    return lambda: asyncio.run(inference.infer(f"127.0.0.1:{forwarded}", service, image, 20))
