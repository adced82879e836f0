"""``pelagos operator``: the operator alone, as in a pod. It becomes ``python -m pelagos``, without the command line's memory."""

from __future__ import annotations

import os
import sys


def operator() -> None:
    """Run the operator in the foreground, with settings from the environment (PELAGOS_...). SIGTERM stops it in order."""
    os.execv(sys.executable, [sys.executable, "-m", "pelagos"])  # noqa: S606 - our own interpreter, no shell
