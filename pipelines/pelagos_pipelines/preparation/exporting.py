"""A version as files of another program: a view of it whose files are nobody else's, so that they may be changed.

``python -m pelagos_pipelines.preparation.exporting URI VIEW TARGET`` is what `pelagos export` runs. It prints one JSON object:
``images`` and ``altered`` (see dataset.Alteration), or ``error``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from pelagos_contract.dataset import SPLITS
from pelagos_contract.disk import FullError
from pelagos_contract.failures import RefusedError
from pelagos_pipelines import storage
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.preparation import published, versions
from pelagos_pipelines.storage import StorageError, StorageRefusedError


def export(uri: str, view: str, target: Path) -> tuple[int, Altered]:
    """Write the version at ``uri`` into ``target``, which must not exist, or be empty; how many images, and what was altered.

    All or nothing: what is there under the name of ``target`` is whole.

    Raises:
        RefusedError: DATASET_NOT_READABLE; TASK_MISMATCH when the view cannot hold the version's annotations.
        FileExistsError: ``target`` holds something.
        StorageError, StorageRefusedError: see storage.errors.
        OSError, FullError: it cannot be written; nothing stays.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise _taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    _clear(target.parent, prefix)
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    held = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(prefix="pelagos-export-") as scratch:
            here = published.download(uri, Path(scratch), SPLITS) if storage.is_remote(uri) else Path(uri)
            folder = partial / "view"
            altered = versions.materialise(here, view, folder)
            (folder / versions.MARKER).unlink()
            _own(folder)
            images = len(versions.read(here).collection.images)
        folder.chmod(0o755)
        try:
            folder.rename(target)  # takes the place of an empty folder, too
        except OSError as error:  # another export was quicker
            raise (
                _taken(target) if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} else error
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)
    return images, altered


def _taken(target: Path) -> FileExistsError:
    return FileExistsError(f"{target} is there already; name a folder that is empty or does not exist")


def _clear(above: Path, prefix: str) -> None:
    """Remove what exports left that were killed: the system has released their locks, and holds those of others at work."""
    for left in [path for path in above.iterdir() if path.name.startswith(prefix)]:
        held = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(held)


def _own(folder: Path) -> None:
    """Make copies of files that are links to blobs of the store: who changes one would change every version that has it."""
    for above, _, names in os.walk(folder):
        for name in names:
            file = Path(above, name)
            if file.stat().st_nlink > 1:
                copy = file.with_name(f".{name}.copy")
                shutil.copyfile(file, copy)
                copy.replace(file)
            file.chmod(0o644)


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    uri, view, target = arguments
    answer: dict[str, Any]
    try:
        images, altered = export(uri, view, Path(target))
        answer = {"images": images, "altered": [each.model_dump(by_alias=True) for each in altered]}
    except RefusedError as error:
        answer = {"error": error.failure.message}
    except (StorageError, StorageRefusedError, OSError, FullError) as error:
        answer = {"error": str(error)}
    sys.stdout.write(orjson.dumps(answer).decode() + "\n")
    return "error" in answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
