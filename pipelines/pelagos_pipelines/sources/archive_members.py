"""The task that unpacks an untrusted archive into a given folder. Run in a child of the sandbox by archives.py.

Only new regular files are written below that folder, and every name is checked before it is used. Sizes are counted while bytes
are unpacked, since the sizes stated in an archive may be false.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from typing_extensions import override

from pelagos_contract import beneath
from pelagos_pipelines.annotations.untrusted_input import is_encodable, printable
from pelagos_pipelines.sandbox import Answer, TaskRefusedError
from pelagos_pipelines.sources import zstandard_frames

RATIO = 100
"""Compression ratio from which an archive counts as a decompression bomb, if it unpacks to more than SMALL bytes."""
SMALL = 2**30
_CHUNK = 2**20
_LONGEST = 255
"""Most bytes of a name."""
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ENCRYPTED, _UTF_8 = 0x1, 0x800
_UNICODE_PATH = 0x7075
"""Id of Info-ZIP's extra field with the Unicode name."""
_SHOWN = 5
_PACKED: Mapping[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    **dict.fromkeys(zstandard_frames.BEGINNINGS, lambda file: io.BufferedReader(zstandard_frames.Frames(file), _CHUNK)),
}
"""Decompressors by first bytes. Unlike tarfile's streams, they support several parts, as pbzip2 writes, and verify checksums."""
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


@dataclass
class _Member:
    """A member of the archive: a regular file, or something else as ``kind`` says."""

    name: str
    kind: str
    content: Any = None


@dataclass
class _Unpacking:
    """The state of unpacking, with its limits."""

    into: Path
    files: int
    """Most files; ``size`` is the most bytes."""
    size: int
    archive: int
    written: int = 0
    unclosed: bool = False
    """Whether a tar lacks its terminating blocks."""
    guessed: list[str] = field(default_factory=list)
    """Names without a stated encoding."""
    names: dict[str, str] = field(default_factory=dict)

    def take(self, member: _Member, opened: Callable[[_Member], IO[bytes]]) -> None:
        """Write one member."""
        path = _safe(member.name)
        if member.kind == "folder":
            return
        shown = printable(path)
        if member.kind != "file":
            raise TaskRefusedError(
                f"it holds {member.kind}, {shown}, and only files and folders are unpacked: leave it out"
            )
        if not path:
            raise TaskRefusedError("it holds a file without a name, and where it should lie is not known: leave it out")
        folded = unicodedata.normalize("NFC", path).casefold()
        if (other := self.names.setdefault(folded, path)) != path or len(self.names) > self.files:
            if other != path:
                raise TaskRefusedError(
                    f"{printable(other)} and {shown} differ in case, or in how a character is encoded, alone: rename one"
                )
            raise TaskRefusedError(f"it holds more than {self.files} files: divide it")
        try:
            with beneath.made_parent(self.into, path) as (folder, name):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                target = os.open(name, flags, 0o600, dir_fd=folder)
        except (FileExistsError, beneath.NoFileError, IsADirectoryError) as error:
            raise TaskRefusedError(f"{shown} is there twice, or as a file and as a folder: keep one") from error
        try:
            with opened(member) as content:
                while chunk := content.read(_CHUNK):
                    self.count(len(chunk))
                    _write(target, chunk)
        finally:
            os.close(target)

    def count(self, size: int) -> None:
        """Count unpacked bytes. Raises TaskRefusedError beyond the limits."""
        self.written += size
        if self.written > self.size:
            raise TaskRefusedError(f"it holds more than {self.size // 2**30} GiB, unpacked", {"ceiling": True})
        if self.written > SMALL and self.written > RATIO * self.archive:
            raise TaskRefusedError(
                f"it has {self.archive} bytes, and unpacks to more than {RATIO} times as many, which images do not: it is meant"
                " to harm, or holds something else"
            )


