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

from pelagos_contract import disk
from pelagos_pipelines.serving import entrypoint, packages
from pelagos_pipelines.serving.packages import RefusedError

_PARTIAL = ".partial"


def main() -> None:
    """Fetch, verify, put in place. Ends the process with a message when that cannot be."""
    try:
        fetch(os.environ)
    except RefusedError as error:
        entrypoint.fail(str(error), os.EX_DATAERR)
    except disk.FullError as error:
        entrypoint.fail(str(error), os.EX_TEMPFAIL)
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
    expected = variables.get("PELAGOS_MANIFEST_SHA256", "")
    if _is_right(target, expected):
        return
    partial = target / _PARTIAL
    # What is there is not the package, and a rest of another one must not lie beside it. The folder itself is a mounted volume,
    # which cannot be renamed; its content can.
    for left in target.iterdir() if target.exists() else ():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
    with disk.written(partial):
        partial.mkdir(parents=True)
        if "://" in uri:
            _download(uri, expected, partial)
        elif Path(uri).is_absolute():
            packages.verify(Path(uri), expected, partial)
        else:
            raise RefusedError(f"PELAGOS_PACKAGE_URI={uri} must be an absolute path or begin with s3://")
    # The description is what makes a package: it comes last.
    for name in (*packages.FILES, packages.DESCRIPTION):
        (partial / name).rename(target / name)
    partial.rmdir()


def _download(uri: str, manifest_sha256: str, target: Path) -> None:
    """Only what a package is made of, and no more of it than it may have: what else lies there is nobody's business here."""
    from pelagos_pipelines import storage

    try:
        bucket = storage.Bucket(uri)
        listed = {name: bucket.find(name) for name in (packages.DESCRIPTION, *packages.FILES)}
        for name, found in listed.items():
            if found is None:
                raise RefusedError(f"{uri}/{name} is missing: there is no whole model package. Was it deleted?")
            packages.require_size(f"{uri}/{name}", found.size, name)
        storage.require_room(target, filter(None, listed.values()))
        for name, found in listed.items():
            # As it was listed: a file that is replaced meanwhile could be larger than there is room for.
            bucket.download(name, target / name, etag=found.etag if found else "")
            # The description comes first, and a wrong one ends it before the graph, which may have gigabytes.
            if name == packages.DESCRIPTION:
                packages.describe((target / name).read_bytes(), f"{uri}/{name}", manifest_sha256)
    except storage.StorageRefusedError as error:
        raise RefusedError(str(error)) from error
    # On this disk, and not on its way: what is verified is what is served.
    packages.verify(target, manifest_sha256)


def _is_right(target: Path, manifest_sha256: str) -> bool:
    try:
        packages.verify(target, manifest_sha256)
    except (RefusedError, OSError):
        return False
    return True


if __name__ == "__main__":
    main()
