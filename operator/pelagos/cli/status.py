"""``pelagos status``: the parts of the installation and their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer

from pelagos.cli import installed, outputs, progress
from pelagos.cli.outputs import Output
from pelagos.embedded import daemon
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartPhase, Phase

NOT_RUNNING = 3


def status(
    output: outputs.Option = Output.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """Show the parts of the installation, their restarts and how they last ended.

    When nothing is running, JSON and YAML say so in "running" and "phase".

    Exit codes: 0 when all is ready, 1 when something is not, 3 when nothing is running.
    """
    layout = Layout.of(installed.settings().home)
    found = daemon.look(layout)
    console = installed.result_console()
    if as_json or output is not Output.TABLE:
        outputs.write(_document(layout, found), Output.JSON if as_json else output)
    elif found.state is not None and found.runs:
        console.print(f"{found.state.phase}, supervisor {found.state.supervisor.pid}, since {found.state.started_at}")
        console.print(progress.table(found.state))
        console.print(f"kubeconfig {layout.kubeconfig}\nlogs       {layout.logs}", markup=False, soft_wrap=True)
    else:
        console.print(_absence(layout, found), markup=False, soft_wrap=True)
    if not found.runs:
        raise typer.Exit(NOT_RUNNING)
    raise typer.Exit(0 if found.state is not None and found.state.phase is Phase.READY else 1)


def _document(layout: Layout, found: daemon.Found) -> dict[str, Any]:
    """The supervisor's report, corrected for the present: if the supervisor no longer runs, the report is outdated."""
    report: dict[str, Any] = asdict(found.state) if found.state is not None else {"parts": {}, "message": ""}
    phase = report.get("phase", Phase.STOPPED)
    told = {
        "running": found.runs,
        "phase": str(phase if found.runs or phase is Phase.FAILED else Phase.STOPPED),
        "crashed": found.crashed,
        "orphans": found.orphans,
        "home": str(layout.home),
        "logs": str(layout.logs),
    }
    if found.runs and found.state is None:
        told |= {"phase": None, "message": _absence(layout, found)}
    elif not found.runs:
        told |= {"message": _absence(layout, found)}
    parts = {name: _plain(part, is_there=found.runs) for name, part in report.pop("parts").items()}
    return {**_plain(report, is_there=True), **told, "parts": parts}


def _plain(report: Mapping[str, Any], *, is_there: bool) -> dict[str, Any]:
    """A part's report with plain types. If the supervisor no longer runs, the part has stopped, or is an orphan."""
    found = {name: str(value) if isinstance(value, Enum) else value for name, value in report.items()}
    return found if is_there else found | {"phase": str(PartPhase.STOPPED), "pid": None, "session": None}


def _absence(layout: Layout, found: daemon.Found) -> str:
    if found.runs:
        return (
            f"Pelagos runs with its state in {layout.home}, but {layout.state} cannot be read. "
            "Restart it: pelagos down && pelagos up"
        )
    lines = [f"Pelagos does not run with its state in {layout.home}."]
    if found.state is not None and found.state.phase is Phase.FAILED:
        lines.append(f"The last start failed: {found.state.message}")
    if found.crashed:
        lines.append("Its supervisor ended without stopping: it was killed, or the machine went down.")
    if found.orphans:
        lines.append(f"{found.orphans} of its processes (pipelines, model servers) still run.")
    lines.append("Continue with `pelagos up`" + (", or end them with `pelagos down`." if found.orphans else "."))
    return "\n".join(lines)
