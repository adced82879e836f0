"""Checks that the model servers on this machine answer, at their own addresses, since their status may be outdated."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from pelagos.api import kinds, meta
from pelagos.cli import access
from pelagos.settings import Settings

PATIENCE = 90.0
"""How long servers may take, in seconds; a large model on a busy machine takes longer, and is reported then."""
_PERIOD = 0.5
_ANSWER_SECONDS = 2.0
_HERE = "http://127.0.0.1:"

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Silent:
    """A ModelService that does not answer; ``said`` is what its status says."""

    name: str
    said: str


def wait(settings: Settings, console: Console, patience: float = PATIENCE) -> tuple[Silent, ...]:
    """Wait until all model servers that ran before answer, or cannot; returns those that do not answer, if any."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    api = access.custom_objects(access.embedded(settings))

    def fetch() -> Sequence[Body] | None:
        try:
            found = api.list_cluster_custom_object(
                meta.GROUP, meta.VERSION, kinds.MODEL_SERVICE.plural, _request_timeout=5
            )
        except (ApiException, HTTPError):
            return None
        listed: Sequence[Body] = found["items"]
        return listed

    with console.status("model servers are starting ..."):
        return follow(fetch, _answers, patience)


def follow(
    fetch: Callable[[], Sequence[Body] | None], answers: Callable[[Body], bool], patience: float
) -> tuple[Silent, ...]:
    """Poll until all servers answer or waiting no longer helps; returns those that do not answer.

    ``fetch`` returns None while the API server does not answer.
    """
    deadline = time.monotonic() + patience
    while True:
        bodies = fetch()
        silent = [body for body in served(bodies or ()) if not answers(body)]
        # A stalled service needs a person, so waiting does not help.
        is_coming = bodies is None or any(not _condition(body, "Stalled") for body in silent)
        if not is_coming or time.monotonic() >= deadline:
            break
        time.sleep(_PERIOD)
    found = []
    for body in silent:
        ready, metadata = _condition(body, "Ready"), body["metadata"]
        said = f"{ready.get('reason', 'Unknown')}: {ready.get('message', 'it has no status yet')}"
        found.append(Silent(f"{metadata.get('namespace', 'default')}/{metadata['name']}", said))
    return tuple(found)


def _condition(body: Body, name: str) -> Body:
    return next((entry for entry in body["status"].get("conditions", ()) if entry["type"] == name), {})


def served(bodies: Iterable[Body]) -> list[Body]:
    """The services that answered before; one that never had a model is not waited for."""
    return [
        body
        for body in bodies
        if not body["spec"].get("suspend")
        and "deletionTimestamp" not in body["metadata"]
        and (body.get("status") or {}).get("model")
    ]


def _answers(body: Body) -> bool:
    status = body["status"]
    url = (status.get("endpoints") or {}).get("http")
    if not str(url).startswith(_HERE):
        return False
    try:
        address = f"{url}/v2/models/{status['model']['name']}/ready"
        with urllib.request.urlopen(address, timeout=_ANSWER_SECONDS):  # noqa: S310 - of this machine
            return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
