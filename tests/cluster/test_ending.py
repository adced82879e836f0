"""A node leaves nothing behind, neither after it was stopped nor when its test process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import control_groups
from cluster.conftest import require_node
from cluster.harness import machine
from cluster.harness.namespaces import Node, wait_until

_START = """
import sys, time
from pathlib import Path
from cluster.harness.namespaces import Node
node = Node.start(Path(sys.argv[1]))
node.spawn("sleeper", ["sleep", sys.argv[2]])
node.spawn("daemon", ["sh", "-c", f"setsid sleep {sys.argv[2]} & exec sleep {sys.argv[2]}"])
print("ready", flush=True)
time.sleep(600)
"""


def sleepers(seconds: str) -> int:
    """The number of processes that sleep this long."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found += (folder / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode()
        except OSError:  # ended since the list was read
            continue
    return found


def test_everything_in_a_node_dies_with_a_killed_test_process(tmp_path: Path) -> None:
    require_node()
    seconds = str(100_000 + os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-c", _START, tmp_path, seconds],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(machine.ROOT / "tests")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: sleepers(seconds) == 3, "all run", 10)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: sleepers(seconds) == 0, "all are gone", 10)

    # As at the end of tools/test.sh and .ci/run.
    ending = [sys.executable, str(machine.ROOT / "tests" / "orphans.py"), "nobody", "--end"]
    assert subprocess.run(ending, check=True, capture_output=True).stdout == b""
    groups = f"{control_groups.PREFIX}{process.pid}-*"
    assert not any(list(hierarchy.glob(groups)) for hierarchy in control_groups.hierarchies())


def test_a_stopped_node_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    require_node()
    before = state_of_the_machine()
    node = Node.start(tmp_path)
    node.run("ip", "link", "add", "br-test", "type", "bridge")
    node.run("iptables", "--table", "nat", "--new-chain", "TEST")
    node.run("touch", "/var/lib/pelagos-test")
    for group in node.control_groups():
        node.run("mkdir", group / "deeper")
    assert state_of_the_machine() == before
    node.stop()
    assert state_of_the_machine() == before
    assert not any(group.exists() for group in node.control_groups())


def state_of_the_machine() -> list[str]:
    """Links, routes, packet filter, mounts and kernel settings."""
    said = []
    for command in ("ip -oneline link", "ip route", "iptables-save --table nat", "hostname"):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=True)
        said.append("\n".join(line for line in done.stdout.splitlines() if not line.startswith("#")))
    said.append(Path("/proc/self/mounts").read_text())
    said += [Path("/proc/sys/kernel", name).read_text() for name in ("panic", "panic_on_oops")]
    said.append(Path("/proc/sys/vm/overcommit_memory").read_text())
    said.append(str(Path("/var/lib/pelagos-test").exists()))
    return said
