"""The official envtest archive with etcd and kube-apiserver. Its address and checksums are defined only here.

Source: github.com/kubernetes-sigs/controller-tools, file envtest-releases.yaml.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import shutil
import socket
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ARCHIVES = {
    "1.36.2": {
        "amd64": "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dcf30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",  # noqa: E501
        "arm64": "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae28181afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",  # noqa: E501
    },
    "1.30.0": {
        "amd64": "d53870e1a6c9b3b50366489a9387f4e254c664955e932e3e25e2088bb437b270bfab75d241b50849233f9a34bb1f08b41567ebb81ea29352104ae0f5b1cb9e88",  # noqa: E501
        "arm64": "140748efaa394598f50175e809cd53896881ed046d93ebdfbd5442100f68b3d8d51fd22f8cf1ae06a6e43473897b789df0db6e0ae6c45c8320b000d5ee900005",  # noqa: E501
    },
}
"""SHA-512 by version of Kubernetes and machine type. The newest is first; the older one is for homes that it has written."""
RELEASES = "https://github.com/kubernetes-sigs/controller-tools/releases"
_PATTERN = RELEASES + "/download/envtest-v{version}/envtest-v{version}-linux-{architecture}.tar.gz"
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
_CONNECT_SECONDS = 3.0
_REPORT_SECONDS = 5.0
_READ_SECONDS = 20.0
_MAXIMUM_ARCHIVE = 300 * 2**20
_MAXIMUM_PROGRAM = 300 * 2**20
_CHUNK = 2**20


class UnavailableError(Exception):
    """The programs cannot be had in this way here; the message says why."""


def url(version: str) -> str:
    """The address of the archive for this machine. Raises UnavailableError when there is none."""
    architecture = _ARCHITECTURES.get(platform.machine().lower())
    if architecture is None or sys.platform != "linux":
        raise UnavailableError(f"there is no archive for {sys.platform} on {platform.machine()}")
    return _PATTERN.format(version=version, architecture=architecture)


def fetch(version: str, folder: Path, report: Callable[[str], None]) -> None:
    """Download, verify and unpack into ``folder``, which appears complete or not at all. Raises UnavailableError."""
    address = url(version)
    expected = ARCHIVES[version][_ARCHITECTURES[platform.machine().lower()]]
    _check_reachable(address)
    with tempfile.TemporaryDirectory(prefix=".envtest-", dir=folder.parent) as work:
        archive, unpacked = Path(work, "archive.tar.gz"), Path(work, "programs")
        download(address, archive, expected, report)
        unpack(archive, unpacked)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def download(address: str, target: Path, expected: str, report: Callable[[str], None]) -> None:
    """Fetch ``address`` into ``target`` and compare its SHA-512. Raises UnavailableError."""
    digest, size, shown = hashlib.sha512(), 0, time.monotonic()
    try:
        with urllib.request.urlopen(address, timeout=_READ_SECONDS) as answer, target.open("wb") as out:  # noqa: S310
            while chunk := answer.read(_CHUNK):
                size += len(chunk)
                if size > _MAXIMUM_ARCHIVE:
                    raise UnavailableError(f"{address} is larger than {_MAXIMUM_ARCHIVE} bytes")
                if time.monotonic() - shown > _REPORT_SECONDS:
                    shown = time.monotonic()
                    report(
                        f"{size // 10**6} of {int(answer.headers.get('Content-Length') or 0) // 10**6} MB downloaded"
                    )
                digest.update(chunk)
                out.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{address}: {error}") from error
    if digest.hexdigest() != expected:
        raise UnavailableError(f"{address} has the SHA-512 {digest.hexdigest()}, not the published {expected}")


def unpack(archive: Path, folder: Path) -> None:
    """Extract only the programs from the archive. Raises UnavailableError."""
    folder.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isreg() and name in _PROGRAMS and member.size <= _MAXIMUM_PROGRAM:
                    _write_program(tar, member, folder / name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UnavailableError(f"the archive cannot be unpacked: {error}") from error


def _write_program(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # regular files have content
    # Exclusive: a second member of the same name is an error, never a replacement.
    with source, target.open("xb") as out:
        shutil.copyfileobj(source, out)
        os.fchmod(out.fileno(), 0o755)


def _check_reachable(address: str) -> None:
    """Check within three seconds that the host answers; a download would wait for minutes where packets are dropped silently."""
    proxies = urllib.request.getproxies()
    target = urllib.parse.urlsplit(proxies.get("https") or address)
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    failures: list[OSError] = []
    # In a thread, because a name look-up has no time limit.
    attempt = threading.Thread(target=_connect, args=(host, port, failures), daemon=True)
    attempt.start()
    attempt.join(_CONNECT_SECONDS)
    if attempt.is_alive():
        raise UnavailableError(f"{host}:{port} does not answer within {_CONNECT_SECONDS:.0f} seconds")
    if failures:
        raise UnavailableError(f"{host}:{port} cannot be reached ({failures[0]})") from failures[0]


def _connect(host: str, port: int, failures: list[OSError]) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        failures.append(error)
