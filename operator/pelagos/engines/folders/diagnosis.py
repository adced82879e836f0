"""The checks of ``pelagos doctor`` for stores in folders. Called through the descriptors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, ok, warning


async def objects(context: DoctorContext) -> Iterable[Finding]:
    """Check the folder of versions, packages and reports."""
    return [await asyncio.to_thread(_folder, "objects", context.settings.objects, True)]


async def data(context: DoctorContext) -> Iterable[Finding]:
    """Check the folder of users' images."""
    return [await asyncio.to_thread(_folder, "data", context.settings.data, False)]


def _folder(subject: str, path: Path, written: bool) -> Finding:
    where = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    if not os.access(where, os.W_OK if written else os.R_OK):
        return failure(
            subject, f"the folder {path} may not be {'written' if written else 'read'}", f"Grant access: chown {path}"
        )
    free = os.statvfs(where)
    gigabytes = free.f_bavail * free.f_frsize / 1e9
    if written and gigabytes < 1:
        return warning(subject, f"the folder {path} has {gigabytes:.1f} GB left", "Free space.")
    return ok(subject, f"the folder {path}, {gigabytes:.0f} GB free")
