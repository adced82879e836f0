"""Shows the progress of the parts of an installation: a live table on a terminal, one line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pelagos.embedded.state import PartPhase, PartState, State

NAMES = {
    "etcd": "etcd",
    "apiserver": "Kubernetes API server",
    "mlflow": "MLflow",
    "operator": "Pelagos operator",
    "gateway": "gateway",
    "hub": "hub",
}
_STYLES = {
    PartPhase.WAITING: ("·", "dim"),
    PartPhase.STARTING: ("…", "yellow"),
    PartPhase.READY: ("✔", "green"),
    PartPhase.UNREADY: ("!", "yellow"),
    PartPhase.RESTARTING: ("✘", "red"),
    PartPhase.STOPPED: ("·", "dim"),
}


class Progress:
    """A context manager; call ``show`` with each new state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._seen: dict[str, PartPhase] = {}
        self._since: dict[str, float] = {}
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, state: State) -> None:
        """Show the changes since the last call."""
        changed = [name for name, part in state.parts.items() if self._seen.get(name) is not part.phase]
        for name in changed:
            self._seen[name] = state.parts[name].phase
            self._since[name] = time.monotonic() - self._began
            if self._live is None and state.parts[name].phase is not PartPhase.WAITING:
                part = state.parts[name]
                mark, _ = _STYLES[part.phase]
                words = f"{mark} {NAMES.get(name, name):<22} {part.phase.lower():<10} {self._since[name]:5.1f} s"
                line = f"{words}  {_trouble(part)}".rstrip()
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        if self._live is not None:
            self._live.update(self._table(state.parts))

    def _table(self, parts: Mapping[str, PartState]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for name, part in parts.items():
            mark, style = _STYLES[part.phase]
            busy = part.phase is PartPhase.STARTING
            table.add_row(
                Spinner("dots", style=style) if busy else Text(mark, style=style),
                NAMES.get(name, name),
                Text(part.phase.lower(), style=style),
                f"{self._since[name]:.1f} s" if part.phase is PartPhase.READY else "",
                Text(_trouble(part)),
            )
        return table


def table(state: State) -> Table:
    """A table of all parts, with the details needed to investigate."""
    out = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    for title in ("PART", "STATE", "PID", "RESTARTS", "ADDRESS", "LAST END"):
        out.add_column(title, overflow="fold")
    for name, part in state.parts.items():
        mark, style = _STYLES[part.phase]
        last = f"{part.last_exit} ({part.last_exit_at})" if part.last_exit else ""
        pid = str(part.pid or "")
        out.add_row(
            NAMES.get(name, name), Text(f"{mark} {part.phase}", style=style), pid, str(part.restarts), part.url, last
        )
    return out


def _trouble(part: PartState) -> str:
    if part.phase is PartPhase.RESTARTING:
        return f"{part.last_exit}; {part.message}; see {part.log}"
    return part.message
