"""The descriptor of model servers of this machine; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.engines.descriptors import Descriptor, EngineContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.triton_local.engine import TritonLocal


def _make(context: EngineContext) -> TritonLocal:
    from pelagos.engines.triton_local.engine import TritonLocal

    hosts = tuple(filter(None, context.settings.serving_hosts.split(",")))
    return TritonLocal(context.settings.home, context.settings.environments, hosts=hosts)


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.triton_local import diagnosis

    return await diagnosis.look(context)


DESCRIPTOR = Descriptor(
    name="local",
    system="triton",
    summary="Triton processes of this machine",
    make=_make,
    is_elsewhere=False,
    diagnose=_diagnose,
)
