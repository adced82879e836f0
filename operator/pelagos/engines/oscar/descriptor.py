"""The descriptor of OSCAR; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.api.permissions import Permission
from pelagos.api.service_logins import SECRET
from pelagos.engines.descriptors import Descriptor, EngineContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.oscar.engine import Oscar
    from pelagos.settings import Settings

RIGHTS = (
    Permission(
        "",
        ("secrets",),
        ("patch",),
        "Give the gateway the logins of model servers, which it adds to requests.",
        names=(SECRET,),
    ),
)


def _make(context: EngineContext) -> Oscar:
    from pelagos.engines.oscar.engine import Oscar

    return Oscar.from_settings(context.settings, context.objects, context.authority, context.guard)


def _contradiction(settings: Settings, _on_cluster: bool) -> str | None:
    from pelagos.engines.oscar import options

    return options.contradiction(settings)


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.oscar import diagnosis

    return await diagnosis.look(context)


DESCRIPTOR = Descriptor(
    name="oscar",
    system="oscar",
    summary="exposed services of an OSCAR cluster",
    make=_make,
    rights=RIGHTS,
    contradiction=_contradiction,
    diagnose=_diagnose,
)
