"""Describes the machine on which figures were measured, in enough detail to tell whether two results are from the same one."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("kopf", "aiohttp", "pydantic", "tritonclient")


def fingerprint() -> dict[str, str]:
    """Names and values of all properties that affect speed."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "packages": packages,
    }


def _field(path: Path, name: str) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return " ".join(value.split())
    return "unknown"
