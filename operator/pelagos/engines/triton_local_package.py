"""From a model package to what a local Triton server loads. Called by triton_local in threads; knows files only.

A service keeps its own copy of the package (hard links where the file system allows), so that it can be started again when
the package has been deleted. Folder: ``package/`` as in the store, ``repository/<model name>/`` for Triton, ``want.json``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter

from pelagos.engines import triton_config
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import ServiceWant

GRAPH = "triton/1/model.onnx"
_REQUIRED = (GRAPH, "triton/1/model.py", "triton/config.json", "probe.png", "probe.json")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def prepare(want: ServiceWant, folder: Path) -> Path:
    """Make what ``want`` names in a new folder below ``folder``, to be installed.

    Raises RejectedError when the package is missing, incomplete or altered.
    """
    source = _path(want.package_uri)
    description = verify(source, want.onnx_sha256)
    if not _MODEL_NAME.fullmatch(want.model_name):
        raise _rejected(f"the model name {want.model_name!r} is not allowed; use letters, digits, '.', '_' and '-'")
    partial = folder / "served.partial"
    remove(partial)
    for name in ("package.json", *description["files"]):
        _link(source / name, partial / "package" / name)
    _build_repository(partial / "package", partial / "repository" / want.model_name, want)
    _write(partial / "want.json", json.dumps(dataclasses.asdict(want), indent=2))
    return partial


def install(prepared: Path, served: Path) -> None:
    """Put what was prepared in the place of what was served; after a crash in between there is nothing to serve."""
    remove(served)
    prepared.rename(served)


def recorded(served: Path) -> ServiceWant | None:
    """The want that ``served`` was made for; None when there is none."""
    try:
        return TypeAdapter(ServiceWant).validate_json((served / "want.json").read_bytes())
    except (OSError, ValueError):
        return None


def is_usable(served: Path, want: ServiceWant) -> bool:
    """Whether ``served`` was made for this very want and has not been altered since."""
    if recorded(served) != want:
        return False
    try:
        verify(served / "package", want.onnx_sha256)
    except RejectedError:
        return False
    return True


def verify(package: Path, onnx_sha256: str) -> dict[str, Any]:
    """The content of ``package.json``, when every file that it lists has the sha256 that it lists."""
    description = read_object(package / "package.json")
    files = description.get("files")
    if not isinstance(files, dict):
        raise _rejected(f"{package}/package.json: 'files' must map paths to sha256 digests; export the model again")
    for name in (*_REQUIRED, *files):
        digest = files.get(name)
        if digest is None:
            raise _rejected(f"{package}/package.json does not list {name}; export the model again")
        path = package / name
        if not _is_below(name) or path.is_symlink() or not path.is_file():
            raise _rejected(f"{package}: {name} is missing, or is not a file of the package; export the model again")
        if (actual := _sha256(path)) != digest:
            raise _rejected(
                f"{package}: {name} has been altered: sha256 {actual} instead of {digest}; export the model again"
            )
    if files[GRAPH] != onnx_sha256:
        raise _rejected(f"{package} holds a graph with sha256 {files[GRAPH]}, the service asks for {onnx_sha256}")
    return description


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a package. Raises RejectedError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _rejected(f"{path} cannot be read: {error.strerror}. Was the package deleted?") from error
    except ValueError as error:
        raise _rejected(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _rejected(f"{path} does not hold a JSON object")
    return content


def parse(body: bytes) -> Any:
    """JSON, or None."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def remove(path: Path) -> None:
    """Delete a folder with all that is in it; no effect when it is gone."""
    if path.exists():
        shutil.rmtree(path)


def _build_repository(package: Path, model: Path, want: ServiceWant) -> None:
    config = triton_config.for_service(read_object(package / "triton/config.json"), want)
    try:
        text = triton_config.render(config)
    except ValueError as error:
        raise _rejected(f"{want.package_uri}: triton/config.json: {error}") from error
    for path in sorted((package / "triton").rglob("*")):
        name = path.relative_to(package / "triton")
        if path.is_file() and str(name) != "config.json":
            _link(path, model / name)
    _write(model / "config.pbtxt", text)


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise _rejected(f"{uri}: the local server reads folders of this machine only")
    return Path(unquote(parts.path) if parts.scheme else uri)


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rejected(message: str) -> RejectedError:
    return RejectedError("model package", message)
