"""OSCAR's manager is a fake server (tests/oscar_fake_server); its containers are the real model server, and storage is moto.

``site`` is one cluster with the engine that serves on it. Packages are on object storage, from which containers fetch them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from object_storage import ObjectStorage, bucket, object_storage
from oscar_fake_server.manager import ADMIN, Manager
from pelagos.engines.oscar.engine import Oscar
from pelagos.engines.oscar.options import Options
from pelagos.engines.oscar.rest import Access, OscarRest
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.objects import S3Objects
from pelagos.ports.authority import Authority
from pelagos.ports.errors import OutageError
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.serving import DesiredService, ObservedService, ServiceState

if TYPE_CHECKING:
    from model_packages import MakeWant

__all__ = ["bucket", "object_storage"]


@dataclass
class Site:
    """``root`` is the object store's; ``folder`` holds the files with logins."""

    manager: Manager
    engine: Oscar
    storage: ObjectStorage
    bucket: str
    folder: Path
    calls: list[str]

    def put(self, want: DesiredService) -> DesiredService:
        """Upload a package; returns the desired state with its address on object storage."""
        for path in Path(want.package_uri).iterdir():
            self.storage.put(self.bucket, f"objects/packages/{path.parent.name}/{path.name}", path.read_bytes())
        uri = f"s3://{self.bucket}/objects/packages/{Path(want.package_uri).name}"
        return replace(want, package_uri=uri)

    def changes(self) -> list[str]:
        """Calls that changed something, since the last call of this method."""
        made = [call for call in self.manager.calls if not call.startswith("GET")]
        self.manager.calls.clear()
        return made

    async def until(self, uid: str, *states: ServiceState, seconds: float = 120) -> ObservedService:
        """Wait until the endpoint is in one of the states; returns what is observed."""
        deadline, seen = monotonic() + seconds, None
        while monotonic() < deadline:
            with contextlib.suppress(OutageError):
                seen = await self.engine.observe(uid)
                if seen is not None and seen.state in states:
                    return seen
            await asyncio.sleep(0.1)
        raise TimeoutError(seen)


def access(folder: Path, url: str) -> Access:
    """The access of the cluster's administrator."""
    for name, value in zip(("user", "password"), ADMIN, strict=True):
        (folder / name).write_text(value)
    return Access(url, folder / "user", folder / "password")


def engine(
    manager: Manager, storage: ObjectStorage, bucket: str, folder: Path, calls: list[str] | None = None
) -> Oscar:
    """The engine of an operator of one installation: they all have the same key."""
    told = calls if calls is not None else []
    rest = OscarRest(access(folder, manager.url), guard=lambda _system, call: told.append(call), timeout=5)
    for name, value in zip(("access", "secret"), storage.access, strict=True):
        (folder / name).write_text(value)
    given = Options(
        image="pelagos/serving:test",
        s3_endpoint=storage.url,
        s3_region="us-east-1",
        access_key_file=folder / "access",
        secret_key_file=folder / "secret",
    )
    objects = S3Objects(f"s3://{bucket}/objects", Service(storage.url))
    return Oscar(rest, objects, given, Authority(KeysFake()))


@pytest.fixture
async def site(bucket: str, object_storage: ObjectStorage, tmp_path: Path) -> AsyncIterator[Site]:
    calls: list[str] = []
    async with Manager() as manager:
        made = engine(manager, object_storage, bucket, tmp_path, calls)
        yield Site(manager, made, object_storage, bucket, tmp_path, calls)
        await made.close()


@pytest.fixture
def uid() -> str:
    return str(uuid4())


@pytest.fixture
def want(site: Site, uid: str, make_want: MakeWant) -> DesiredService:
    """The desired state for a detector whose package is on object storage."""
    return site.put(make_want(uid=uid))
