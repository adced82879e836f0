"""A tracker in one module: a notebook, which keeps runs and models in memory."""

from __future__ import annotations

from pelagos.engines.descriptors import Descriptor, EngineContext, Tracker
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.settings import Settings


class Notebook(TrackingFake):
    """Implements Tracking."""

    async def close(self) -> None:
        """Nothing is open."""


def _make(_context: EngineContext) -> Tracker:
    notebook = Notebook()
    return Tracker(notebook, RegistryFake(), notebook.close)


def _contradiction(settings: Settings, _on_cluster: bool) -> str | None:
    return "PELAGOS_TRACKER is notebook: PELAGOS_TRACKING_URI must be empty" if settings.tracking_uri else None


DESCRIPTOR = Descriptor(
    name="notebook",
    system="notebook",
    summary="a notebook, and somebody who writes into it",
    make=_make,
    contradiction=_contradiction,
    secrets=(frozenset({"NOTEBOOK_PIN"}),),
)
