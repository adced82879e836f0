"""What a command imports, counted in modules: the startup time follows from it, but a count does not depend on a busy machine."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pelagos.cli import commands
from pelagos.cli.main import app

HEAVY = {"aiohttp", "kfp", "kopf", "kubernetes", "mlflow", "numpy", "pandas", "PIL", "torch", "tritonclient", "yaml"}
MODULES = """
import sys
from pelagos.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit:
    print("imported:", *sorted(sys.modules))
"""


def imported(home: Path, *words: str) -> set[str]:
    """The modules that a process with these arguments has at its end."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *words],
        env={"PELAGOS_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("imported:")[2].split())


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_what_every_command_pays_is_typer_and_eight_small_modules(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = imported(tmp_path, *words)
    assert {module for module in found if module.startswith("pelagos")} == {
        "pelagos",
        "pelagos.cli",
        "pelagos.cli.commands",
        "pelagos.cli.main",
        "pelagos.embedded",
        "pelagos.embedded.failures",
        "pelagos_contract",
        "pelagos_contract.extensions",
    }
    assert not packages(found) & (HEAVY | {"pydantic", "pydantic_settings"})


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("down",)])
def test_who_asks_what_runs_waits_for_settings_and_records_alone(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = imported(tmp_path, *words)
    assert not packages(found) & HEAVY
    assert not {"pelagos.api.kinds", "pelagos.wiring", "pelagos.embedded.supervisor"} & found
    assert {module.split(".")[2] for module in found if module.startswith("pelagos.engines.")} == {"processes"}


@pytest.mark.parametrize("entry", commands.ENTRIES, ids=lambda entry: entry.name)
def test_the_table_says_of_a_command_what_that_says_of_itself(entry: commands.Entry) -> None:
    command = commands.Deferred(entry).command
    first = inspect.cleandoc(command.help or "").split("\n\n")[0]
    assert entry.help == " ".join(first.split())
    assert command.name == entry.name


def test_a_group_of_commands_is_completed_as_deep_as_it_goes() -> None:
    root = typer.main.get_command(app)
    with root.make_context("pelagos", ["dataset"], resilient_parsing=True) as context:
        found = root.get_command(context, "dataset")  # type: ignore[attr-defined]
        with found.make_context("dataset", [], parent=context, resilient_parsing=True) as inner:
            assert "diff" in inner.command.list_commands(inner)
