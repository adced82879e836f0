"""Fetches a model package to a pod: ``python -m pelagos_pipelines.serving.fetch`` in an init container of a model server.

Reads ``PELAGOS_PACKAGE_URI`` (an absolute path, or ``s3://bucket/path``) and puts that package into ``PELAGOS_PACKAGE``: whole
and verified, or not at all. An existing package is kept, so that a restarted container fetches nothing. Ends like the
entrypoint.
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
    """Fetch, verify, put in place. On failure, ends the process with a message."""
    try:
        fetch(os.environ)
    except RefusedError as error:
        entrypoint.fail(str(error), os.EX_DATAERR)
    except disk.FullError as error:
        entrypoint.fail(str(error), os.EX_TEMPFAIL)
    except Exception as error:  # any error of the storage's client becomes one line, and the kubelet tries again
        entrypoint.fail(f"{os.environ.get('PELAGOS_PACKAGE_URI')}: {error}", os.EX_TEMPFAIL)


def fetch(variables: Mapping[str, str]) -> None:
    """Put the package into its folder. Raises RefusedError for a package that is missing, altered or another one."""
    uri = variables.get("PELAGOS_PACKAGE_URI")
    if not uri:
        raise RefusedError("PELAGOS_PACKAGE_URI is not set; the operator sets it, see docs/design/0004-cluster-mode.md")
    target = Path(variables.get("PELAGOS_PACKAGE") or entrypoint.PACKAGE)
    expected = variables.get("PELAGOS_MANIFEST_SHA256", "")
    if _is_right(target, expected):
        return
    partial = target / _PARTIAL
    # The folder does not hold the package, and parts of another one must not remain beside it. The folder itself is a mounted
    # volume, which cannot be renamed; its content can.
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
    # The description comes last, because a package exists once its description does.
    for name in (*packages.FILES, packages.DESCRIPTION):
        (partial / name).rename(target / name)
    partial.rmdir()


def _download(uri: str, manifest_sha256: str, target: Path) -> None:
    """Download only the files of a package, each up to its size limit; other objects there are ignored."""
    from pelagos_pipelines import storage

    try:
        bucket = storage.Bucket(uri)
        listed = {name: bucket.find(name) for name in (packages.DESCRIPTION, *packages.FILES)}
        for name, found in listed.items():
            if found is None:
                raise RefusedError(f"{uri}/{name} is missing: there is no complete model package. Was it deleted?")
            packages.require_size(f"{uri}/{name}", found.size, name)
        storage.require_room(target, filter(None, listed.values()))
        for name, found in listed.items():
            # By ETag, because a file that was replaced since it was listed could be larger than the free space.
            bucket.download(name, target / name, etag=found.etag if found else "")
            # The description comes first, so that a wrong one ends this before the graph, which may have gigabytes.
            if name == packages.DESCRIPTION:
                packages.describe((target / name).read_bytes(), f"{uri}/{name}", manifest_sha256)
    except storage.StorageRefusedError as error:
        raise RefusedError(str(error)) from error
    # Verified on this disk, not in transit, so that the verified files are the ones that are served.
    packages.verify(target, manifest_sha256)


def _is_right(target: Path, manifest_sha256: str) -> bool:
    try:
        packages.verify(target, manifest_sha256)
    except (RefusedError, OSError):
        return False
    return True


if __name__ == "__main__":
    main()
