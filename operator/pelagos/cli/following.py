"""Shows the progress of resources: a live table on a terminal, one line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pelagos.api import reasons
from pelagos.api.kinds import Kind

MARKS = {"True": ("✔", "green"), "False": ("✘", "red"), "Unknown": ("…", "yellow")}
PERIOD = 1.0


@dataclass(frozen=True)
class Followed:
    """A resource to wait for."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True)
class Ending:
    """How following ended: ``problem`` is a message, None when all became Ready; ``bodies`` are the resources as last seen."""

    problem: str | None
    bodies: Mapping[Followed, Mapping[str, Any]]


Fetch = Callable[[Followed], Mapping[str, Any] | None]


def follow(resources: Sequence[Followed], fetch: Fetch, console: Console, *, timeout: float) -> Ending:
    """Follow ``resources`` until all are Ready, one stalls, or ``timeout`` seconds have passed."""
    started = time.monotonic()
    bodies: dict[Followed, Mapping[str, Any]] = {}
    said: dict[Followed, str] = {}
    with Live(console=console, refresh_per_second=4, transient=False, auto_refresh=False) as live:
        while True:
            bodies |= {resource: body for resource in resources if (body := fetch(resource)) is not None}
            elapsed = time.monotonic() - started
            if console.is_terminal:
                live.update(render(resources, bodies, elapsed), refresh=True)
            else:
                _say_changes(resources, bodies, said, console, elapsed)
            problem = _problem(resources, bodies, elapsed, timeout)
            if problem or all(_ready(bodies.get(resource)) == "True" for resource in resources):
                return Ending(problem, bodies)
            time.sleep(PERIOD)


def render(
    resources: Sequence[Followed], bodies: Mapping[Followed, Mapping[str, Any]], elapsed: float
) -> RenderableType:
    """The table of all resources with their conditions and the progress of trainings."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("Resource", "Ready", "Conditions", "Progress"):
        table.add_column(heading, overflow="fold")
    for resource in resources:
        status = bodies.get(resource, {}).get("status") or {}
        table.add_row(
            Text(f"{resource.kind.kind}\n", style="bold").append(resource.name, style="cyan"),
            Text(*MARKS[_ready(bodies.get(resource))]),
            _conditions(status),
            _activity(status),
        )
    return Group(table, Text(f"{elapsed:.0f} s", style="dim"))


def condition(body: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """The condition of a type; an empty mapping when there is none for the present generation."""
    if body is None:
        return {}
    status = body.get("status") or {}
    if status.get("observedGeneration") != body.get("metadata", {}).get("generation"):
        return {}
    return next((entry for entry in status.get("conditions", ()) if entry["type"] == name), {})


def _ready(body: Mapping[str, Any] | None) -> str:
    return str(condition(body, "Ready").get("status", "Unknown"))


def _conditions(status: Mapping[str, Any]) -> Text:
    text = Text()
    for entry in status.get("conditions", ()):
        # A condition of a feature that was not requested is not a failure.
        is_asked = entry.get("reason") != reasons.NOT_ASKED_FOR
        if is_asked and entry["type"] not in {"Ready", "Reconciling", "Stalled", "Waiting"}:
            symbol, colour = MARKS[entry["status"]]
            text.append(f"{symbol} ", style=colour).append(f"{entry['type']}\n")
    text.rstrip()
    return text


def _activity(status: Mapping[str, Any]) -> RenderableType:
    ready: Mapping[str, Any] = next((entry for entry in status.get("conditions", ()) if entry["type"] == "Ready"), {})
    message = Text(str(ready.get("message") or ready.get("reason") or "waiting to be seen"))
    progress = status.get("progress") or {}
    is_training = ready.get("reason") == reasons.TRAINING and "epoch" in progress
    percent = progress.get("percent") if is_training else progress.get("stagePercent")
    words = Text(_epochs(progress)) if is_training else message
    if "stage" in progress:
        words.append(f"\n{_stage(progress)}", style="dim")
    return Group(words, ProgressBar(total=100, completed=percent, width=40)) if percent is not None else words


def _epochs(progress: Mapping[str, Any]) -> str:
    text = f"epoch {progress['epoch']} of {progress['epochs']}"
    if "eta" in progress:
        left = datetime.fromisoformat(progress["eta"]) - datetime.now(UTC)
        text += f", about {max(0, round(left.total_seconds()))} s left"
    figures = (("loss", "loss {}"), ("imagesPerSecond", "{} images/s"), ("gpuMemory", "{} of GPU memory"))
    text += "".join(f", {words.format(progress[name])}" for name, words in figures if name in progress)
    return text


def _stage(progress: Mapping[str, Any]) -> str:
    """The finished stages and the present one, each with its time."""
    parts = [f"{ended['stage']} {ended['seconds']} s" for ended in progress.get("stages", ())]
    now = str(progress["stage"])
    if "stageSince" in progress:
        since = datetime.now(UTC) - datetime.fromisoformat(progress["stageSince"])
        now += f" {max(0, round(since.total_seconds()))} s"
    if "imagesTotal" in progress:
        now += f", {progress.get('imagesDone', 0)} of {progress['imagesTotal']} images"
    if "bytesDone" in progress:
        of = f" of {progress['bytesTotal'] / 2**20:.0f}" if "bytesTotal" in progress else ""
        now += f", {progress['bytesDone'] / 2**20:.0f}{of} MiB"
    return " → ".join([*parts, now])


def _say_changes(
    resources: Sequence[Followed],
    bodies: Mapping[Followed, Mapping[str, Any]],
    said: dict[Followed, str],
    console: Console,
    elapsed: float,
) -> None:
    for resource in resources:
        ready = condition(bodies.get(resource), "Ready")
        reason = str(ready.get("reason", "Waiting"))
        progress = (bodies.get(resource, {}).get("status") or {}).get("progress") or {}
        is_training = reason == reasons.TRAINING and "epoch" in progress
        line = f"{reason}: {_epochs(progress) if is_training else ready.get('message', '')}"
        # A resource that waits for another one repeats that one's message; print it only once.
        news = reason if reason.endswith("NotReady") else f"{reason} {ready.get('message')}"
        if said.get(resource) != news:
            said[resource] = news
            console.print(
                f"[{elapsed:5.0f} s] {resource.kind.kind} {resource.name}: {line}", markup=False, highlight=False
            )


def _problem(
    resources: Sequence[Followed], bodies: Mapping[Followed, Mapping[str, Any]], elapsed: float, timeout: float
) -> str | None:
    for resource in resources:
        stalled = condition(bodies.get(resource), "Stalled")
        if stalled:
            return f"{resource.kind.kind} {resource.name} is stalled: {stalled['reason']}: {stalled['message']}"
    if elapsed > timeout:
        late = [f"{r.kind.kind} {r.name}" for r in resources if _ready(bodies.get(r)) != "True"]
        return f"not Ready after {timeout:.0f} s: {', '.join(late)}"
    return None
