"""KServe on the test cluster: its definitions, and the fake server for its controller, which runs beside the test."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from cluster import definitions
from cluster.harness.cluster import Cluster
from kserve_fake_server.controller import Controller


class Kserve:
    """Works as long as the context lasts. What it makes of InferenceServices, the cluster runs."""

    def __init__(self, cluster: Cluster) -> None:
        for name in ("inferenceservices", "servingruntimes", "clusterservingruntimes"):
            path = definitions.KSERVE / f"serving.kserve.io_{name}.yaml"
            # As KServe's own instructions do: they are too large for the annotation of a client-side apply.
            cluster.kubectl("apply", "--server-side", "--filename", path)
        self.controller = Controller(cluster.rest(), definitions.inference_service_validator(), seconds=0.5)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="kserve-fake-server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self.controller.run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self._loop.run_until_complete(self.controller.rest.close())
        finally:
            self._loop.close()
