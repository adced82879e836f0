"""A store in one module: a shelf, chosen by a uri such as shelf://upper."""

from __future__ import annotations

from collections.abc import Iterable

from pelagos.engines.descriptors import Descriptor
from pelagos.engines.diagnosis import DoctorContext, Finding, ok
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.settings import Settings


class Shelf(ObjectsFake):
    """Implements Objects."""


def _make(_settings: Settings) -> Shelf:
    return Shelf()


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    return [ok("objects", f"there is room on {context.settings.objects_uri}")]


OBJECTS = Descriptor(name="shelf", system="shelf", summary="a shelf", make=_make, diagnose=_diagnose)
