"""MLflow's notation of filters, tags and times. Pure. Used by tracking and registry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pelagos.engines.mlflow.rest import SYSTEM
from pelagos.ports.errors import RejectedError


def quoted(value: str) -> str:
    """A quoted string in MLflow's filter language. It has no escapes, so a value with both kinds of quotes is rejected."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise RejectedError(SYSTEM, f"{value!r} holds both kinds of quotes; MLflow cannot search for it. Use one kind")


def pairs(mapping: Mapping[str, str]) -> list[dict[str, str]]:
    """A mapping as a list of MLflow tags."""
    return [{"key": key, "value": value} for key, value in mapping.items()]


def mapping(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """The reverse of ``pairs``."""
    return {tag["key"]: tag.get("value", "") for tag in tags or []}


def moment(milliseconds: object) -> datetime | None:
    """A time from MLflow's milliseconds, in UTC; None for anything invalid, since anybody may set it."""
    try:
        return datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
