"""What the data plane prints, draws and keeps in a run's log is fit to be shown, whatever classes and files are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_pipelines import local_log
from pelagos_pipelines.evaluation import figures
from untrusted_text import HALF, HOSTILE, is_fit

_PROGRAM = """
import logging, sys
from pelagos_pipelines import output
hostile = open(sys.argv[1], encoding="utf-8", errors="surrogateescape").read()
output.guard_output()
output.guard_output()
logging.basicConfig(stream=sys.stdout)
logging.warning("read %s", hostile)
print(hostile, "\\udcff", end="")
sys.stdout.writelines([hostile])
raise ValueError(hostile)
"""


def test_a_step_prints_nothing_that_a_terminal_obeys_not_even_in_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(HOSTILE.encode() + b"\xff")
    command: list[str | Path] = [sys.executable, "-c", _PROGRAM, tmp_path / "words"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)

    assert done.stdout.count("[bold]loud[/bold]") == 3
    assert "ValueError" in done.stderr
    assert "[bold]loud[/bold]" in done.stderr
    assert is_fit(done.stdout)
    assert is_fit(done.stderr)


def test_the_log_of_a_run_is_fit_to_be_shown(tmp_path: Path) -> None:
    with local_log.Log(tmp_path / "log.txt") as log:
        log.write(f"\x1b[32mgreen\x1b[0m\n10%\r20%\r\n{HOSTILE}{HALF}\n")
        assert is_fit(log.last_words)

    kept = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert is_fit(kept)
    assert kept.startswith("green\n10%\n20%\n")


def test_all_that_is_written_in_a_figure_is_fit_to_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    save = Figure.savefig

    def remember(figure: Figure, *arguments: object, **options: object) -> None:
        save(figure, *arguments, **options)
        drawn.extend(text.get_text() for text in figure.findobj(Text))

    monkeypatch.setattr(Figure, "savefig", remember)
    labels = ["\u202e evil", "\x1b[2J", "\x9b"]
    figures.confusion(np.eye(3, dtype=int), labels, "a title", "boxes", tmp_path)
    line = np.array([0.0, 1.0])
    figures.precision_recall(dict.fromkeys(labels, (line, line)), dict.fromkeys(labels, 0.5), "all", tmp_path)

    assert sum("evil" in text for text in drawn) >= 3
    assert all(is_fit(text) for text in drawn)


def test_a_refusal_can_be_written_down_and_shown_whatever_it_names() -> None:
    refused = RefusedError(Reason.FORMAT_INVALID, f"the file {HOSTILE}{HALF} is wrong", "format")

    assert is_fit(refused.failure.message)
    assert is_fit(str(refused))
    assert Failure.model_validate_json(refused.failure.model_dump_json()) == refused.failure
