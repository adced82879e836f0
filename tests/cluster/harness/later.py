"""Programs that only a few tests need (tools/node/later.txt).

They are built from released Go modules at the lowest priority, while tests run that need none of them. Nothing is built twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.harness import machine

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_SCRIPT = 'for line; do nice -n 19 "$0" ${line} || exit; done'
_SECONDS = 1200.0


def components() -> Mapping[str, str]:
    """The programs that can be built: component -> the arguments of build.sh, which name its folder and its program."""
    lines = (machine.TOOLS / "later.txt").read_text(encoding="utf-8").splitlines()
    return {Path(line.split()[0]).name: f"{machine.ROOT}/{line}" for line in lines}


class Later:
    """Builds in the background. ``log`` is the file that a build writes to."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, names: Collection[str]) -> None:
        """Build the missing components, one after another in the order of the file; returns at once."""
        lacking = [line for name, line in components().items() if name in names and not _is_there(line)]
        if not lacking:
            return
        with self._log.open("ab") as output:
            command = ["bash", "-c", _SCRIPT, str(machine.BUILD), *lacking]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def program(self, component: str) -> Path:
        """Wait for the program of a component. Raises AssertionError, naming the missing requirement, when it cannot be built."""
        line = components()[component]
        if self._process is not None and not _is_there(line):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS)
        if not _is_there(line):
            said = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise AssertionError(f"{component} is not there; build it: {machine.BUILD} {line}\n{said}")
        return _path(line)

    def stop(self) -> None:
        """Stop the build in progress, which the next run continues, and remove its log."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()
        self._log.unlink(missing_ok=True)


def _path(line: str) -> Path:
    folder, program = line.split()
    return machine.built_in(folder) / program


def _is_there(line: str) -> bool:
    return os.access(_path(line), os.X_OK)
