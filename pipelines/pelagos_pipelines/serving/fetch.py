"""Brings a model package to a pod: ``python -m pelagos_pipelines.serving.fetch`` in an init container of a model server.

Reads ``PELAGOS_PACKAGE_URI`` (an absolute path, or ``s3://bucket/path``) and makes ``PELAGOS_PACKAGE`` hold that package: whole
and verified, or not at all. What is there already and is right is left alone, so that a container that is started again fetches
nothing. Ends like the entrypoint.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pelagos_pipelines.serving import entrypoint
from pelagos_pipelines.serving.entrypoint import RefusedError

_PARTIAL = ".partial"


def main() -> None:
    """Fetch, verify, put in place. Ends the process with a message when that cannot be."""
    try:
        fetch(os.environ)
    except RefusedError as error:
        entrypoint.fail(str(error), os.EX_DATAERR)
    except (
        Exception
    ) as error:  # whatever the client of the storage raises becomes one line, and another try of the kubelet
        entrypoint.fail(f"{os.environ.get('PELAGOS_PACKAGE_URI')}: {error}", os.EX_TEMPFAIL)


def fetch(variables: Mapping[str, str]) -> None:
    """Make the package's folder hold the package. Raises RefusedError for one that is missing, altered or another one."""
    uri = variables.get("PELAGOS_PACKAGE_URI")
    if not uri:
        raise RefusedError("PELAGOS_PACKAGE_URI is not set; the operator sets it, see docs/design/0004-cluster-mode.md")
    target = Path(variables.get("PELAGOS_PACKAGE") or entrypoint.PACKAGE)
    expected = variables.get("PELAGOS_ONNX_SHA256", "")
    if _is_right(target, expected):
        return
    partial = target / _PARTIAL
    # The folder itself is a mounted volume, which cannot be renamed; its content can.
    for left in target.iterdir() if target.exists() else ():
        _remove(left)
    partial.mkdir(parents=True)
    _bring(uri, partial)
    entrypoint.verify(partial, expected)
    names = sorted(path.name for path in partial.iterdir())
    # The description is what makes a package: it comes last.
    for name in sorted(names, key=lambda name: name == "package.json"):
        (partial / name).rename(target / name)
    partial.rmdir()


def _bring(uri: str, target: Path) -> None:
    if "://" in uri:
        from pelagos_pipelines import storage

        try:
            storage.fetch(uri, target)
        except storage.StorageRefusedError as error:
            raise RefusedError(str(error)) from error
        return
    source = Path(uri)
    if not source.is_absolute():
        raise RefusedError(f"PELAGOS_PACKAGE_URI={uri} must be an absolute path or begin with s3://")
    # Only what the package lists: there may be more in its folder, and links are no part of a package.
    for name in ("package.json", *entrypoint.listed_files(source)):
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        entrypoint.copy(source / name, copy)


def _is_right(target: Path, onnx_sha256: str) -> bool:
    try:
        entrypoint.verify(target, onnx_sha256)
    except (RefusedError, OSError):
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
