"""The commands without an installation: help, exit codes, and where words go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pelagos.embedded import state
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartPhase, PartState, Phase, State
from pelagos.engines.processes import ProcessId


def pelagos(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, with output to pipes."""
    variables = {
        **os.environ,
        "PELAGOS_HOME": str(home),
        "PELAGOS_ENVIRONMENTS": str(home / "environments"),
        **environment,
    }
    command = [sys.executable, "-m", "pelagos.cli.main", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)


def test_help_names_every_command(tmp_path: Path) -> None:
    done = pelagos(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("up", "down", "status", "ui", "predict", "demo", "dataset", "control-plane"):
        assert f" {command} " in done.stdout


def test_an_unknown_command_is_an_error_of_use(tmp_path: Path) -> None:
    assert pelagos(tmp_path, "upp").returncode == 2


def test_without_environments_up_says_what_to_do(tmp_path: Path) -> None:
    done = pelagos(tmp_path, "up")
    assert done.returncode == 1
    assert "Run `make install`" in done.stderr
    assert "pipelines, tracking, triton" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_up_in_a_place_that_is_not_writable_says_what_to_do() -> None:
    done = pelagos(Path("/proc/pelagos"), "up")
    assert done.returncode == 1
    assert "Set PELAGOS_HOME to a folder where you may write" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_down_where_nothing_ever_ran(tmp_path: Path) -> None:
    status = pelagos(tmp_path / "nowhere", "status")
    assert (status.returncode, "does not run" in status.stdout) == (3, True)
    down = pelagos(tmp_path / "nowhere", "down")
    assert (down.returncode, "Nothing runs" in down.stderr) == (0, True)
    assert not (tmp_path / "nowhere").exists()


def test_status_prints_the_report_for_programs(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    part = PartState(phase=PartPhase.RESTARTING, restarts=3, last_exit="was ended by SIGKILL")
    state.write(layout.state, State(Phase.STOPPED, ProcessId(1, 1), parts={"etcd": part}))
    done = pelagos(tmp_path, "status", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["parts"]["etcd"]["restarts"] == 3


def test_control_plane_install_finds_what_is_there(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    done = pelagos(tmp_path, "control-plane", "install", KUBEBUILDER_ASSETS=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.split() == ["etcd", f"{tmp_path}/etcd", "kube-apiserver", f"{tmp_path}/kube-apiserver"]


@pytest.mark.parametrize("message", ["[bold]not markup[/]", "log line [0]"])
def test_messages_are_shown_as_they_are(tmp_path: Path, message: str) -> None:
    state.write(Layout.of(tmp_path).state, State(Phase.FAILED, ProcessId(1, 1), message=message))
    assert message in pelagos(tmp_path, "status").stdout
