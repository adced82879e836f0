"""Reads the parts of a model package that the operator itself needs: those for the server's configuration, and the known answer.

Called by the engines that serve on a cluster. Only small files are read, and each is compared with its sha256; the pod that
serves the graph verifies it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from pelagos.api import reasons
from pelagos.engines.triton import config as triton_config
from pelagos.engines.triton import package as model_package
from pelagos.engines.triton.package import ANSWER, DESCRIPTION, IMAGE, LARGEST, Known, Manifest
from pelagos.ports.errors import RejectedError
from pelagos.ports.objects import Objects
from pelagos.ports.serving import DesiredService

DIGEST_PARAMETER = "pelagos_digest"
"""A parameter of the model's configuration: the desired service's digest. The server reports it, as proof of the package."""
_REMEMBERED = 64
_REMEMBERED_BYTES = 256 << 20


@dataclass(frozen=True)
class Package:
    """The parsed small files of a package."""

    manifest: Manifest
    known: Known


class Packages:
    """A cache of packages. A digest always names the same package, so entries never become stale."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._read: dict[tuple[str, str, str], Package] = {}
        self._lock = asyncio.Lock()

    async def config(self, want: DesiredService) -> str:
        """The text of ``config.pbtxt``. Raises RejectedError when the package is missing, altered or another one."""
        package = await self.find(want)
        config = triton_config.for_service(package.manifest, want)
        config["parameters"] = {**config["parameters"], DIGEST_PARAMETER: {"string_value": want.pod_template_digest}}
        return triton_config.render(config)

    async def find(self, want: DesiredService) -> Package:
        """The package of ``want``. Raises RejectedError as ``config`` does."""
        key = (want.package_uri, want.manifest_sha256, want.onnx_sha256)
        # Under the lock, so that concurrent passes do not read the same package twice.
        async with self._lock:
            if key not in self._read:
                package = await self._load(want)
                # Evict the oldest first. Bytes are limited as well as packages, because probe images differ much in size.
                while self._read and (
                    len(self._read) >= _REMEMBERED
                    or sum(len(each.known.image) for each in self._read.values()) > _REMEMBERED_BYTES
                ):
                    del self._read[next(iter(self._read))]
                self._read[key] = package
            return self._read[key]

    async def _load(self, want: DesiredService) -> Package:
        path = self._objects.path(want.package_uri)
        if not path:
            root = self._objects.uri("")
            message = f"there is no {DESCRIPTION} at {want.package_uri}, which is not in the object store ({root})"
            raise RejectedError("model package", message)
        content = await self._file(path, DESCRIPTION)
        manifest = model_package.read(content, self._objects.uri(f"{path}/{DESCRIPTION}"), want)
        small = {}
        for name in (IMAGE, ANSWER):
            small[name] = await self._file(path, name)
            place = self._objects.uri(f"{path}/{name}")
            model_package.require_digest(place, hashlib.sha256(small[name]).hexdigest(), manifest.digest(name))
        known = model_package.known(manifest, small[IMAGE], small[ANSWER], self._objects.uri(f"{path}/{ANSWER}"))
        return Package(manifest, known)

    async def _file(self, path: str, name: str) -> bytes:
        content = await self._objects.read_bytes(f"{path}/{name}", limit=LARGEST[name])
        if content is None:
            message = f"{self._objects.uri(f'{path}/{name}')} is missing. Was the package deleted?"
            raise RejectedError("model package", message, reason=reasons.MODEL_PACKAGE_MISSING)
        return content