def unpack(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Unpack ``file`` of the ``kind`` zip or tar into the open folder ``into``: at most ``files`` files of ``size`` bytes in all.

    The document has both numbers, whether the archive is ``unclosed``, and the number of ``guessed`` names with the first ones.
    Raises:
        TaskRefusedError: with a message for people; ``full`` in the detail when the disk is full.
    """
    folder = Path(f"/proc/self/fd/{arguments['into']}")
    work = _Unpacking(folder, arguments["files"], arguments["size"], os.fstat(file.fileno()).st_size)
    try:
        (_zip if arguments["kind"] == "zip" else _tar)(file, work)
    except zstandard_frames.WindowError as error:
        raise TaskRefusedError(
            f"it is packed with a window of more than {zstandard_frames.WINDOW_MEBIBYTES} MiB, as zstd does with --ultra and"
            " --long: pack it again without these"
        ) from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise TaskRefusedError("the disk is full", {"full": True}) from error
        raise TaskRefusedError(
            "it is damaged, or was not transferred whole: make it again, and transfer it once more"
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        raise TaskRefusedError("it is packed in a way that is not known: make it again with common settings") from error
    told = {"unclosed": work.unclosed, "guessed": len(work.guessed), "first": work.guessed[:_SHOWN]}
    return Answer({"files": len(work.names), "bytes": work.written, **told})


def _zip(file: BinaryIO, work: _Unpacking) -> None:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.flag_bits & _ENCRYPTED:
                raise TaskRefusedError(f"{printable(info.filename)} is encrypted: pack it without a password")
            mode = info.external_attr >> 16
            # Some Windows programs end the names of folders with a backslash. A member with content is not a folder.
            name = _name(info)
            if name is None:
                name = info.filename
                work.guessed.append(printable(name))
            ends = not info.file_size and name.endswith(("/", "\\"))
            kind = "folder" if ends else "file" if stat.S_IFMT(mode) in {0, stat.S_IFREG} else _kind(mode)
            work.take(_Member(name, kind, info), lambda member: archive.open(member.content))


def _name(info: zipfile.ZipInfo) -> str | None:
    """The decoded name; None without a stated encoding, which is the DOS code page by the standard but any other in practice.

    macOS writes UTF-8 without marking it; Info-ZIP, WinZip and others put it into an extra field beside the old name.
    """
    if info.flag_bits & _UTF_8 or info.orig_filename.isascii():
        return info.filename
    stored = info.orig_filename.encode("cp437")
    at = 0
    while at + 4 <= len(info.extra):
        kind, size = struct.unpack_from("<HH", info.extra, at)
        body = info.extra[at + 4 : at + 4 + size]
        # The checksum covers the old name. It differs if a program renamed the file without updating this field.
        if (
            kind == _UNICODE_PATH
            and len(body) == size > 5
            and body[:5] == b"\1" + struct.pack("<I", zlib.crc32(stored))
        ):
            with contextlib.suppress(UnicodeError):
                return body[5:].decode("utf-8")
        at += 4 + size
    try:
        return stored.decode("utf-8")
    except UnicodeError:
        return None


def _kind(mode: int) -> str:
    return "a link" if stat.S_ISLNK(mode) else "folder" if stat.S_ISDIR(mode) else "a device or a pipe"


class _Header(tarfile.TarInfo):
    """Treats an unreadable header as damage, where tarfile would silently stop and lose everything that follows.

    The end of the file is accepted without the two terminating blocks, since some programs omit them and others accept that.
    """

    unclosed = False
    """Whether the terminating blocks were missing. A subclass is created for each archive, so this is per archive."""

    @classmethod
    @override
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # which the stubs do not know
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            cls.unclosed = True
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar(file: BinaryIO, work: _Unpacking) -> None:
    # As a stream, without seeking back: each member is read once, and nothing of it is kept.
    content = _plain(file)

    class Header(_Header):
        pass

    with tarfile.open(fileobj=content, mode="r|", tarinfo=Header) as archive:
        for member in archive:
            work.take(_of_tar(member), lambda taken: _extracted(archive, taken.content))
            archive.members = []  # type: ignore[attr-defined] # tarfile keeps all members, which would fill the memory
        # Read to the very end, so that the decompressor verifies its checksum. Only zeros may follow, as padding.
        rest: IO[bytes] = archive.fileobj  # type: ignore[assignment]
        while chunk := rest.read(_CHUNK):
            work.count(len(chunk))
            if chunk.count(0) != len(chunk):
                raise TaskRefusedError(
                    "more follows where it ends, as when archives are joined, which most programs pass over: pack all files"
                    " into one"
                )
    work.unclosed = Header.unclosed


def _plain(file: BinaryIO) -> IO[bytes]:
    """The content of a file, decompressed if it is compressed."""
    start = file.read(max(map(len, _PACKED)))
    file.seek(0)
    unpacked: IO[bytes] = next((kind(file) for magic, kind in _PACKED.items() if start.startswith(magic)), file)
    return unpacked


def _of_tar(member: tarfile.TarInfo) -> _Member:
    if member.isdir():
        kind = "folder"
    elif member.issparse():
        kind = "a sparse file"
    elif member.isreg():
        kind = "file"
    else:
        kind = "a link" if member.issym() or member.islnk() else "a device or a pipe"
    return _Member(member.name, kind, member)


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(member)
    assert found is not None  # a regular file
    return found


def _safe(name: str) -> str:
    """The checked path below the folder; "" for the folder itself. Raises TaskRefusedError for unsafe names."""
    if _CONTROL.search(name) or not is_encodable(name):
        raise TaskRefusedError(f"the name {printable(name)} is not UTF-8, or holds control characters: rename the file")
    plain = name.replace("\\", "/")
    if plain.startswith("/") or _DRIVE.match(plain) or ".." in plain.split("/"):
        raise TaskRefusedError(f"{printable(name)} would lie outside of the archive's folder: pack with relative paths")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if len(parts) > beneath.MAX_DEPTH or any(len(part.encode()) > _LONGEST for part in parts):
        raise TaskRefusedError(
            f"{printable(name)} lies more than {beneath.MAX_DEPTH} folders deep, or has a name of more than {_LONGEST} bytes:"
            " shorten it"
        )
    return "/".join(parts)


def _write(target: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]
