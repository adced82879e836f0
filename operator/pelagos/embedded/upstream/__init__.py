"""Kubernetes and etcd, built from their released Go modules by ``build.sh``. Called by ``binaries``."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_name("build.sh")
PROGRAMS = {"etcd": "etcd", "kubernetes": "kube-apiserver"}
"""What the embedded mode needs of each component; the quick one first."""


def cache() -> Path:
    """The user's folder of all that is kept between installations."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pelagos"


def modules(component: str) -> Path:
    """The folder of ``kubernetes`` or ``etcd`` that ``build.sh`` takes."""
    return SCRIPT.with_name(component)


def version(component: str) -> str:
    """The version that is built, ``1.2.3``."""
    pinned = re.search(r"^require \S+ v(\S+)$", (modules(component) / "go.mod").read_text(encoding="utf-8"), re.M)
    assert pinned is not None  # a test builds each
    return pinned[1]


def folder(component: str) -> Path:
    """Where the programs of a component lie; the script says the same with ``--where``."""
    return cache() / "upstream" / component / version(component)


def seconds() -> int:
    """Processor seconds of what is not built yet, on a machine that has compiled nothing of it."""
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
