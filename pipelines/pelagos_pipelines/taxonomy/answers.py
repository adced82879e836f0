"""A cache of the service's answers, in a file beside the versions of a Dataset: a refresh repeats no requests, and an outage does
not stop preparations whose classes are known.

Others may be able to write to the store, so the file is read as untrusted input, and invalid answers count as absent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError

from pelagos_contract import disk
from pelagos_contract.base import Strict

FILE = "taxa.json"
"""File in the store."""
FRESH = 30 * 24 * 3600.0
"""Seconds for which an answer is not requested again."""
MOST = 5000
"""Most answers of each kind that are kept, latest first."""
LARGEST = 32 * 2**20
"""Most bytes of the file."""
_EARLY = 3600.0
"""Seconds by which the clocks of machines may differ; answers from further in the future are ignored."""

log = logging.getLogger(__name__)


class _Said(Strict):
    at: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    answer: Any = None


class _File(Strict):
    schema_version: Annotated[int, Field(ge=1, le=1)]
    url: str
    kinds: dict[str, dict[str, _Said]]


class Kept:
    """The answers of the service at ``url``, by kind and request; those of other addresses are dropped."""

    def __init__(self, file: Path, url: str, clock: Callable[[], float] = time.time) -> None:
        """Read the valid answers in the file, if there are any."""
        self._file, self._url, self._clock = file, url, clock
        self._kinds = _read(file, url)
        self._changed = False

    def get(self, kind: str, asked: str) -> tuple[float, Any] | None:
        """The Unix time of an answer, and the answer; None without one."""
        said = self._kinds.get(kind, {}).get(asked)
        return None if said is None or said.at > self._clock() + _EARLY else (said.at, said.answer)

    def is_fresh(self, at: float) -> bool:
        """Whether an answer of that time need not be requested again."""
        return self._clock() - at < FRESH

    def put(self, kind: str, asked: str, answer: Any) -> float:
        """Record an answer; returns the present time."""
        now = self._clock()
        self._kinds.setdefault(kind, {})[asked] = _Said(at=now, answer=answer)
        self._changed = True
        return now

    def write(self) -> None:
        """Write the file if anything changed. Errors such as a full disk are only logged, since nothing depends on the cache."""
        if not self._changed:
            return
        kinds = {
            kind: dict(sorted(sorted(there.items(), key=lambda entry: -entry[1].at)[:MOST]))
            for kind, there in sorted(self._kinds.items())
        }
        content = orjson.dumps(_File(schema_version=1, url=self._url, kinds=kinds).model_dump(by_alias=True))
        if len(content) > LARGEST:
            log.warning("the answers of %s take %d bytes, and are not kept", self._url, len(content))
            return
        try:
            disk.write_atomically(self._file, content, parents=True)
            self._changed = False
        except OSError as error:
            log.warning("the answers of %s cannot be kept: %s", self._url, error)


def _read(file: Path, url: str) -> dict[str, dict[str, _Said]]:
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return {}
        found = _File.model_validate(orjson.loads(file.read_bytes()))
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        log.warning("%s holds no answers that can be read (%s): they are asked for again", FILE, type(error).__name__)
        return {}
    return found.kinds if found.url == url else {}
