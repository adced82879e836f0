"""Keys, token and kubeconfig of the embedded API server. Called before it starts, and again once it has its certificate."""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import yaml

from pelagos.embedded.failures import StartError
from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path

    from pelagos.embedded.layout import Layout

_ADMINISTRATOR = "pelagos-admin"
_TOKEN_BYTES = 32
_RENEW_AFTER_SECONDS = 180 * 24 * 3600
"""The API server signs its certificate for one year and never renews it by itself."""


def prepare(layout: Layout) -> None:
    """Create the files that the API server needs to start, and keep those that are sound. Raises StartError or OSError."""
    _discard_unusable_certificate(layout.certificates)
    if token(layout) is None:
        line = f"{secrets.token_urlsafe(_TOKEN_BYTES)},{_ADMINISTRATOR},{_ADMINISTRATOR},system:masters\n"
        disk.write_atomically(layout.tokens, line, mode=disk.PRIVATE)
    private, public = layout.certificates / "sa.key", layout.certificates / "sa.pub"
    if not (_has_content(private) and _has_content(public)):
        key = _openssl("genrsa", "2048")
        disk.write_atomically(private, key, mode=disk.PRIVATE)
        disk.write_atomically(public, _openssl("rsa", "-pubout", key=key), mode=disk.PRIVATE)


def token(layout: Layout) -> str | None:
    """The administrator's bearer token; None when there is none yet."""
    try:
        line = layout.tokens.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    fields = line.strip().split(",")
    return fields[0] if fields[1:2] == [_ADMINISTRATOR] else None


def authority(layout: Layout) -> Path:
    """The certificate that clients trust: the API server's own, which is self-signed."""
    return layout.certificates / "apiserver.crt"


def write_kubeconfig(layout: Layout, server: str) -> None:
    """Write the administrator's kubeconfig for ``server`` (``https://127.0.0.1:<port>``)."""
    trusted = base64.b64encode(authority(layout).read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pelagos", "cluster": {"server": server, "certificate-authority-data": trusted}}],
        "users": [{"name": _ADMINISTRATOR, "user": {"token": token(layout)}}],
        "contexts": [
            {"name": "pelagos", "context": {"cluster": "pelagos", "user": _ADMINISTRATOR, "namespace": "default"}}
        ],
        "current-context": "pelagos",
    }
    disk.write_atomically(layout.kubeconfig, yaml.safe_dump(content, sort_keys=False), mode=disk.PRIVATE)


def _discard_unusable_certificate(folder: Path) -> None:
    """Remove certificate and key if they are incomplete or old. The server creates a new pair, but refuses half of one."""
    pair = (folder / "apiserver.crt", folder / "apiserver.key")
    sound = all(_has_content(file) for file in pair)
    # A certificate from the future was created before the clock was set back, and is not valid yet.
    if not sound or not 0 <= time.time() - pair[0].stat().st_mtime <= _RENEW_AFTER_SECONDS:
        for file in pair:
            file.unlink(missing_ok=True)


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _openssl(*arguments: str, key: str | None = None) -> str:
    program = shutil.which("openssl")
    if program is None:
        raise StartError("The program openssl is missing. Install it (Debian: apt-get install openssl) and try again.")
    done = subprocess.run([program, *arguments], input=key, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"openssl {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout
