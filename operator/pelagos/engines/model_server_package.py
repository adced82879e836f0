"""What the operator itself needs of a model package, wherever it is stored: the server's configuration, and the known answer.

Called by the engines that serve on a cluster. Only small files are read, each compared with its sha256; the graph is verified by
the pod that serves it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.engines import triton_config
from pelagos.engines.model_probe import Known
from pelagos.ports.errors import RejectedError
from pelagos.ports.objects import Objects
from pelagos.ports.serving import ServiceWant

DIGEST_PARAMETER = "pelagos_digest"
"""Names the want in the configuration of the model, which the server tells: proof of what it serves."""
CONFIG, IMAGE, ANSWER = "triton/config.json", "probe.png", "probe.json"
_LARGEST = 32 * 1024 * 1024
_REMEMBERED = 64


@dataclass(frozen=True)
class Package:
    """The small files of a package."""

    config: Mapping[str, Any]
    known: Known


class Packages:
    """Packages never change under the same uri, so each is read once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._read: dict[tuple[str, str], Package] = {}
        self._lock = asyncio.Lock()

    async def config(self, want: ServiceWant) -> str:
        """The finished ``config.pbtxt``. Raises RejectedError when the package is missing, altered or of another graph."""
        package = await self.find(want)
        config = triton_config.for_service(package.config, want)
        config["parameters"] = {**config["parameters"], DIGEST_PARAMETER: {"string_value": want.pods}}
        try:
            return triton_config.render(config)
        except ValueError as error:
            raise _rejected(f"{want.package_uri}: {CONFIG}: {error}") from error

    async def find(self, want: ServiceWant) -> Package:
        """The package of ``want``. Raises RejectedError likewise."""
        key = (want.package_uri, want.onnx_sha256)
        async with self._lock:
            if key not in self._read:
                package = await self._load(want)
                while len(self._read) >= _REMEMBERED:
                    del self._read[next(iter(self._read))]
                self._read[key] = package
            return self._read[key]

    async def _load(self, want: ServiceWant) -> Package:
        path = self._objects.path(want.package_uri)
        if not path:
            root = self._objects.uri("")
            raise _rejected(
                f"there is no package.json at {want.package_uri}, which is not in the object store ({root})"
            )
        description = await self._object(f"{path}/package.json")
        files = description.get("files")
        if not isinstance(files, dict):
            raise _rejected(
                f"{want.package_uri}/package.json: 'files' must map paths to digests; export the model again"
            )
        found = description.get("onnxSha256")
        if found != want.onnx_sha256:
            raise _rejected(
                f"{want.package_uri} holds a graph with sha256 {found}, the service asks for {want.onnx_sha256}"
            )
        content = {name: await self._file(path, name, files) for name in (CONFIG, IMAGE, ANSWER)}
        known = Known(content[IMAGE], _parse(content[ANSWER], ANSWER), description.get("thresholds", {}))
        return Package(_parse(content[CONFIG], CONFIG), known)

    async def _object(self, path: str) -> Mapping[str, Any]:
        found = await self._objects.read_json(path)
        if found is None:
            raise _rejected(f"{self._objects.uri(path)} is missing. Was the package deleted?")
        return found

    async def _file(self, path: str, name: str, files: Mapping[str, str]) -> bytes:
        content = await self._objects.read_bytes(f"{path}/{name}", limit=_LARGEST)
        uri = self._objects.uri(f"{path}/{name}")
        if content is None or name not in files:
            raise _rejected(f"{uri} is missing, or package.json does not list it; export the model again")
        if (actual := hashlib.sha256(content).hexdigest()) != files[name]:
            raise _rejected(f"{uri} has been altered: sha256 {actual} instead of {files[name]}; export the model again")
        return content


def _parse(content: bytes, name: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise _rejected(f"{name} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise _rejected(f"{name} does not hold a JSON object")
    return parsed


def _rejected(message: str) -> RejectedError:
    return RejectedError("model package", message)
