"""A client of a model server, outside of the cluster, that never stops asking."""

from __future__ import annotations

import asyncio
import threading
import time

from cluster.platform.site import Site
from pelagos.engines.triton import inference


class Client(threading.Thread):
    """Sends one request after another, each on a new connection, until the context ends."""

    def __init__(self, site: Site, service: str, image: bytes) -> None:
        super().__init__(daemon=True)
        host, _, port = site.get("modelservice", service)["status"]["endpoints"]["grpc"].rpartition(":")
        self._port = site.cluster.forward_service(host.split(".")[0], int(port), site.tenant)
        self._service, self._image = service, image
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
                asyncio.run(inference.infer(f"127.0.0.1:{self._port}", self._service, self._image, 20))
                self.answers += 1
            except inference.InferenceError as error:
                self.failures.append(f"{time.strftime('%X')} {error}")
            time.sleep(0.1)
