"""``pelagos operator``: only the operator, as in a pod. Replaces itself with ``python -m pelagos``, which needs less memory."""

from __future__ import annotations

import os
import sys


def operator() -> None:
    """Run the operator in the foreground, with settings from the environment (PELAGOS_...). SIGTERM stops it gracefully."""
    os.execv(sys.executable, [sys.executable, "-m", "pelagos"])  # noqa: S606 - our own interpreter, no shell
