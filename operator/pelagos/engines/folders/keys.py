"""The Keys port on a folder: the file ``current`` seals; keys in other files only verify. Chosen by wiring.

On one machine the folder is below the home, and ``pelagos up`` creates it; on a cluster it is a mounted Secret. Files are read at
every use, because Secrets are rotated while the operator runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pelagos.ports.authority import NoKeyError
from pelagos.ports.errors import RejectedError
from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = "authority"
CURRENT = "current"
BYTES = 32
"""Length of a new key in bytes; shorter keys are refused."""
_MOST_BYTES = 4096


class FolderKeys:
    """Implements Keys with the files in ``folder``; ``hint`` tells people how the installation gets a key."""

    def __init__(self, folder: Path, hint: str) -> None:
        self._folder = folder
        self._hint = hint

    def read(self) -> tuple[bytes, ...]:
        """The key ``current``, then the others by name. Raises NoKeyError without a usable ``current``, else RejectedError."""
        try:
            # Kubernetes keeps the mounted content below names that begin with two dots.
            names = sorted(entry.name for entry in self._folder.iterdir() if not entry.name.startswith("."))
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise RejectedError(SYSTEM, f"{self._folder} cannot be read: {error.strerror}. {self._hint}") from error
        if CURRENT not in names:
            message = (
                f"the operator has no key to seal with ({self._folder / CURRENT} is missing), so nothing outside of Kubernetes "
                f"can be trusted, and nothing new is started. {self._hint}"
            )
            raise NoKeyError(SYSTEM, message)
        keys = []
        # The sealing key comes first, which is how callers recognize it. A bad key is never skipped: data that it sealed would no
        # longer verify, and nobody would know why.
        for name in [CURRENT, *(name for name in names if name != CURRENT)]:
            file = self._folder / name
            try:
                with file.open("rb") as stream:
                    key = stream.read(_MOST_BYTES + 1)
            except OSError as error:
                raise RejectedError(SYSTEM, f"the key {file} cannot be read: {error.strerror}. {self._hint}") from error
            if not BYTES <= len(key) <= _MOST_BYTES:
                message = f"the key {file} has {len(key)} bytes; {BYTES} to {_MOST_BYTES} are allowed. {self._hint}"
                raise NoKeyError(SYSTEM, message) if name == CURRENT else RejectedError(SYSTEM, message)
            keys.append(key)
        return tuple(keys)


def make(folder: Path) -> None:
    """Create the folder and the key ``current``, accessible to their owner only, unless they exist."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / CURRENT).exists():
        return
    # Write it completely under a name that `read` ignores, then link it to its own: half a key must never seal.
    partial = folder / f".{CURRENT}.{os.getpid()}"
    with disk.written(partial):
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(os.urandom(BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    try:
        os.link(partial, folder / CURRENT)  # fails rather than replace a key that somebody created since
    except FileExistsError:
        pass
    finally:
        partial.unlink()
