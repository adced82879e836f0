"""The demo's picture shows what a person sees at the end, without text that was overwritten."""

from __future__ import annotations

import demo_picture


def test_lines_that_were_drawn_over_are_gone() -> None:
    first = "\x1b[33m⠋\x1b[0m etcd starting\r\n· MLflow waiting"
    again = "\r\x1b[2K\x1b[1A\x1b[2K\x1b[32m✔\x1b[0m etcd ready\r\n⠋ MLflow starting"

    assert demo_picture.screen(f"up\r\n{first}{again}\r\n\x1b[?25hend") == [
        "up",
        "\x1b[32m✔\x1b[0m etcd ready",
        "⠋ MLflow starting",
        "end",
    ]


def test_what_the_recorder_says_is_no_part_of_it() -> None:
    session = 'Script started on 2026-11-30 [COMMAND="pelagos demo"]\nhere\r\nScript done on 2026-11-30 [COMMAND_EXIT_CODE="0"]\n'

    assert demo_picture.screen(session) == ["here", ""]
