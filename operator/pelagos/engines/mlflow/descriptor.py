"""The descriptor of MLflow; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.engines.descriptors import Descriptor, EngineContext, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.settings import Settings

SECRETS = (
    frozenset({"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}),
    frozenset({"MLFLOW_TRACKING_TOKEN"}),
)
"""Named like the environment variables that MLflow's own client reads."""


def _make(context: EngineContext) -> Tracker:
    from pelagos.engines.mlflow.registry import MlflowRegistry
    from pelagos.engines.mlflow.rest import MlflowRest
    from pelagos.engines.mlflow.tracking import MlflowTracking

    given = context.settings
    rest = MlflowRest.from_settings(given, guard=context.guard)
    tracking = MlflowTracking(rest, given.tracking_public_url or given.tracking_uri)
    return Tracker(tracking, MlflowRegistry(rest), rest.close)


def _contradiction(settings: Settings, on_cluster: bool) -> str | None:
    """Requires an address on a cluster. On one machine the supervisor starts a server and passes its address to the operator."""
    if settings.tracking_uri or not on_cluster:
        return None
    return "PELAGOS_TRACKING_URI must be the address of the MLflow server, for example http://mlflow:5000"


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.mlflow import diagnosis

    return await diagnosis.look(context)


DESCRIPTOR = Descriptor(
    name="mlflow",
    system="mlflow",
    summary="an MLflow server",
    make=_make,
    contradiction=_contradiction,
    secrets=SECRETS,
    diagnose=_diagnose,
)
