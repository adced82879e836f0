"""Describes the environment in which a run was trained, for its record in MLflow. Called by the step train."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from pelagos_contract import disk
from pelagos_contract.tags import ENVIRONMENT_TAGS

NAMED = ("torch", "torchvision", "numpy", "opencv-python", "onnx", "onnxruntime")
"""Packages whose versions are recorded as tags; a family adds those of its framework."""


def record(listing: Path, of_family: Iterable[str]) -> dict[str, str]:
    """Tags that describe the environment. All installed packages are written to ``listing``, in the form of pip freeze.

    ``of_family`` are the additional packages that the family names.
    """
    import torch

    # Each access to the metadata parses the file again.
    described = [found.metadata for found in metadata.distributions()]
    packages = sorted({f"{each['Name']}=={each['Version']}" for each in described}, key=str.lower)
    text = "\n".join(packages) + "\n"
    disk.write_atomically(listing, text, parents=True)
    versions = dict(package.split("==", 1) for package in packages)
    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": accelerator,
        "packages.sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    facts |= {name: versions[name] for name in (*NAMED, *of_family) if name in versions}
    return {f"{ENVIRONMENT_TAGS}{name}": value for name, value in facts.items()}


def _processor() -> str:
    """The processor's name, which platform.processor() does not return on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
