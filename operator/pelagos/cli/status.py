"""``pelagos status``: what runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pelagos.api.text import shown
from pelagos.cli import installed, progress
from pelagos.embedded import daemon
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import Phase

NOT_RUNNING = 3


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the supervisor's report as it is.")] = False,
) -> None:
    """Show the parts of the installation, their restarts and how they last ended.

    Exit codes: 0 when all is ready, 1 when something is not, 3 when nothing runs.
    """
    layout = Layout.of(installed.settings().home)
    found = daemon.look(layout)
    console = installed.result_console()
    if as_json and found.state is not None:
        sys.stdout.write(shown(layout.state.read_text(encoding="utf-8"), lines=True))
    elif found.state is not None and found.runs:
        console.print(f"{found.state.phase}, supervisor {found.state.supervisor.pid}, since {found.state.started_at}")
        console.print(progress.table(found.state))
        console.print(f"kubeconfig {layout.kubeconfig}\nlogs       {layout.logs}", markup=False, soft_wrap=True)
    else:
        console.print(_absence(layout, found), markup=False, soft_wrap=True)
    raise typer.Exit(_code(found))


def _code(found: daemon.Found) -> int:
    if not found.runs:
        return NOT_RUNNING
    return 0 if found.state is not None and found.state.phase is Phase.READY else 1


def _absence(layout: Layout, found: daemon.Found) -> str:
    if found.runs:
        return (
            f"Pelagos runs with its state in {layout.home}, but {layout.state} cannot be read. Start anew: pelagos down"
        )
    lines = [f"Pelagos does not run with its state in {layout.home}."]
    if found.state is not None and found.state.phase is Phase.FAILED:
        lines.append(f"The last start failed: {found.state.message}")
    if found.crashed:
        lines.append("Its supervisor ended without stopping: it was killed, or the machine went down.")
    if found.leftovers:
        lines.append(f"{found.leftovers} of its processes (pipelines, model servers) still run.")
    lines.append("Continue with `pelagos up`" + (", or end them with `pelagos down`." if found.leftovers else "."))
    return "\n".join(lines)
