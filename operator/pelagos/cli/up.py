"""``pelagos up``: start everything and wait until it works."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pelagos.cli import answering, installed, progress
from pelagos.embedded import binaries, daemon, installation, logs, parts, preflight, store
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.embedded.releases import Binaries, Source
from pelagos.embedded.state import Phase, State
from pelagos.engines.processes import groups
from pelagos.engines.processes.groups import ProcessId
from pelagos.observability.logs import configure_plain
from pelagos.settings import Settings

_PERIOD = 0.15
_LOG_LINES = 12


def up(
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", "-f", help="Stay in the foreground, show what happens, and stop everything on Ctrl-C."
        ),
    ] = False,
) -> None:
    """Start Pelagos on this machine: API server, MLflow and the operator. Continues where it was stopped.

    It also waits for model servers that ran before, and names those that do not answer within 90 seconds. Exit codes: 0 when
    all parts are ready, also if they already were; 1 when something failed; 130 after Ctrl-C, with everything stopped.
    """
    settings = installed.settings()
    console = installed.progress_console()
    if foreground:
        raise typer.Exit(_stay(settings, console))
    bring_up(settings, console)
    silent = answering.wait(settings, console)
    show_addresses(settings, installed.result_console())
    _name_silent(silent, console)


def bring_up(settings: Settings, console: Console) -> State:
    """Start everything in the background, or find it running; returns when all parts are ready.

    Raises StartError when that fails, after stopping what it started. Ctrl-C stops everything too.
    """
    layout = Layout.of(settings.home)
    found = daemon.look(layout)
    if found.runs:
        return _join(layout, found, console)
    prepare(settings, console)
    if found.crashed:
        console.print("The last supervisor was killed or the machine went down; continuing from its state.")
    process = daemon.start(settings, layout)
    # Shells start background commands with SIGINT ignored, but a SIGINT that is sent on purpose must work.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _follow(layout, process, console)
    except KeyboardInterrupt:
        console.print("Interrupted; stopping everything ...")
        daemon.stop(layout)
        raise typer.Exit(130) from None


def prepare(settings: Settings, console: Console) -> None:
    """Check the preconditions, and install the control plane if it is missing. Raises StartError."""
    layout = Layout.of(settings.home)
    preflight.check(layout, settings.environments, parts.beside(settings))
    programs = store.choose(layout)
    if programs is not None:
        if words := store.kept(layout, programs):
            console.print(words, soft_wrap=True)
        return
    version = store.writer(layout)
    if version:
        words = f"The resources in {layout.home} were written by Kubernetes {version}, which is needed to continue with them."
        console.print(f"{words} Or {store.anew(layout)}", soft_wrap=True)
    install_control_plane(console, version)


def install_control_plane(console: Console, version: str = "", source: Source | None = None) -> Binaries:
    """Install etcd and kube-apiserver, showing each step. Raises StartError."""
    console.print("Installing etcd and kube-apiserver")
    began = time.monotonic()
    with console.status("") as status:

        def show(step: str) -> None:
            console.print(f"  {time.monotonic() - began:4.0f} s  {step}", markup=False, soft_wrap=True)
            status.update(Text(f"{step} ..."))

        return binaries.install(show, version, source)


def show_addresses(settings: Settings, console: Console) -> None:
    """Print the addresses of the running parts, and how to use them."""
    layout = Layout.of(settings.home)
    found = daemon.look(layout).state
    urls = {name: part.url for name, part in found.parts.items()} if found else {}
    rows = {
        "kubectl": f"export KUBECONFIG={layout.kubeconfig}",
        "MLflow": f"{urls.get('mlflow', '')} (pelagos ui says how to log in)",
        **({"models": urls["gateway"]} if "gateway" in urls else {}),
        **({"hub": f"{urls['hub']} (pelagos hub prints a link that signs you in)"} if "hub" in urls else {}),
        "metrics": urls.get("operator", ""),
        "state": str(layout.home),
        "logs": str(layout.logs),
        "stop": "pelagos down",
    }
    console.print(Text("Pelagos is ready.", "bold green"))
    for name, value in rows.items():
        console.print(Text.assemble((f"{name:<9}", "bold"), value), soft_wrap=True)


def _name_silent(silent: Sequence[answering.Silent], console: Console) -> None:
    """Print which model servers do not answer, although they did before."""
    for each in silent:
        words = Text.assemble((f"ModelService {each.name} does not answer", "bold yellow"), f" ({each.said})")
        console.print(words, soft_wrap=True)


def _join(layout: Layout, found: daemon.Found, console: Console) -> State:
    """Follow the start of an installation that another process has started. Raises StartError if parts are not ready."""
    if found.state is None:
        raise StartError(f"Pelagos runs with its state in {layout.home}, but {layout.state} cannot be read. Try again.")
    pid = found.state.supervisor.pid
    words = f"Pelagos already runs with its state in {layout.home} (supervisor {pid}, {found.state.phase})."
    console.print(words, markup=False, soft_wrap=True)
    if found.state.phase is Phase.STARTING:
        return _follow(layout, found.state.supervisor, console)
    if found.state.phase is not Phase.READY:
        console.print(progress.table(found.state))
        raise StartError("Some parts are not ready. See their logs, or restart: pelagos down && pelagos up")
    return found.state


def _follow(layout: Layout, process: ProcessId, console: Console) -> State:
    """Show progress until all parts are ready. Raises StartError if the supervisor gives up and has stopped everything."""
    with progress.Progress(console) as shown:
        while True:
            alive = groups.is_alive(process)
            current = daemon.report(layout, process)
            if current is not None:
                shown.show(current)
                if current.phase in {Phase.READY, Phase.DEGRADED}:
                    return current
            if not alive:
                break
            time.sleep(_PERIOD)
    found = daemon.look(layout)
    if current is None and found.runs:
        return _join(layout, found, console)  # another process was faster
    raise StartError(_reason(layout, current))


def _reason(layout: Layout, last: State | None) -> str:
    if last is not None and last.phase is Phase.FAILED:
        return f"Pelagos could not start. {last.message}"
    if last is not None and last.phase is Phase.STOPPED:
        return "Pelagos was stopped while it started."
    log = layout.log("supervisor")
    lines = "\n".join(f"  {line}" for line in logs.tail(log, _LOG_LINES))
    return f"The supervisor ended while it started. The end of {log}:\n{lines}"


def _stay(settings: Settings, console: Console) -> int:
    """Run the supervisor in this process; returns its exit code."""
    layout = Layout.of(settings.home)
    found = daemon.look(layout)
    if found.runs:
        pid = found.state.supervisor.pid if found.state else "unknown"
        raise StartError(
            f"Pelagos already runs with its state in {layout.home} (supervisor {pid}). Stop it: pelagos down"
        )
    prepare(settings, console)
    configure_plain(logging.StreamHandler(), logging.FileHandler(layout.log("supervisor")))
    console.print(f"state and logs in {layout.home}; stop with Ctrl-C", markup=False, soft_wrap=True)
    code = asyncio.run(installation.run(settings, on_ready=lambda: _show_all(settings, console)))
    console.print("Everything is stopped.")
    return code


def _show_all(settings: Settings, console: Console) -> None:
    """Print the addresses; and, while supervision continues, which model servers do not answer."""
    show_addresses(settings, installed.result_console())

    def wait() -> None:
        _name_silent(answering.wait(settings, console), console)

    threading.Thread(target=wait, name="model servers", daemon=True).start()
