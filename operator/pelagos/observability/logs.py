"""Structured logs: one JSON object per line, with kind, namespace and name of the resource that it is about, if any."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from typing_extensions import override

from pelagos_contract.text import shown

_FIELDS = ("kind", "namespace", "resource")


class JsonFormatter(logging.Formatter):
    """Renders a record as one line of JSON."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, with hidden characters escaped."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {field: getattr(record, field) for field in _FIELDS if isinstance(getattr(record, field, None), str)}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # On the finished JSON, where hidden characters become \uXXXX escapes: still valid JSON of the same content.
        return shown(json.dumps(entry, ensure_ascii=False))


class PlainFormatter(logging.Formatter):
    """Renders a record as plain text, for terminals and the supervisor's log."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        """The record as text, with hidden characters escaped."""
        return shown(super().format(record), lines=True)


def configure_plain(*handlers: logging.Handler) -> None:
    """Send all logs to these handlers as plain text."""
    for handler in handlers:
        handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=handlers)


def configure(level: int = logging.INFO) -> None:
    """Send all logs to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.WARNING)
