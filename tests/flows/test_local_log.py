"""The log of a local run stays readable and limited in size, whatever a step prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos_pipelines.local_log import Log, capture

if TYPE_CHECKING:
    from pathlib import Path


def test_terminal_colours_are_removed_and_progress_bars_become_lines(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.write("\x1b[96mepoch\x1b[0m 1\r\n")
        log.write("10%\r20%\r")
        log.write("done\n")

    assert (tmp_path / "log").read_text() == "epoch 1\n10%\n20%\ndone\n"


def test_it_appends_to_what_an_earlier_attempt_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("attempt 1\n")
    with Log(tmp_path / "log") as log:
        log.write("attempt 2\n")

    assert (tmp_path / "log").read_text() == "attempt 1\nattempt 2\n"


def test_beyond_its_limit_the_newer_half_is_kept_in_whole_lines(tmp_path: Path) -> None:
    with Log(tmp_path / "log", limit=1000) as log:
        for number in range(500):
            log.write(f"line {number:04}\n")
            assert (tmp_path / "log").stat().st_size <= 1000

    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "--- earlier lines were removed"
    assert lines[1:] == [f"line {number:04}" for number in range(500 - len(lines) + 1, 500)]
    assert len(lines) > 40


def test_the_last_words_are_the_last_line_with_anything_on_it(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.write("no images\n")
        log.write("\n  \n")

        assert log.last_words == "no images"


def test_the_last_words_are_the_exception_of_the_last_traceback(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        for error in ("KeyError: 'a'", "app.ValidationError: 2 errors"):
            log.write("Traceback (most recent call last):\n")
            log.write('  File "x.py", line 1, in f\n    f()\n')
            log.write(f"{error}\nfield a is missing\n  see the manual\n")

        assert log.last_words == "app.ValidationError: 2 errors"


def test_words_can_be_forgotten_before_the_next_step(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.write("Traceback (most recent call last):\nKeyError: 'a'\n")
        log.forget_words()
        log.write("the next step\n")

        assert log.last_words == "the next step"


def test_text_that_is_no_unicode_is_kept_as_escapes(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.write("name \udcff\n")

    assert (tmp_path / "log").read_text() == "name \\udcff\n"


def test_what_python_code_prints_goes_to_the_log(tmp_path: Path) -> None:
    with capture(tmp_path / "log"):
        print("said")
    print("not said")

    assert (tmp_path / "log").read_text() == "said\n"
