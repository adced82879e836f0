"""An archive on the data volume: unpacked into a folder of its own, in a child of the sandbox, before anybody looks into it.

zip and tar, the latter also packed with gzip, bzip2, xz or Zstandard. An archive that holds one folder and nothing else, as
those of most services do, stands for what is in that folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pelagos_contract.beneath import Opened
from pelagos_contract.disk import FullError
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import naming
from pelagos_pipelines.annotations.model import split_of
from pelagos_pipelines.annotations.untrusted_input import printable
from pelagos_pipelines.sandbox import MEBIBYTE, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

KINDS: Mapping[str, str] = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".tar.bz2": "tar",
    ".tbz2": "tar",
    ".tar.xz": "tar",
    ".txz": "tar",
    ".tar.zst": "tar",
    ".tzst": "tar",
}
"""By the end of the name, in any case."""
NAMES = ", ".join(KINDS)
_BEGINNINGS: Mapping[bytes, str] = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "tar",
    b"BZh": "tar",
    b"\xfd7zXZ\0": "tar",
    b"\x28\xb5\x2f\xfd": "tar",
}
_LONGEST, _SHOWN = 255, 5
_USTAR = slice(257, 262)
_TASKS = "pelagos_pipelines.sources.archive_members"
_GIBIBYTE = 2**30
_MEMORY = 1024 * MEBIBYTE
"""Of the child: the table of a zip with a million files takes most of it."""
_SLOWNESS = 6
"""Real seconds for a second of processor time, when the machine and its disk are busy."""


@dataclass(frozen=True)
class Unpacked:
    """The ``folder`` that an archive stands for, and the files of the archive that lie ``beside`` it, as seen from it."""

    folder: Path
    beside: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def kind_of(path: str) -> str | None:
    """Which kind of archive the name says; None when it says none."""
    lower = path.lower()
    return next((kind for end, kind in KINDS.items() if lower.endswith(end)), None)


def without_ending(path: str) -> str:
    """The name without what says that it is an archive."""
    lower = path.lower()
    ends = [len(end) for end in KINDS if lower.endswith(end)]
    return path[: -max(ends)] if ends and len(path) > max(ends) else path


def kind_in(descriptor: int) -> str | None:
    """Which kind of archive an open file is by its first bytes; None when these are of none."""
    beginning = os.pread(descriptor, 512, 0)
    if beginning[_USTAR] == b"ustar":
        return "tar"
    return next((kind for first, kind in _BEGINNINGS.items() if beginning.startswith(first)), None)


def unpack(path: str, opened: Opened, target: Path, most_files: int, field: str, kind: str | None = None) -> Unpacked:
    """Unpack the archive that people call ``path`` into ``target``, which must not exist; ``kind`` where its name says none.

    Raises:
        RefusedError: FORMAT_INVALID for an archive that is damaged, too large, or holds what no reader should see.
        FullError: the disk is full.
        UnavailableError: no child could be started.
        ChangedError: it changed while it was read.
    """
    ceilings = Ceilings.read()
    size = ceilings.archive_gibibytes * _GIBIBYTE
    limits = Limits(_MEMORY, ceilings.archive_seconds, _SLOWNESS * ceilings.archive_seconds, result=MEBIBYTE, file=size)
    target.mkdir(parents=True)
    folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Pool(_TASKS, limits) as pool, _still(opened):
            answer = pool.run(
                "unpack",
                {"kind": kind or kind_of(path), "files": most_files, "size": size},
                file=opened.descriptor,
                into=folder,
            )
    except TaskRefusedError as refusal:
        if refusal.detail.get("full"):
            raise FullError(errno.ENOSPC, target, opened.size) from refusal
        ceiling = f" ({raise_it('archive_gibibytes')})" if refusal.detail.get("ceiling") else ""
        raise _refused(path, f"{refusal}{ceiling}", field) from refusal
    except LimitError as error:
        ceiling = f" ({raise_it('archive_seconds')})" if error.kind in {"cpu", "deadline"} else ""
        raise _refused(path, f"{error}{ceiling}: divide it, or unpack it on the volume", field) from error
    except SandboxError as error:
        raise _refused(path, f"{error}: make it again, or unpack it on the volume", field) from error
    finally:
        os.close(folder)
    return replace(_meant(target), warnings=tuple(_odd(path, answer.document)))


def _odd(path: str, found: Mapping[str, object]) -> Iterator[str]:
    """What people should know of an archive that was unpacked; a child says it, and may have been taken over by the archive."""
    if found.get("unclosed") is True:
        yield (
            f"the archive {printable(path)} ends without the blocks that end a tar: make sure that it was transferred whole, or"
            " pack it again"
        )
    guessed, first = found.get("guessed"), found.get("first")
    if isinstance(guessed, int) and guessed > 0 and isinstance(first, list):
        yield (
            f"the archive {printable(path)} does not say in which code page {guessed} names are, and they were read as of code"
            f" page 437: {', '.join(printable(str(name)[:_LONGEST]) for name in first[:_SHOWN])}; where they are garbled, pack"
            " the files again with a program that writes UTF-8"
        )


@contextmanager
def _still(opened: Opened) -> Iterator[None]:
    """Raise ChangedError, whatever else was found: the archive may still be on its way to the volume."""
    try:
        yield
    finally:
        opened.require_same()


def _refused(path: str, why: str, field: str) -> RefusedError:
    return RefusedError(Reason.FORMAT_INVALID, f"the archive {printable(path)} is not unpacked: {why}", field)


def _meant(folder: Path) -> Unpacked:
    """The folder itself, or the only one in it, unless its name says something of what is in it."""
    root, beside = folder, list[str]()
    while True:
        inner, others = list[Path](), list[Path]()
        for entry in sorted(root.iterdir()):
            # What a computer of Apple adds lies beside all else.
            is_added = entry.name == "__MACOSX" or entry.name.startswith(".")
            (others if is_added else inner).append(entry)
        if len(inner) != 1 or not inner[0].is_dir():
            return Unpacked(root, tuple(beside))
        name = inner[0].name
        if split_of(name) is not None or naming.folded(name) in naming.EMPTY_FOLDERS:
            return Unpacked(root, tuple(beside))
        # As seen from what is in the folder, where the same names may stand again.
        beside = [f"../{path}" for path in (*beside, *(file.relative_to(root).as_posix() for file in _files(others)))]
        root = inner[0]


def _files(entries: Iterable[Path]) -> Iterator[Path]:
    for entry in entries:
        yield from sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]
