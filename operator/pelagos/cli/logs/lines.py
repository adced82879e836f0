"""Lines of logs as they are printed. Their authors are not trusted, so lines are bounded and made safe to display."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pelagos_contract.text import shown_output

LONGEST = 16 * 1024
"""Most bytes of a line that are printed."""


class LogError(Exception):
    """There is no log to show; the message says why, in one line, and what to do."""


@dataclass(frozen=True)
class Wish:
    """The user's request.

    ``step``: the name of a step, or of a stage in it; "" for all. ``tail``: the number of last lines of each step or server; None
    for all. ``previous``: the attempt, or the server's process, before the latest. ``follow``: also new lines from now on.
    """

    step: str = ""
    tail: int | None = None
    previous: bool = False
    follow: bool = False

    def wants(self, step: str) -> bool:
        """Whether the request includes a step, by its name or by one of its stages."""
        return not self.step or step == self.step or self.step in step.split("-")


@dataclass(frozen=True)
class Line:
    """A line to print; ``origin`` says what wrote it, and where that is."""

    origin: str
    text: str


def split(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines without their ends; those longer than LONGEST are cut, with a note on how much is missing."""
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
    """The last ``tail`` lines; all if ``tail`` is None."""
    return lines if tail is None else deque(lines, maxlen=tail)


def _shown(line: bytearray, dropped: int) -> Iterator[str]:
    more = f" … ({dropped} more bytes)" if dropped else ""
    yield from (shown_output(line.decode("utf-8", errors="backslashreplace")) + more).rstrip("\n").split("\n")
