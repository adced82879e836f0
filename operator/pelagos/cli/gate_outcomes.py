"""Adds the outcomes of a TrainingRun's gates to its report and its card when they are shown.

Documents are written by the training, and their digests are fixed. Gates are judged after that, and may be changed without
another training. So the stored files contain nothing about gates, and the outcomes are taken from status whenever a document is
shown.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pelagos.decisions.training_run.conditions import GATES_PASSED
from pelagos_contract.text import shown

_FIRST_SECTION = b"<h2>"
_STALE = "The spec has changed since then; what follows is about the gates before the change."


def in_page(page: bytes, found: Mapping[str, Any], now: datetime) -> bytes:
    """The report with a section on gates before its first one; unchanged if ``found``, a TrainingRun, has no gates."""
    lines = [*_rows(found)]
    # User text is escaped in the report, so this can only match markup.
    at = page.find(_FIRST_SECTION)
    if not lines or at < 0:
        return page
    parts = ["<h2>Gates</h2>", *(f'<p class="note">{_html(each)}</p>' for each in _notes(found, now))]
    parts.append(
        '<div class="wide"><table><tr><th>gate</th><th class=n>value</th><th>must be</th><th>outcome</th></tr>'
    )
    for gate, value, bound, passed in lines:
        outcome = f'<span class="{"ok" if passed else "no"}">{"passed" if passed else "not passed"}</span>'
        parts.append(
            f"<tr><td>{_html(gate)}</td><td class=n>{_html(value)}</td><td>{_html(bound)}</td><td>{outcome}</td></tr>"
        )
    section = "".join((*parts, "</table></div>"))
    return page[:at] + section.encode() + page[at:]


def in_card(card: bytes, found: Mapping[str, Any], now: datetime) -> bytes:
    """The Markdown card with a section on gates at its end; unchanged if there are none."""
    lines = [*_rows(found)]
    if not lines:
        return card
    parts = ["\n## Gates\n", *(f"\n{_plain(each)}\n" for each in _notes(found, now))]
    parts.append("\n| gate | value | must be | outcome |\n|---|---|---|---|\n")
    for gate, value, bound, passed in lines:
        cells = (gate, value, bound, "passed" if passed else "not passed")
        parts.append(f"| {' | '.join(map(_plain, cells))} |\n")
    return card.rstrip(b"\n") + b"\n" + "".join(parts).encode()


def _notes(found: Mapping[str, Any], now: datetime) -> Iterator[str]:
    status, metadata = found.get("status") or {}, found.get("metadata") or {}
    yield (
        f"As in status on {now.astimezone(UTC):%Y-%m-%d at %H:%M} UTC. Gates are judged after a training, and may be "
        "changed later, so the file that the training wrote does not contain them."
    )
    verdict = next((each for each in status.get("conditions") or () if each.get("type") == GATES_PASSED), None)
    if verdict is not None:
        yield str(verdict.get("message"))
    if status.get("observedGeneration") != metadata.get("generation"):
        yield _STALE


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    for gate in (found.get("status") or {}).get("gates") or ():
        names = [str(gate.get("metric"))]
        names += [f"of the class {gate['class']}"] if gate.get("class") else []
        part = gate.get("slice") or {}
        names += [f"of {part['field']} {part.get('value', '')}".rstrip()] if part.get("field") else []
        names += [f"of seed {gate['seed']}"] if gate.get("seed") is not None else []
        ends = gate.get("interval")
        value = str(gate.get("value") or "undefined") + (f" ({ends['low']}–{ends['high']})" if ends else "")
        yield " ".join(names), value, _bound(gate), bool(gate.get("passed"))


def _bound(gate: Mapping[str, Any]) -> str:
    champion = gate.get("champion")
    if champion is None:
        return f"{gate['minimum']} or more" if gate.get("minimum") is not None else f"{gate.get('maximum')} or less"
    if champion.get("version") is None:
        return f"compared with the champion of {champion.get('model')}: there was none"
    ends = champion.get("interval")
    told = f"compared with version {champion['version']} of {champion.get('model')}"
    if champion.get("difference") is None:
        return told
    interval = f" ({ends['low']} to {ends['high']})" if ends else ""
    return f"{told}, which has {champion.get('value')}: a difference of {champion['difference']}{interval}"


def _html(text: str) -> str:
    return html.escape(shown(text))


def _plain(text: str) -> str:
    """Text for a line or table cell of Markdown, with all markup escaped."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>#|!" else each for each in shown(text).replace("\n", " "))
