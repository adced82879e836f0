"""Asynchronous invocations of a model: the event that a job receives, and the status that it writes. Pure functions.

Image, result and status are objects in a storage. The caller passes the job a signed URL for each, so that the job needs no keys.
Only this status counts as the outcome, since OSCAR also reports success for scripts that failed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

KEY = re.compile(r"[a-z0-9][a-z0-9-]{7,63}")
IMAGE, RESULT, STATUS = "image", "result.json", "status.json"
"""Names of the objects below the key of an invocation."""
SUCCEEDED, FAILED = "Succeeded", "Failed"
LARGEST_IMAGE = 64 * 1024 * 1024
LARGEST_STATUS = 64 * 1024
LOGGED = "pelagos-invocation "
"""Prefix of a log line with the status, for when the storage cannot be reached."""
_SCHEMA = 1
_LONGEST = 4096
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Invocation:
    """The input of a job. URLs are signed for reading the image and for writing result and status."""

    key: str
    image_url: str
    image_sha256: str
    result_url: str
    status_url: str
    confidence: str = ""
    """Confidence threshold as a decimal string; empty: that of the service."""


@dataclass(frozen=True)
class Status:
    """The outcome. ``state`` is one of the two above, ``message`` says why it failed."""

    key: str
    state: str
    message: str = ""
    result_sha256: str = ""
    manifest_sha256: str = ""
    """SHA-256 of the manifest of the package that answered."""
    finished_at: str = ""


def event(invocation: Invocation) -> str:
    """The event as text without spaces, since OSCAR passes it through a shell that would split it there."""
    return json.dumps({"pelagos": _SCHEMA, **asdict(invocation)}, separators=(",", ":"))


def read_event(content: bytes | str) -> Invocation:
    """Parse an event. Raises ValueError that says what is wrong."""
    found = _object(content)
    names = [field.name for field in fields(Invocation)]
    if found.get("pelagos") != _SCHEMA or {*found} != {"pelagos", *names}:
        raise ValueError(f"the event must be an object with pelagos: {_SCHEMA}, {', '.join(names)}")
    for name in names:
        if not isinstance(found[name], str) or len(found[name]) > _LONGEST:
            raise ValueError(f"the event's {name} must be text of at most {_LONGEST} characters")
    made = Invocation(**{name: found[name] for name in names})
    if not KEY.fullmatch(made.key):
        raise ValueError("the event's key must have 8 to 64 lower-case letters, digits and '-'")
    if not _DIGEST.fullmatch(made.image_sha256):
        raise ValueError("the event's image_sha256 must be 64 hexadecimal digits")
    return made


def document(status: Status) -> str:
    """The status as JSON. It is the last object that a job writes."""
    return json.dumps({"schemaVersion": _SCHEMA, **asdict(status)}, separators=(",", ":"), sort_keys=True)


def read_status(content: bytes | str, key: str) -> Status:
    """Parse a status. Raises ValueError when it is not a status of this key."""
    found = _object(content)
    names = [field.name for field in fields(Status)]
    if found.get("schemaVersion") != _SCHEMA or not all(isinstance(found.get(name), str) for name in names):
        raise ValueError("it is not a status of an invocation")
    made = Status(**{name: found[name][:_LONGEST] for name in names})
    if made.key != key or made.state not in (SUCCEEDED, FAILED):
        raise ValueError(f"it is not a status of {key}")
    return made


def _object(content: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found
