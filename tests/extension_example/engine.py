"""An engine for pipelines in one module: it keeps runs in memory, and somebody moves them on by hand."""

from __future__ import annotations

from collections.abc import Iterable

from pelagos.api.permissions import Permission
from pelagos.engines.descriptors import Descriptor, EngineContext
from pelagos.engines.diagnosis import DoctorContext, Finding, warning
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.settings import Settings


class Blackboard(PipelinesFake):
    """Implements Pipelines."""

    def __init__(self, flows: str) -> None:
        super().__init__()
        self.flows = flows

    async def close(self) -> None:
        """Nothing is open."""


def _make(context: EngineContext) -> Blackboard:
    return Blackboard(str(context.flows))


def _contradiction(settings: Settings, _on_cluster: bool) -> str | None:
    return None if settings.data_uri else "PELAGOS_PIPELINES_ENGINE is blackboard: PELAGOS_DATA_URI must be set"


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    return [warning("pipelines", f"no chalk in {context.home}", "Bring some.")]


DESCRIPTOR = Descriptor(
    name="blackboard",
    system="blackboard",
    summary="a blackboard, and somebody who does what is on it",
    make=_make,
    contradiction=_contradiction,
    rights=(Permission("chalk.example", ("boards",), ("get",), "See the blackboard."),),
    diagnose=_diagnose,
)
