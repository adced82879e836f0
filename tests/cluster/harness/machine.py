"""The programs that this machine has for a node, which tools/node/install.sh installs, and their paths."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.embedded import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "tools" / "node"
ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", ROOT / ".venvs"))
PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path of everything inside the node."""
BUILD = ROOT / "operator" / "pelagos" / "embedded" / "upstream" / "build.sh"
"""Builds programs of a Go module."""
DEBIAN = ("dockerd", "runc", "dnsmasq", "iptables", "openssl")
"""Programs of Debian's packages."""


def cache() -> Path:
    """The folder of files that are kept between test runs: the base image and the container engines' images."""
    return binaries.cache().parent / "cluster"


def base_archive() -> Path:
    """The small Debian that images are built on."""
    return cache() / "base.tar"


@functools.cache
def modules() -> Mapping[str, tuple[Path, tuple[str, ...]]]:
    """Released Go modules to build: component -> the folder of its programs, and the programs that a node needs.

    A folder is ``.../<component>/<version>``.
    """
    found = {}
    for line in (TOOLS / "programs.txt").read_text(encoding="utf-8").splitlines():
        module, *programs = line.split()
        found[Path(module).name] = (built_in(ROOT / module), tuple(programs))
    return found


@functools.cache
def built_in(module: str | Path) -> Path:
    """The folder in which programs of a Go module are, or will be, built."""
    done = subprocess.run([str(BUILD), "--where", str(module)], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def folder(component: str) -> Path:
    """The folder of a component's programs."""
    return modules()[component][0]


def program(name: str) -> Path:
    """The path of one of the built programs."""
    (found,) = (place for place, names in modules().values() if name in names)
    return found / name


def kubectl() -> Path:
    """The path of kubectl."""
    return ENVIRONMENTS / "control-plane" / "bin" / "kubectl"


def unsupported() -> str:
    """Why no node can run on this machine; empty if one can."""
    done = subprocess.run([TOOLS / "supported.sh"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode else ""


def not_installed() -> str:
    """A message about missing requirements of a node, with the next step; empty when none is missing."""
    built = [place / name for place, names in modules().values() for name in names]
    absent = [path.name for path in built if not os.access(path, os.X_OK)]
    absent += [name for name in DEBIAN if shutil.which(name) is None]
    if not base_archive().exists():
        absent.append(base_archive().name)
    return f"{', '.join(absent)} missing; run tools/node/install.sh" if absent else ""
