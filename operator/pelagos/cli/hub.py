"""``pelagos hub``: the address of the web pages, and a one-time sign-in link."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer
from rich.text import Text

from pelagos.cli import installed, outputs
from pelagos.cli.outputs import Output
from pelagos.embedded import daemon
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartPhase


def hub(
    output: outputs.Option = Output.TABLE,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the link in the browser.")] = False,
) -> None:
    """Show the address of the hub, and a link that signs in its first user only: run this again for another link.

    Where people sign in by an OpenID provider (PELAGOS_HUB_OIDC_ISSUER), the address is enough.

    Exit codes: 0 when the hub runs, 1 when it does not.
    """
    layout = Layout.of(installed.settings().home)
    found = daemon.look(layout)
    part = found.state.parts.get("hub") if found.state is not None and found.runs else None
    if part is None or part.phase is not PartPhase.READY:
        hint = "Start it: pelagos up" if not found.runs or part is not None else "PELAGOS_EMBEDDED_HUB switches it off"
        message = f"The hub does not run with its state in {layout.home}. {hint}"
        if output is not Output.TABLE:
            outputs.write({"running": False, "error": message}, output)
        raise StartError(message)
    try:
        link = (layout.hub_credentials / "link").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StartError(f"The link cannot be read: {error}") from error
    if output is Output.TABLE:
        for name, value in {"address": part.url, "sign in": link}.items():
            installed.result_console().print(Text.assemble((f"{name:<9}", "bold"), value), soft_wrap=True)
    else:
        outputs.write({"running": True, "address": part.url, "link": link}, output)
    if open_browser and not webbrowser.open(link):
        raise StartError(f"No browser was found. Open {link} in a browser on this machine.")
