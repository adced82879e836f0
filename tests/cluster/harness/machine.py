"""What this machine has for a node: the programs that tools/node/install.sh installs, and where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from pelagos.embedded import binaries

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "tools" / "node"
ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", ROOT / ".venvs"))
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


def cache() -> Path:
    """Folder of what is kept between test runs: the base image and the container engines' images."""
    return binaries.cache().parent / "cluster"


def base_archive() -> Path:
    """The small Debian that images are built on."""
    return cache() / "base.tar"


def program(name: str) -> Path:
    """A program of Kubernetes, or etcd."""
    return binaries.cache() / binaries.DEBIAN / name


def kubectl() -> Path:
    """The client."""
    return ENVIRONMENTS / "control-plane" / "bin" / "kubectl"


def unsupported() -> str:
    """Why no node can run on this machine; empty where one can."""
    done = subprocess.run([TOOLS / "supported.sh"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode else ""


def not_installed() -> str:
    """What is missing for a node, with the next step; empty when everything is there."""
    absent = [name for name in PROGRAMS if not os.access(program(name), os.X_OK)]
    absent += [name for name in ("dockerd", "dnsmasq", "iptables", "jq") if shutil.which(name) is None]
    if not base_archive().exists():
        absent.append(base_archive().name)
    return f"{', '.join(absent)} missing; run tools/node/install.sh" if absent else ""
