"""``pelagos ui``: the address of MLflow's pages, and how to log in."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer
from rich.text import Text

from pelagos.cli import installed, outputs
from pelagos.cli.outputs import Output
from pelagos.embedded import daemon, tracking_credentials
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartPhase


def ui(
    output: outputs.Option = Output.TABLE,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the address in the browser.")] = False,
) -> None:
    """Show the address and user of MLflow, and the file with the password. The browser asks for both; the address has neither.

    To change a password, delete its file and restart: pelagos down && pelagos up.

    Exit codes: 0 when MLflow runs, 1 when it does not.
    """
    layout = Layout.of(installed.settings().home)
    found = daemon.look(layout)
    part = found.state.parts.get("mlflow") if found.state is not None and found.runs else None
    if part is None or part.phase is not PartPhase.READY:
        message = f"MLflow does not run with its state in {layout.home}. Start it: pelagos up"
        if output is not Output.TABLE:
            outputs.write({"running": False, "error": message}, output)
        raise StartError(message)
    password = layout.tracking_credentials / "password"
    if output is Output.TABLE:
        rows = {"address": part.url, "user": tracking_credentials.USER, "password": f"in the file {password}"}
        for name, value in rows.items():
            installed.result_console().print(Text.assemble((f"{name:<9}", "bold"), value), soft_wrap=True)
    else:
        told = {"address": part.url, "user": tracking_credentials.USER, "passwordFile": str(password)}
        outputs.write({"running": True, **told}, output)
    if open_browser and not webbrowser.open(part.url):
        raise StartError(f"No browser was found. Open {part.url} in a browser on this machine.")
