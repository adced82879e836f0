"""The node's own Linux namespaces: network, processes, mounts. Everything in them ends with their first process.

Used by cluster.py. That first process (tools/node/init.sh) is tied to the test process, so nothing survives a kill -9.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import control_groups
import orphans
from cluster.harness import machine, servers
from pelagos.embedded import parent_death_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_START_SECONDS = 20.0
_LINK = "172.30.0"
"""The prefix of the network between nodes."""
_numbers = itertools.count(1)


@dataclass
class Node:
    """The running namespaces of a node."""

    folder: Path
    """State and logs of everything that runs inside."""
    place: servers.Place
    holder: subprocess.Popen[bytes]
    init: int
    """The pid of the first process, as seen from the machine."""
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    commands: dict[str, Sequence[str | Path]] = field(default_factory=dict)
    control_group: str = field(default_factory=lambda: f"{control_groups.PREFIX}{os.getpid()}-{next(_numbers)}")

    @classmethod
    def start(cls, folder: Path, place: servers.Place = servers.PLACES[0]) -> Node:
        """Create the namespaces, with the bridge for pods."""
        control_groups.remove_those_of_the_dead()
        unshare = ("unshare", "--fork", "--pid", "--mount", "--net", "--uts", "--ipc", "--kill-child")
        command = [*unshare, "bash", machine.TOOLS / "init.sh", folder, *place.network()]
        log = folder / "init.log"
        holder = _wrapped([str(word) for word in command], {**os.environ}, log)
        number = folder / "init.pid"
        try:
            wait_until(lambda: number.exists() or holder.poll() is not None, "the namespaces are made", _START_SECONDS)
            if not number.exists():
                raise RuntimeError(f"no namespaces: {log.read_text()}")
        except BaseException:
            holder.kill()
            holder.wait()
            raise
        node = cls(folder, place, holder, int(number.read_text()))
        for group in node.control_groups():
            group.mkdir(exist_ok=True)
        return node

    @property
    def network(self) -> Path:
        """The file of the network namespace."""
        return Path(f"/proc/{self.init}/ns/net")

    def control_groups(self) -> list[Path]:
        """The node's group in each hierarchy."""
        return [hierarchy / self.control_group for hierarchy in control_groups.hierarchies()]

    def enter(self, *command: str | Path) -> list[str]:
        """The command line that runs ``command`` inside."""
        return ["nsenter", "--target", str(self.init), "--all", *map(str, command)]

    def run(
        self, *command: str | Path, check: bool = True, text: str | None = None, seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside and wait for it; raises AssertionError with its output when it fails."""
        done = subprocess.run(
            self.enter(*command),
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=self.environment(),
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def spawn(self, name: str, command: Sequence[str | Path]) -> None:
        """Start a part inside; its log is ``<folder>/<name>.log``."""
        # Keeps the pid that the part has inside, for `signal`.
        self.commands[name] = command
        shell = ("sh", "-c", 'echo $$ >"$0" && exec "$@"', f"/run/pids/{name}")
        self.parts[name] = _wrapped(self.enter(*shell, *command), self.environment(), self.log(name))

    def restart(self, name: str) -> None:
        """End a part and start it again."""
        self.signal(name, signal.SIGTERM)
        self.parts[name].wait(20)
        self.spawn(name, self.commands[name])

    def log(self, name: str) -> Path:
        """The log of a part."""
        return self.folder / f"{name}.log"

    def link(self, other: Node) -> None:
        """Connect two nodes, so that the pods of both reach each other and both nodes."""
        ends = ((self, "to-" + other.place.name, other), (other, "to-" + self.place.name, self))
        (_, here, _), (_, there, _) = ends
        command = [
            "ip",
            "link",
            "add",
            here,
            "netns",
            self.init,
            "type",
            "veth",
            "peer",
            "name",
            there,
            "netns",
            other.init,
        ]
        subprocess.run(list(map(str, command)), check=True)
        for node, link, far in ends:
            node.run("ip", "link", "set", link, "up")
            node.run("ip", "address", "add", f"{_LINK}.{node.place.number + 1}/24", "dev", link)
            node.run("ip", "route", "add", far.place.pods, "via", f"{_LINK}.{far.place.number + 1}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a part."""
        self.run("sh", "-c", f'kill -{int(number)} "$(cat /run/pids/{name})"', check=False)

    def ended(self) -> list[str]:
        """Parts that have ended."""
        return [name for name, process in self.parts.items() if process.poll() is not None]

    def environment(self) -> Mapping[str, str]:
        """The environment inside: no proxies, no Python environments of the outside; the mark of this test run (orphans.py)."""
        mark = {orphans.VARIABLE: os.environ[orphans.VARIABLE]} if orphans.VARIABLE in os.environ else {}
        return {**mark, "PATH": machine.PATH, "HOME": str(self.folder), "LANG": "C.UTF-8", "DOCKER_BUILDKIT": "1"}

    def stop(self) -> None:
        """End everything inside."""
        self.holder.kill()  # the wrapper's program dies with it, and with that one the namespaces
        self.holder.wait()
        for process in self.parts.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
        for group in self.control_groups():
            control_groups.remove(group)


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for ``condition``. Raises TimeoutError when it stays false."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def _wrapped(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", parent_death_wrapper.__file__, str(os.getpid()), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
