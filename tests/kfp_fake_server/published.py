"""The API as the published Python client knows it.

Finds the operation of a request, and checks requests and replies. The client of a release is generated from that release's
OpenAPI description, so each of its methods contains an operation's path and parameters. They are called once, with a recorder in
place of the connection.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import kfp_server_api
from kfp_server_api import models

from published_models import Models

_MODELS = Models((models,))
_ERROR = "GoogleRpcStatus"
_SERVICES = ("ExperimentService", "HealthzService", "RunService")
_TYPED = re.compile(r":type (\w+): (.+)")
_ALL = "_with_http_info"


@dataclass(frozen=True)
class Operation:
    """A method of a path. ``query`` and ``body`` name types; ``path`` holds the values of the path's parameters in a request."""

    identifier: str
    method: str
    template: str
    query: Mapping[str, str]
    body: str
    reply: str
    path: Mapping[str, str] = field(default_factory=dict)

    def wrong_in_request(self, query: Mapping[str, str], body: object) -> list[str]:
        """Parts of a request that the client does not know, including fields and parameters."""
        wrong = [f"query parameter {name} is not known" for name in query if name not in self.query]
        numbers = (name for name in query if self.query.get(name) == "int")
        wrong += [f"query parameter {name} is no integer" for name in numbers if not query[name].lstrip("-").isdigit()]
        if self.body:
            wrong += _MODELS.wrong(body, self.body, "body")
        return wrong

    def wrong_in_reply(self, status: int, body: object) -> list[str]:
        """Parts of a reply that the client does not know."""
        return list(_MODELS.wrong(body, self.reply if status == 200 else _ERROR, "reply"))


def find(method: str, path: str) -> Operation | None:
    """The operation that answers a request; None if there is none."""
    for operation in operations():
        match = _pattern(operation.template).fullmatch(path)
        if match and operation.method == method:
            given = {**operation.__dict__, "path": match.groupdict()}
            return Operation(**given)
    return None


@functools.cache
def operations() -> tuple[Operation, ...]:
    """All operations of the services that Pelagos calls."""
    return tuple(operation for service in _SERVICES for operation in _of_service(service))


def _of_service(service: str) -> Iterator[Operation]:
    recorder = _Recorder()
    api = getattr(kfp_server_api, f"{service}Api")(recorder)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", service).lower()
    for name, method in inspect.getmembers(api, inspect.ismethod):
        if not name.endswith(_ALL):
            continue
        words = name.removeprefix(f"{prefix}_").removesuffix(_ALL).split("_")
        types = {key: kind for key, kind in _TYPED.findall(method.__doc__ or "") if key in _parameters(method)}
        # Each value is its own name, so that the recorded call shows where it goes.
        method(**{key: key for key in types})
        called = recorder.calls.pop()
        yield Operation(
            f"{service}_{''.join(word.capitalize() for word in words)}",
            called["method"],
            called["path"],
            {key: types[str(value)] for key, value in called["query"]},
            types.get(str(called["body"]), ""),
            "dict(str, object)" if called["reply"] == "object" else called["reply"],
        )


def _parameters(method: Any) -> frozenset[str]:
    """A method's parameters of the API, without those that every method of the client takes."""
    return frozenset(key for key, _kind in _TYPED.findall(method.__doc__) if not key.startswith(("_", "async_req")))


class _Recorder:
    """Replaces the client's connection."""

    client_side_validation = False

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def select_header_accept(self, accepts: list[str]) -> str:
        """Like the client's own method."""
        return accepts[0]

    select_header_content_type = select_header_accept

    def call_api(
        self, path: str, method: str, _path: object, query: object, _header: object, body: object = None, **others: Any
    ) -> None:
        """Record the request that would be sent."""
        self.calls.append(
            {"path": path, "method": method, "query": query, "body": body, "reply": others["response_type"]}
        )


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{([^}]+)\}", template)
    named = (
        re.escape(part) if number % 2 == 0 else f"(?P<{part.replace('.', '_')}>[^/:]+)"
        for number, part in enumerate(parts)
    )
    return re.compile("".join(named))
