"""How strangers' text is shown, equally in both planes, and that every output of the operator does so."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime

import pytest
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from builders import NOW
from pelagos.api import reasons
from pelagos.cli import installed
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict
from pelagos.observability import logs
from pelagos.reconcilers import reporting
from pelagos_contract import text
from untrusted_text import HALF, HOSTILE, is_fit

CHARACTERS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x200E, 0x2010), *range(0x2028, 0x202F))]
CHARACTERS += [chr(code) for code in (0x61C, *range(0x2066, 0x206A), 0xD800, 0xDCFF, 0xDFFF, 0xFEFF, 0xE0041)]


def test_every_character_that_shows_as_something_else_is_written_out() -> None:
    for character in CHARACTERS:
        found = text.shown(f"a{character}b")
        assert found.isascii(), repr(character)
        assert found.isprintable()
        assert json.loads(f'"{found}"') == f"a{character}b"
        assert text.shown(found) == found
        assert (text.shown(f"a{character}b", lines=True) == f"a{character}b") is (character in "\n\t")


def test_letters_of_all_languages_stay() -> None:
    for words in (
        "Küste, 海, Ωκεανός",
        "نهر",
        "मछली",
        "a\u200db می\u200cروم",
        "🐟",
        "Noctiluca scintillans",
        "\\u202e",
        "",
    ):
        assert text.shown(words) == words


def test_conditions_and_what_status_shows_are_fit_to_be_shown() -> None:
    ready = Verdict("Ready", ConditionState.REFUSED, reasons.FORMAT_INVALID, f"the class {HOSTILE}{HALF} is wrong")
    excluded = [{"reason": "Hidden", "files": 1, "first": [HOSTILE]}]
    told = {"classes": [{"name": HOSTILE, "images": 1}], "excluded": excluded, "inputs": {"name": HOSTILE}}
    decision = Decision((ready,), status=told)
    status = reporting.new_status({}, decision, (), generation=1, now=NOW)

    assert all(is_fit(condition["message"]) for condition in status["conditions"])
    assert is_fit(status["classes"][0]["name"])
    assert is_fit(status["excluded"][0]["first"][0])
    assert status["classes"][0]["images"] == 1
    assert status["inputs"]["name"] == HOSTILE, "records are kept as they are"
    json.dumps(status["conditions"], ensure_ascii=False).encode()


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.PlainFormatter()])
def test_a_log_line_is_fit_to_be_shown_with_its_traceback_and_stays_what_it_was(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(HOSTILE + HALF)
    except ValueError as error:
        about = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "read %s", (HOSTILE + HALF,), about)
    record.__dict__["resource"] = HOSTILE

    line = formatter.format(record)

    assert is_fit(line)
    line.encode()
    if isinstance(formatter, logs.JsonFormatter):
        assert json.loads(line)["message"] == f"read {HOSTILE}{HALF}"
        assert datetime.fromisoformat(json.loads(line)["time"]).tzinfo == UTC


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_takes_no_orders_from_what_it_prints(terminal: bool) -> None:
    console = installed.PlainConsole(width=400)
    console.file = io.StringIO()
    console._force_terminal = terminal
    table = Table(title="fine")
    table.add_column(HOSTILE)
    table.add_row(HOSTILE + HALF)
    console.print(HOSTILE + HALF)
    console.print(Panel(HOSTILE))
    console.print(table)
    with console.status(HOSTILE), Live(table, console=console):
        pass

    written = console.file.getvalue()

    assert "[bold]loud[/bold]" in written
    for order in ("\x1b]0", "\x1b[2J", "\x9b", "\x07", "\u202e", "\u2066", "\u2028", "\ud800", "😄", "\x1b]8"):
        assert order not in written
    written.encode()


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (
            "cannot reach https://reef:s3cret@minio:9000/b: timed out",
            "cannot reach https://***@minio:9000/b: timed out",
        ),
        ("postgresql://reef:a%40b@db/x and redis://:pw@cache", "postgresql://***@db/x and redis://***@cache"),
        ("ask somebody@example.org, or see http://site:80/a@b", "ask somebody@example.org, or see http://site:80/a@b"),
    ],
)
def test_logins_in_addresses_are_hidden_and_nothing_else(said: str, want: str) -> None:
    assert text.shown(said) == want
