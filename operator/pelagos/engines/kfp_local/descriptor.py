"""The descriptor of pipelines on this machine; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.engines.descriptors import Descriptor, EngineContext
from pelagos_contract.flows import PREPARATION, TRAINING
from pelagos_contract.weights_and_biases import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.kfp_local.engine import KfpLocal
    from pelagos.settings import Settings


def _make(context: EngineContext) -> KfpLocal:
    from pelagos.engines.kfp_local.engine import KfpLocal
    from pelagos.engines.kfp_local.launch import Login
    from pelagos.engines.kfp_local.room import Room, cores_of_this_machine, has_gpus, memory_of_this_machine
    from pelagos.engines.kubernetes.secrets import SecretReader

    given = context.settings
    return KfpLocal(
        given.home,
        _interpreter(given),
        context.flows,
        keys=context.authority.step_environment,
        secrets=SecretReader(context.api).find,
        capacity={
            PREPARATION.name: Room(runs=given.parallel_preparations),
            TRAINING.name: Room(
                given.parallel_trainings,
                given.training_cores or cores_of_this_machine(),
                memory_of_this_machine(),
                has_gpus(),
            ),
        },
        login=Login(given.steps_tracking_username_file, given.steps_tracking_password_file),
    )


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.diagnosis import note, ok, program

    client, subject = context.settings.environments / ENVIRONMENT / "bin" / "python", "weights and biases"
    asked = (
        ok(subject, f"the client is in {client.parent.parent}")
        if client.exists()
        else note(subject, "the client is not installed; only trainings that ask for it need it", "make wandb")
    )
    return [program("pipelines", _interpreter(context.settings)), asked]


def _interpreter(settings: Settings) -> Path:
    return settings.environments / "pipelines" / "bin" / "python"


DESCRIPTOR = Descriptor(
    name="local",
    system="kfp",
    summary="processes of this machine",
    make=_make,
    is_elsewhere=False,
    diagnose=_diagnose,
)
