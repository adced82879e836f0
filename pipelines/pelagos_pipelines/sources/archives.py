"""Unpacks an archive into a separate folder, in a child of the sandbox, before its files are read.

Supported are zip and tar, the latter also compressed with gzip, bzip2, xz or Zstandard. If an archive only contains one folder,
as those of most services do, that folder is the source.
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
"""Kinds of archives by the end of the name, in upper or lower case."""
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
"""Memory limit of the child in bytes; the directory of a zip with a million files takes most of it."""
_SLOWNESS = 6
"""Allowed wall-clock seconds per second of processor time, for a busy machine and disk."""


@dataclass(frozen=True)
class Unpacked:
    """The ``folder`` that is the archive's content, and the files ``beside`` it in the archive, relative to it."""

    folder: Path
    beside: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def kind_of(path: str) -> str | None:
    """The kind of archive by the name; None for other names."""
    lower = path.lower()
    return next((kind for end, kind in KINDS.items() if lower.endswith(end)), None)


def without_ending(path: str) -> str:
    """The name without the ending of an archive."""
    lower = path.lower()
    ends = [len(end) for end in KINDS if lower.endswith(end)]
    return path[: -max(ends)] if ends and len(path) > max(ends) else path


def kind_in(descriptor: int) -> str | None:
    """The kind of archive by the first bytes of an open file; None for other files."""
    beginning = os.pread(descriptor, 512, 0)
    if beginning[_USTAR] == b"ustar":
        return "tar"
    return next((kind for first, kind in _BEGINNINGS.items() if beginning.startswith(first)), None)


def unpack(path: str, opened: Opened, target: Path, most_files: int, field: str, kind: str | None = None) -> Unpacked:
    """Unpack an archive, called ``path`` in messages, into ``target``, which must not exist; ``kind`` if its name has none.

    Raises:
        RefusedError: FORMAT_INVALID for an archive that is damaged, too large, or has unsafe members.
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
    """Warnings about an unpacked archive, from the answer of a child that may have been compromised by the archive."""
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
    """A context that raises ChangedError instead of other errors if the file changed: it may still be being uploaded."""
    try:
        yield
    finally:
        opened.require_same()


def _refused(path: str, why: str, field: str) -> RefusedError:
    return RefusedError(Reason.FORMAT_INVALID, f"the archive {printable(path)} is not unpacked: {why}", field)


def _meant(folder: Path) -> Unpacked:
    """The folder itself, or its only subfolder, unless that one's name is meaningful for annotations."""
    root, beside = folder, list[str]()
    while True:
        inner, others = list[Path](), list[Path]()
        for entry in sorted(root.iterdir()):
            # macOS adds these beside the actual content.
            is_added = entry.name == "__MACOSX" or entry.name.startswith(".")
            (others if is_added else inner).append(entry)
        if len(inner) != 1 or not inner[0].is_dir():
            return Unpacked(root, tuple(beside))
        name = inner[0].name
        if split_of(name) is not None or naming.folded(name) in naming.EMPTY_FOLDERS:
            return Unpacked(root, tuple(beside))
        # Relative to the inner folder, which may contain the same names again.
        beside = [f"../{path}" for path in (*beside, *(file.relative_to(root).as_posix() for file in _files(others)))]
        root = inner[0]


def _files(entries: Iterable[Path]) -> Iterator[Path]:
    for entry in entries:
        yield from sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]
