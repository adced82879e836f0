"""Points in time as status has them."""

from __future__ import annotations

from datetime import datetime


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str | None) -> datetime | None:
    """The point in time that a status names; None when it names none."""
    return datetime.fromisoformat(text) if text else None
