"""The last log line of a model server that is alone in its container, for readers who only have the log."""

from __future__ import annotations

import re

NOT_FETCHED = "the model package could not be brought"
ENDED = "the model server ended"
_LAST = re.compile(rf"pelagos: ({NOT_FETCHED}|{ENDED}): code (\d{{1,3}})")


def last_words(what: str, code: int) -> str:
    """The line; ``what`` is one of the two above, ``code`` the exit code of the process."""
    return f"pelagos: {what}: code {code}"


def read(line: str) -> tuple[str, int] | None:
    """The two parts of such a line; None for any other line."""
    found = _LAST.search(line)
    return (found[1], int(found[2])) if found else None
