"""Whether the model servers of one machine answer: asked at their own addresses, since their status may be from before a stop."""

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
"""Seconds that servers may take; a large model takes longer on a busy machine, and is then named."""
_PERIOD = 0.5
_ANSWER_SECONDS = 2.0
_HERE = "http://127.0.0.1:"

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Silent:
    """A ModelService that does not answer, and what its status says."""

    name: str
    said: str


def wait(settings: Settings, console: Console, patience: float = PATIENCE) -> tuple[Silent, ...]:
    """Wait until all model servers that ran before answer, or cannot; returns those that do not. There may be none at all."""
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

    with console.status("model servers start ..."):
        return follow(fetch, _answers, patience)


def follow(
    fetch: Callable[[], Sequence[Body] | None], answers: Callable[[Body], bool], patience: float
) -> tuple[Silent, ...]:
    """Look again and again until all answer or nothing is to be waited for; returns those that do not answer.

    ``fetch`` gives None while the API server does not answer.
    """
    deadline = time.monotonic() + patience
    while True:
        bodies = fetch()
        silent = [body for body in served(bodies or ()) if not answers(body)]
        # A stalled service needs a person: waiting longer does not help.
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
    """Those that answered before. One that has never had a model is not waited for."""
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
