"""Runs a program that dies with the process that started it: ``parent_death_wrapper.py PARENT_PID PROGRAM ARGUMENT...``.

The supervisor starts every part through this file, as a separate script that imports only the standard library, so that a killed
supervisor leaves no servers behind. Linux can end only direct children with their parent, but MLflow has its own workers. So
this process stays, waits for the program, and ends the program's whole process group when the supervisor dies. Conversely, the
program dies with the wrapper.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
KILL = signal.SIGUSR1
"""Ends the program and its workers at once. The kernel sends it when the supervisor dies; the supervisor may send it too."""
_FAILED_TO_START = 127


def main() -> NoReturn:
    """Start the program, and exit the way it exits."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    forwarded = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    # Block signals until the program's process id is known, so that none is lost in between.
    signal.pthread_sigmask(signal.SIG_BLOCK, {KILL, *forwarded})
    _die_with_parent(KILL)
    # The supervisor may have died before prctl took effect; then we have another parent by now.
    if os.getppid() != supervisor:
        sys.exit(_FAILED_TO_START)
    wrapper = os.getpid()
    program = os.fork()
    if program == 0:
        _become(command, wrapper)
    _follow(program)


def _become(command: list[str], wrapper: int) -> NoReturn:
    # A separate process group, so that its workers can be ended with it while the wrapper survives to report how it ended.
    os.setpgid(0, 0)
    _die_with_parent(signal.SIGKILL)
    if os.getppid() != wrapper:
        os._exit(_FAILED_TO_START)
    # Unblock signals: the mask is inherited across exec, and the program would never receive a request to end.
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
        sys.stderr.flush()
        os._exit(_FAILED_TO_START)


def _follow(program: int) -> NoReturn:
    with contextlib.suppress(OSError):
        os.setpgid(program, program)  # parent and child both do it, so that it is done before either continues
    awaited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, KILL}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    while True:
        done, status = os.waitpid(program, os.WNOHANG)
        if done:
            # Workers that outlive the program would keep its ports and files open.
            _signal_group(program, signal.SIGKILL)
            _end_alike(os.waitstatus_to_exitcode(status))
        # Signals are blocked, so one that arrived since waitpid is pending, and none is missed here.
        received = signal.sigwait(awaited)
        if received == KILL:
            _signal_group(program, signal.SIGKILL)
        elif received != signal.SIGCHLD:
            os.kill(program, received)


def _end_alike(code: int) -> NoReturn:
    """Exit with the same code, or die by the same signal."""
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _signal_group(group: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, sign)


def _die_with_parent(sign: signal.Signals) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, sign, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


if __name__ == "__main__":
    main()
