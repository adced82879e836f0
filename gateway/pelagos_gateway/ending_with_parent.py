"""Becomes a program that ends with the process that started this: ``ending_with_parent.py PARENT_PID PROGRAM ARGUMENT...``.

A script of its own, and no function between fork and exec: libraries of the process that starts it have threads, and what they do
at a fork may end the child. It imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_FAILED_TO_START = 127


def main() -> None:
    """Never returns."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # It may have ended before the system was told; then this has another parent by now.
    if os.getppid() != parent:
        sys.exit(_FAILED_TO_START)
    # The interpreter ignores it, and programs inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
