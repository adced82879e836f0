"""Kubernetes and etcd, built by ``build.sh`` from their released Go modules. Called by ``binaries``."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_name("build.sh")
PROGRAMS = {"etcd": "etcd", "kubernetes": "kube-apiserver"}
"""The program that the embedded mode needs of each component; the one that builds faster is first."""


def cache() -> Path:
    """The user's cache folder, which is shared by all installations."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pelagos"


def modules(component: str) -> Path:
    """The folder with the go.mod of ``kubernetes`` or ``etcd``, which ``build.sh`` takes as an argument."""
    return SCRIPT.with_name(component)


def version(component: str) -> str:
    """The version that is built, such as ``1.2.3``."""
    pinned = re.search(r"^require \S+ v(\S+)$", (modules(component) / "go.mod").read_text(encoding="utf-8"), re.M)
    assert pinned is not None  # a test covers every component
    return pinned[1]


def folder(component: str) -> Path:
    """The folder of a component's programs; the script prints the same with ``--where``."""
    return cache() / "upstream" / component / version(component)


def seconds() -> int:
    """Estimated processor seconds for everything that is not built yet, assuming that none of it has been compiled."""
    plans = [
        subprocess.run(
            ["bash", str(SCRIPT), "--plan", str(modules(component)), program],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for component, program in PROGRAMS.items()
    ]
    return sum(map(int, plans))
