"""Finds etcd and kube-apiserver, or gets them. Called by `pelagos control-plane install` and before the supervisor starts.

In this order: the folder KUBEBUILDER_ASSETS, the cache, the official envtest archive, a build from Debian's source package.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.embedded import envtest
from pelagos.embedded.failures import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

DEBIAN = "v1.20.2-debian"
"""Folder below the cache for what is built from Debian's source package."""
_BUILD = Path(__file__).with_name("build_control_plane.sh")
_PROGRESS = "::"


@dataclass(frozen=True)
class Binaries:
    """The two programs of the control plane."""

    etcd: Path
    kube_apiserver: Path


def cache() -> Path:
    """Folder of downloaded and built programs, shared by all installations of a user."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pelagos" / "control-plane"


def find() -> Binaries | None:
    """What is there already. Raises StartError when KUBEBUILDER_ASSETS names a folder without the programs."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        found = _in(Path(assets))
        if found is None:
            raise StartError(
                f"KUBEBUILDER_ASSETS is {assets}, which does not hold the programs etcd and kube-apiserver. "
                "Correct it, or unset it to let Pelagos look elsewhere."
            )
        return found
    return _in(cache() / envtest.VERSION) or _in(cache() / DEBIAN)


def require() -> Binaries:
    """What is there already; raises StartError with the next step when nothing is."""
    found = find()
    if found is None:
        raise StartError("etcd and kube-apiserver are not installed. Run `pelagos control-plane install` first.")
    return found


def install(report: Callable[[str], None]) -> Binaries:
    """Find the programs or get them; ``report`` is called with each step. Safe to call from several processes at once.

    Raises StartError with the next step when every way fails.
    """
    if found := find():
        return found
    root = cache()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another installation of the control plane to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return find() or _download(root, report) or _build(root / DEBIAN, report)


def _download(root: Path, report: Callable[[str], None]) -> Binaries | None:
    try:
        report(f"looking for the official envtest archive ({envtest.VERSION})")
        envtest.fetch(root / envtest.VERSION)
    except envtest.UnavailableError as error:
        report(f"the envtest archive is not available: {error}")
        return None
    return _in(root / envtest.VERSION)


def _build(folder: Path, report: Callable[[str], None]) -> Binaries:
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise StartError(
            "etcd and kube-apiserver can be neither downloaded nor built here: the envtest archive is out of reach, and the "
            f"build needs Debian. Get envtest {envtest.VERSION} for your machine from {envtest.RELEASES} on another "
            "machine, unpack it, and set KUBEBUILDER_ASSETS to the folder with etcd and kube-apiserver."
        )
    report("building from Debian's source package; this takes 3 to 6 minutes, once")
    last = _run_build(folder, report)
    found = _in(folder)
    if found is None:
        raise StartError(
            "Building the control plane failed. The build's last lines:\n"
            + "\n".join(f"  {line}" for line in last)
            + "\nIt needs Debian 12 with its package sources in reach, and root or sudo without a password. "
            "Otherwise set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver."
        )
    return found


def _run_build(folder: Path, report: Callable[[str], None]) -> list[str]:
    """Run the script; returns the last lines of what it wrote."""
    last: list[str] = []
    with subprocess.Popen(
        ["bash", str(_BUILD), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            if line.startswith(_PROGRESS):
                report(line.removeprefix(_PROGRESS).strip())
            else:
                last = [*last[-14:], line.rstrip()]
    return last


def _in(folder: Path) -> Binaries | None:
    found = Binaries(etcd=folder / "etcd", kube_apiserver=folder / "kube-apiserver")
    usable = all(os.access(program, os.X_OK) and program.is_file() for program in (found.etcd, found.kube_apiserver))
    return found if usable else None
