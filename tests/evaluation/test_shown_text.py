"""Everything the data plane prints, draws or logs is safe to display, whatever classes and files are called."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_pipelines import local_log
from pelagos_pipelines.evaluation import figures, report
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.preparation import lettering
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


@pytest.fixture
def wide_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A font with a Chinese character, as an operator may have installed one."""
    outline = TTGlyphPen(None)
    outline.moveTo((0, 0))
    outline.lineTo((0, 800))
    outline.lineTo((800, 0))
    outline.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "sea"])
    font.setupCharacterMap({0x6D77: "sea"})
    font.setupGlyf({".notdef": outline.glyph(), "sea": outline.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "sea": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Noto Sans Trial", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "trial.ttf")
    entry = font_manager.ttfFontProperty(font_manager.get_font(tmp_path / "trial.ttf"))
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist, entry])
    monkeypatch.setitem(mpl.rcParams, "font.family", figures.families())
    return str(entry.name)


def written(text: str) -> str:
    return str(Text(text=text).get_text())


def test_letters_that_no_font_has_are_spelt_and_a_warning_names_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mpl.rcParams, "font.family", ["DejaVu Sans"])
    assert written("海藻 alga µm Ωé\nkrill") == r"\u6d77\u85fb alga µm Ωé" + "\nkrill"
    assert figures.shortened("海藻のなかま", 14) == r"\u6d77\u85fb…", "whole letters"
    assert figures.shortened("a" * 15, 14) == "a" * 13 + "…"
    assert written("🐟") == r"\ud83d\udc1f"
    samples = [Sample("a", Path("a"), np.arange(2), np.zeros((2, 4)))]
    (warning,) = report.warnings(samples, ("海藻", "alga"))
    assert warning.startswith(r"figures spell letters of 1 class names by their numbers, as in \u6d77, because no font")
    assert "海藻" in warning


def test_letters_that_a_font_of_the_machine_has_are_written(wide_font: str, tmp_path: Path) -> None:
    assert mpl.rcParams["font.family"] == ["DejaVu Sans", *figures.families()[1:]]
    assert wide_font in figures.families()
    assert written("海 alga 藻") == r"海 alga \u85fb"
    with warnings.catch_warnings(action="error"):  # matplotlib warns about characters that its fonts lack
        figures.confusion(np.eye(2, dtype=int), ["海", "alga"], "a title", "boxes", tmp_path)


def test_sheets_spell_letters_that_their_font_does_not_have() -> None:
    assert lettering.written("海 alga\x1b") == r"\u6d77 alga\u001b"


def test_a_refusal_can_be_written_down_and_shown_whatever_it_names() -> None:
    refused = RefusedError(Reason.FORMAT_INVALID, f"the file {HOSTILE}{HALF} is wrong", "format")

    assert is_fit(refused.failure.message)
    assert is_fit(str(refused))
    assert Failure.model_validate_json(refused.failure.model_dump_json()) == refused.failure
