"""Model servers of this machine in a word: see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.engines.descriptors import Descriptor, Site

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.triton_local.engine import TritonLocal


def _make(site: Site) -> TritonLocal:
    from pelagos.engines.triton_local.engine import TritonLocal

    hosts = tuple(filter(None, site.settings.serving_hosts.split(",")))
    return TritonLocal(site.settings.home, site.settings.environments, hosts=hosts)


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
