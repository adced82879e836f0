"""An asynchronous invocation of a model: what the job is told, and the status that it leaves behind. Pure.

The image, the result and the status are objects of a storage; whoever invokes gives the job addresses that are signed for each,
so that the job needs no keys. OSCAR reports success for scripts that failed, so that nothing but this status is believed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

KEY = re.compile(r"[a-z0-9][a-z0-9-]{7,63}")
IMAGE, RESULT, STATUS = "image", "result.json", "status.json"
"""Names of the objects below a key."""
SUCCEEDED, FAILED = "Succeeded", "Failed"
LARGEST_IMAGE = 64 * 1024 * 1024
LARGEST_STATUS = 64 * 1024
LOGGED = "pelagos-invocation "
"""How the line of a log begins that holds a status, for when the storage cannot be reached."""
_SCHEMA = 1
_LONGEST = 4096
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Invocation:
    """What the job is told; addresses are signed for reading the image, and for writing the others."""

    key: str
    image_url: str
    image_sha256: str
    result_url: str
    status_url: str
    confidence: str = ""
    """A decimal string; empty: as the service says."""


@dataclass(frozen=True)
class Status:
    """How it went. ``state`` is one of the two above, ``message`` why it failed."""

    key: str
    state: str
    message: str = ""
    result_sha256: str = ""
    manifest_sha256: str = ""
    """Of the package that answered."""
    finished_at: str = ""


def event(invocation: Invocation) -> str:
    """The text that is sent. Without blanks: OSCAR passes it through a shell that would take them for separators."""
    return json.dumps({"pelagos": _SCHEMA, **asdict(invocation)}, separators=(",", ":"))


def read_event(content: bytes | str) -> Invocation:
    """Raises ValueError, with what is wrong in words."""
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
    """The object that is written last."""
    return json.dumps({"schemaVersion": _SCHEMA, **asdict(status)}, separators=(",", ":"), sort_keys=True)


def read_status(content: bytes | str, key: str) -> Status:
    """Raises ValueError for what is no status of this key."""
    found = _object(content)
    names = [field.name for field in fields(Status)]
    if found.get("schemaVersion") != _SCHEMA or not all(isinstance(found.get(name), str) for name in names):
        raise ValueError("it is no status of an invocation")
    made = Status(**{name: found[name][:_LONGEST] for name in names})
    if made.key != key or made.state not in (SUCCEEDED, FAILED):
        raise ValueError(f"it is no status of {key}")
    return made


def _object(content: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found
