"""Lines of logs as they are printed: whoever wrote them is a stranger, so that they are bounded and fit to be shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pelagos_contract.text import shown_output

LONGEST = 16 * 1024
"""Bytes of a line that are printed."""


class LogError(Exception):
    """There is nothing to show; the message says why, in one line, and what to do."""


@dataclass(frozen=True)
class Wish:
    """What the user asks for.

    ``step`` "": all, else the name of one or of a stage in it; ``tail``: lines of each step or server from its end, None: all.
    ``previous``: the attempt, or the process of the server, before the latest. ``follow``: also what comes from now on.
    """

    step: str = ""
    tail: int | None = None
    previous: bool = False
    follow: bool = False

    def wants(self, step: str) -> bool:
        """Whether it is about the step: by its name, or by a stage that is in it."""
        return not self.step or step == self.step or self.step in step.split("-")


@dataclass(frozen=True)
class Line:
    """``origin`` says what wrote it, and where that is."""

    origin: str
    text: str


def split(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines without their ends. Of one that is longer than LONGEST the beginning, and how much more there is."""
    line, dropped = bytearray(), 0
    for chunk in chunks:
        for number, piece in enumerate(chunk.split(b"\n")):
            if number:
                yield from _shown(line, dropped)
                line, dropped = bytearray(), 0
            room = LONGEST - len(line)
            line += piece[:room]
            dropped += len(piece) - len(piece[:room])
    if line:
        yield from _shown(line, dropped)


def last(lines: Iterable[str], tail: int | None) -> Iterable[str]:
    """The last ``tail`` lines, or all."""
    return lines if tail is None else deque(lines, maxlen=tail)


def _shown(line: bytearray, dropped: int) -> Iterator[str]:
    more = f" … ({dropped} more bytes)" if dropped else ""
    yield from (shown_output(line.decode("utf-8", errors="backslashreplace")) + more).rstrip("\n").split("\n")
