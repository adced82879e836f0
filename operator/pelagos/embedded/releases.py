"""The control planes that Pelagos knows: the source of each version, and its place in the user's cache."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from pelagos.embedded import envtest, upstream

DEBIAN = "v1.20.2-debian"
"""Folder below the cache for the build from Debian's source package."""


class Source(enum.StrEnum):
    """Where the programs come from."""

    ARCHIVE = "archive"
    """The official envtest archive."""
    MODULES = "modules"
    """Built from the Go modules of Kubernetes and etcd."""
    DEBIAN = "debian"
    """Built from Debian's source package."""


@dataclass(frozen=True)
class Binaries:
    """The two programs of the control plane."""

    etcd: Path
    kube_apiserver: Path
    version: str = ""
    """The version of Kubernetes, such as ``1.37.2``; "" when only the programs know it."""


@dataclass(frozen=True)
class Release:
    """A version of the control plane from one source."""

    version: str
    """The version of Kubernetes, such as ``1.37.2``."""
    source: Source

    def programs(self) -> Binaries | None:
        """The release's programs; None unless both are installed."""
        if self.source is Source.MODULES:
            folders = upstream.folder("etcd"), upstream.folder("kubernetes")
        else:
            folder = cache() / (DEBIAN if self.source is Source.DEBIAN else f"v{self.version}")
            folders = folder, folder
        return executable(*folders, self.version)


def cache() -> Path:
    """The folder for programs that are downloaded or built from Debian's source; shared by all installations of a user."""
    return upstream.cache() / "control-plane"


def known() -> tuple[Release, ...]:
    """All known releases, the newest first."""
    archives = (Release(version, Source.ARCHIVE) for version in envtest.ARCHIVES)
    modules = Release(upstream.version("kubernetes"), Source.MODULES)
    return (modules, *archives, Release("1.20.2", Source.DEBIAN))


def matching(version: str = "", source: Source | None = None) -> tuple[Release, ...]:
    """The known releases of a version and from a source; without either, all of them."""
    return tuple(each for each in known() if version in {"", each.version} and source in {None, each.source})


def executable(etcd: Path, kube_apiserver: Path, version: str) -> Binaries | None:
    """The programs in two folders; None unless both can be executed."""
    found = Binaries(etcd / "etcd", kube_apiserver / "kube-apiserver", version)
    usable = all(os.access(program, os.X_OK) and program.is_file() for program in (found.etcd, found.kube_apiserver))
    return found if usable else None
