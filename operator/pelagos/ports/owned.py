"""Things that outside systems hold for resources, as they list them, recognized by labels and names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

_RUN = re.compile(r"(?:dataset|training)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9a-f]{12}")


@dataclass(frozen=True)
class Owned:
    """One thing. ``uid`` and ``namespace`` are those of the resource that it was made for; an empty namespace is unknown."""

    name: str
    uid: str
    namespace: str = ""
    made_at: datetime | None = None
    """When it was made, or last changed. None: unknown."""
    kept: bool = False
    """Whether nothing runs, and only files are left, as deletionPolicy Retain leaves them."""


def uid_in(run_name: str) -> str | None:
    """The uid in the name of one of our pipeline runs; None for a name of any other form."""
    found = _RUN.fullmatch(run_name)
    return found[1] if found else None
