"""Looks for an installation's secrets in command lines, which every user of the machine can read."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

SECRET_FILES = re.compile(
    r"token|passw|secret|credential|auth|kubeconfig|key|htpasswd|\.ini$|\.csv$|\.pem$", re.IGNORECASE
)
_LONG = re.compile(rb"[A-Za-z0-9_+/=.-]{16,}")
_LARGEST = 64 * 1024


def secrets_of(home: Path) -> set[bytes]:
    """The secrets in files whose names say that they hold some. Only unbroken words count; paths and our own words do not."""
    found: set[bytes] = set()
    for folder, _, names in os.walk(home):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                if SECRET_FILES.search(name) and path.is_file() and path.stat().st_size < _LARGEST:
                    found |= set(_LONG.findall(path.read_bytes()))
    return {
        value for value in found if not value.startswith((b"/", b"pelagos", b"http", b"-----")) and _is_random(value)
    }


def _is_random(value: bytes) -> bool:
    return bool(re.search(rb"[0-9]", value) and re.search(rb"[A-Za-z]", value))


def told(secrets: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Command lines of any process that contain a secret, each with that secret."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            found += [(command.replace(b"\0", b" ")[:500], value) for value in secrets if value in command]
    return found
