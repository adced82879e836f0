"""The commands without an installation: help, exit codes, and which output stream is used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pelagos.embedded import state
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartPhase, PartState, Phase, State
from pelagos.engines.processes.groups import ProcessId


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
    assert (down.returncode, "Nothing is running" in down.stderr) == (0, True)
    assert not (tmp_path / "nowhere").exists()


def test_status_prints_the_report_for_programs(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    part = PartState(phase=PartPhase.RESTARTING, restarts=3, last_exit="was ended by SIGKILL")
    state.write(layout.state, State(Phase.STOPPED, ProcessId(1, 1), parts={"etcd": part}))
    for arguments, parse in ((["--json"], json.loads), (["-o", "json"], json.loads), (["-o", "yaml"], yaml.safe_load)):
        done = pelagos(tmp_path, "status", *arguments)
        assert done.returncode == 3
        told = parse(done.stdout)
        assert (told["running"], told["phase"], told["crashed"]) == (False, "Stopped", False)
        assert (told["parts"]["etcd"]["restarts"], told["parts"]["etcd"]["phase"]) == (3, "Stopped")


@pytest.mark.parametrize(("output", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_are_answered_where_nothing_runs(
    tmp_path: Path, output: str, parse: Callable[[str], dict[str, Any]]
) -> None:
    home = {"KUBECONFIG": "", "HOME": str(tmp_path)}

    status = pelagos(tmp_path, "status", "-o", output, **home)
    ui = pelagos(tmp_path, "ui", "-o", output, **home)
    doctor = pelagos(tmp_path, "doctor", "-o", output, **home)
    predict = pelagos(tmp_path, "predict", "x", "y.png", "-o", output, **home)
    excluded = pelagos(tmp_path, "dataset", "excluded", "x", "-o", output, **home)

    assert [done.returncode for done in (status, ui, doctor, predict, excluded)] == [3, 1, 1, 1, 1]
    told = parse(status.stdout)
    assert (told["running"], told["phase"], told["parts"]) == (False, "Stopped", {})
    assert "Continue with `pelagos up`" in told["message"]
    assert parse(ui.stdout)["running"] is False
    assert parse(doctor.stdout)["failures"] == 1
    assert "y.png cannot be read" in parse(predict.stdout)["error"]
    assert "there is no API server to ask" in parse(excluded.stdout)["error"]


def test_a_supervisor_that_was_killed_is_not_told_as_ready(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path)
    state.write(layout.state, State(Phase.READY, ProcessId(1, 1), parts={"etcd": PartState(phase=PartPhase.READY)}))

    told = json.loads(pelagos(tmp_path, "status", "-o", "json").stdout)

    assert (told["running"], told["phase"], told["crashed"]) == (False, "Stopped", True)
    assert told["parts"]["etcd"]["phase"] == "Stopped"


def test_the_version_is_reported(tmp_path: Path) -> None:
    done = pelagos(tmp_path, "--version")

    assert done.returncode == 0
    assert re.fullmatch(r"pelagos \d+\.\d+\.\d+\S*\n", done.stdout)


def test_control_plane_install_finds_what_is_there(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text("#!/bin/sh\necho Kubernetes v1.33.1\n")
        (tmp_path / name).chmod(0o755)
    done = pelagos(tmp_path, "control-plane", "install", KUBEBUILDER_ASSETS=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.split() == [
        *("etcd", f"{tmp_path}/etcd"),
        *("kube-apiserver", f"{tmp_path}/kube-apiserver"),
        *("Kubernetes", "1.33.1"),
    ]


@pytest.mark.parametrize("message", ["[bold]not markup[/]", "log line [0]"])
def test_messages_are_shown_as_they_are(tmp_path: Path, message: str) -> None:
    state.write(Layout.of(tmp_path).state, State(Phase.FAILED, ProcessId(1, 1), message=message))
    assert message in pelagos(tmp_path, "status").stdout
