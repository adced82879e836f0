"""Logs on this machine: the file of a pipeline run, which its steps share, and that of a Triton process."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

from pelagos.cli.logs import lines
from pelagos.cli.logs.lines import Line, LogError, Wish
from pelagos.engines.kfp_local.records import LOG
from pelagos.engines.triton_local import records as servers
from pelagos.ports.pipelines import is_valid_name

_PERIOD = 0.5
_CHUNK = 64 * 1024
_MOST = 64 * 1024**2
"""Most bytes that are read of a file; our own logs are shorter."""
_STEP = re.compile(r"--- step (\S+) ")
"""The line with which the data plane's ``local_runner`` starts the part of a step."""


@dataclass(frozen=True)
class _Said:
    """A line of a run's log, with its attempt and step; ``step`` is "" for lines outside a step."""

    attempt: int
    step: str
    text: str


def of_run(home: Path, run: str, wish: Wish, is_over: Callable[[], bool]) -> Iterator[Line]:
    """Yield the lines of a pipeline run. ``is_over`` says whether the log is complete. Raises LogError."""
    if not is_valid_name(run):
        raise LogError(f"status.pipelineRun.id is {run!r}, which is not a name of a run")
    path = home / "runs" / run / LOG
    with _opened(path) as file:
        sorter = _Sorter(run)
        there = [sorter.sort(text) for text in lines.split([_whole_lines(file)])]
        attempts = sorted({said.attempt for said in there})
        if wish.previous:
            if len(attempts) < 2:
                raise LogError(f"{path} has no earlier attempt than the latest")
            attempts.pop()
        chosen = [said for said in there if attempts and said.attempt == attempts[-1]]
        steps = list(dict.fromkeys(said.step for said in chosen if said.step))
        if not any(map(wish.wants, steps)) and wish.step and not wish.follow:
            raise LogError(f"{path} has no lines of a step {wish.step}; it has {', '.join(steps) or 'no steps yet'}")
        for step, block in groupby(chosen, key=lambda said: said.step):
            if wish.wants(step):
                texts = lines.last((said.text for said in block), wish.tail)
                yield from (Line(_origin(path, attempts[-1], step), text) for text in texts)
        if wish.follow:
            said = (sorter.sort(text) for text in lines.split(_growing(file, is_over)))
            yield from (Line(_origin(path, s.attempt, s.step), s.text) for s in said if wish.wants(s.step))


def of_server(home: Path, uid: str, wish: Wish, is_over: Callable[[], bool]) -> Iterator[Line]:
    """Yield the lines of a ModelService's newest Triton process. Raises LogError."""
    folder = home / "services" / str(uuid.UUID(uid))
    server = servers.read(folder).newest
    if server is None:
        raise LogError("it has no model server on this machine")
    path = folder / str(server.number) / ("triton.log.1" if wish.previous else "triton.log")
    with _opened(path) as file:
        there = lines.last(lines.split([_whole_lines(file)]), wish.tail)
        more: Iterable[str] = ()
        if wish.follow and not wish.previous:
            more = lines.split(_growing(file, lambda: not server.is_alive or is_over()))
        for texts in (there, more):
            yield from (Line(f"model server ({path})", text) for text in texts)


class _Sorter:
    """Assigns lines to attempts and steps, by the lines before them."""

    def __init__(self, run: str) -> None:
        self._attempt_heading = re.compile(rf"--- {re.escape(run)}, attempt (\d{{1,6}}), ")
        self._attempt, self._step = 1, ""

    def sort(self, text: str) -> _Said:
        if found := self._attempt_heading.match(text):
            self._attempt, self._step = int(found[1]), ""
        elif found := _STEP.match(text):
            self._step = found[1]
        return _Said(self._attempt, self._step, text)


def _origin(path: Path, attempt: int, step: str) -> str:
    return f"{f'step {step}, ' if step else ''}attempt {attempt} ({path})"


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror or error}") from error


def _whole_lines(file: IO[bytes]) -> bytes:
    """The complete lines in the file; an incomplete last line, which is still being written, stays unread."""
    file.seek(max(file.seek(0, os.SEEK_END) - _MOST, 0))
    begin, there = file.tell(), file.read(_MOST)
    whole = there[: there.rfind(b"\n") + 1]
    file.seek(begin + len(whole))
    return whole


def _growing(file: IO[bytes], is_over: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the bytes that are appended to the file, until ``is_over``."""
    over = False
    while True:
        if os.fstat(file.fileno()).st_size < file.tell():  # The log was cut to its newer part.
            file.seek(0, os.SEEK_END)
            yield b"--- lines were removed\n"
        while chunk := file.read(_CHUNK):
            yield chunk
        if over:
            return
        # Asked before the last read, so that nothing written up to then is missed.
        over = is_over()
        time.sleep(0 if over else _PERIOD)
