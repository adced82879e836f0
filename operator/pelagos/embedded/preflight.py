"""Checks the preconditions for a start; each failure says what to do. Called by `pelagos up` and by the supervisor."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from pelagos.embedded.failures import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pelagos.embedded.layout import Layout

NEEDED_BYTES = 500 * 10**6
"""Space needed for etcd's log and MLflow's database; images, models and runs need more."""
_PROGRAMS = ("tracking/bin/mlflow", "pipelines/bin/python", "triton/bin/python")


def check(layout: Layout, environments: Path, beside: Sequence[str] = ()) -> None:
    """Check all preconditions, and create the installation's folders. Raises StartError.

    ``beside``: names of optional parts, each of which has its own environment.
    """
    if not sys.platform.startswith("linux"):
        raise StartError(f"The embedded mode needs Linux; this is {sys.platform}.")
    check_home(layout)
    check_environments(environments, *(f"{name}/bin/python" for name in beside))


def check_home(layout: Layout) -> None:
    """Check that the home folder can be created and written to, and that its disk has room. Raises StartError."""
    advice = "Set PELAGOS_HOME to a folder where you may write."
    try:
        layout.create()
    except OSError as error:
        raise StartError(
            f"The folder {layout.home} cannot be used: {error.strerror} ({error.filename}). {advice}"
        ) from error
    for folder in (layout.home, layout.etcd, layout.logs):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StartError(f"The folder {folder} is not writable. {advice}")
    free = shutil.disk_usage(layout.home).free
    if free < NEEDED_BYTES:
        raise StartError(
            f"Only {free // 10**6} MB are free on the disk of {layout.home}; Pelagos needs {NEEDED_BYTES // 10**6} MB to start. "
            "Free some space, or set PELAGOS_HOME to a folder on another disk."
        )


def check_environments(environments: Path, *more: str) -> None:
    """Check that the environments of MLflow, the pipelines and Triton exist, and the programs ``more``. Raises StartError."""
    missing = [name for name in (*_PROGRAMS, *more) if not os.access(environments / name, os.X_OK)]
    if missing:
        names = ", ".join(sorted({name.partition("/")[0] for name in missing}))
        raise StartError(
            f"These environments are missing or broken in {environments}: {names}. Run `make install` in the checkout of "
            "Pelagos, or set PELAGOS_ENVIRONMENTS to the folder that holds them."
        )
