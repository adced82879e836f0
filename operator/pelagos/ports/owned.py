"""What lies outside of Kubernetes for resources, as outside systems list it: recognized by labels and names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

_RUN = re.compile(r"(?:dataset|training)-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-[0-9a-f]{12}")


@dataclass(frozen=True)
class Owned:
    """One thing; ``uid`` is that of the resource that it was made for, ``namespace`` that resource's (empty: not told)."""

    name: str
    uid: str
    namespace: str = ""
    made_at: datetime | None = None
    """When it was made, or last changed; None: unknown."""
    kept: bool = False
    """Nothing runs; only files are left, as deletionPolicy Retain leaves them."""


def uid_in(run_name: str) -> str | None:
    """The uid in the name of a pipeline run of ours; None when the name is not one that we give."""
    found = _RUN.fullmatch(run_name)
    return found[1] if found else None
