"""Which requests Envoy passes on to a model server, and the replies to all others. Pure; called by config.

Inference, metadata and health of the one model, over HTTP and gRPC, and metrics. The order of routes matters: the first match
applies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pelagos.engines.envoy.guards import FIELD_BYTES, JSON_BYTES

SMALL = 1024 * 1024
"""Announced bodies of up to so many bytes are not counted: they need little more than their connections, which are limited."""
_HEADER_LENGTH = "inference-header-content-length"
_GRPC = "/inference.GRPCInferenceService/"
STREAM = f"{_GRPC}ModelStreamInfer"
_METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata")
_CLOSED = (
    "This is closed: only inference, metadata and health of the served model are allowed. Change the served model by its "
    "ModelService"
)
_NO_ENCODING = "A compressed body is not accepted: send it as it is, without Content-Encoding or grpc-encoding"
_BAD_LENGTH = (
    f"Inference-Header-Content-Length must be a number from 0 to {JSON_BYTES}, not longer than the body: "
    "send images as binary data behind a short JSON header, as tritonclient does"
)


def typed(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    """An extension of Envoy with its configuration."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}}


def seconds(count: float) -> str:
    """A duration as Envoy reads it."""
    return f"{count:g}s"


@dataclass(frozen=True)
class Way:
    """The destination of requests. ``cluster`` names it; if empty, the header ``chosen`` does, which never comes from a client.

    ``dropped`` are headers that the server does not get. ``rewritten``: remove the two path segments before /v2.
    """

    cluster: str = ""
    chosen: str = ""
    dropped: tuple[str, ...] = ()
    rewritten: bool = False


def http(cluster: str, model: str, most: int, timeout: float) -> list[dict[str, Any]]:
    """Routes of the HTTP port; an inference request may have ``most`` bytes."""
    way = Way(cluster)
    return http_by(way, "", re.escape(model), most, timeout, json=(way, JSON_BYTES))


def http_by(way: Way, base: str, name: str, most: int, timeout: float, json: tuple[Way, int]) -> list[dict[str, Any]]:
    """The same routes below ``base`` and for models that match ``name``; both are regular expressions.

    ``json``: the destination of inference requests without binary data, and how many bytes they may have.
    """
    model = rf"/models/{name}(/versions/[0-9]{{1,9}})?"
    health = _pattern(rf"{base}/v2(/health/(live|ready)|{model}(/ready)?)?")
    infer = _pattern(rf"{base}/v2{model}/infer")
    binary = _matches(_HEADER_LENGTH, "0|[1-9][0-9]{0,3}")
    post = _matches(":method", "POST")
    elsewhere, most_json = json
    # A refusal comes before the route that would pass the request. An announced length is checked here, so that the refusal
    # comes before the body; the buffer (config) counts bodies without one.
    return [
        _to(way, {**health, "headers": [_matches(":method", "GET")]}, timeout, most=1024),
        _refuse({**infer, "headers": [post, _encoded("content-encoding")]}, 415, _NO_ENCODING),
        _refuse({**infer, "headers": [post, _announced(most + 1, 2**63 - 1)]}, 413, _too_long(most)),
        _to(way, {**infer, "headers": [post, binary, _announced(0, SMALL + 1)]}, timeout, most=SMALL),
        _to(way, {**infer, "headers": [post, binary]}, timeout, is_counted=True),
        _refuse({**infer, "headers": [post, {"name": _HEADER_LENGTH, "present_match": True}]}, 400, _BAD_LENGTH),
        *_json(elsewhere, {**infer, "headers": [post]}, timeout, most_json),
        _refuse({"prefix": "/"}, 403, _CLOSED),
    ]


def _json(way: Way, match: dict[str, Any], timeout: float, most: int) -> list[dict[str, Any]]:
    if most <= SMALL:
        return [_to(way, match, timeout, most=most)]
    headers = match["headers"]
    return [
        _refuse({**match, "headers": [*headers, _announced(most + 1, 2**63 - 1)]}, 413, _too_long(most)),
        _to(way, {**match, "headers": [*headers, _announced(0, SMALL + 1)]}, timeout, most=SMALL),
        _to(way, match, timeout, most=most, is_counted=True),
    ]


def _too_long(most: int) -> str:
    return f"The body is too long: at most {most} bytes are accepted"


def config(cluster: str, model: str, timeout: float) -> dict[str, Any]:
    """The route of the HTTP port to the model's configuration, for callers that must know which model is served."""
    path = _pattern(rf"/v2/models/{re.escape(model)}/config")
    return _to(Way(cluster), {**path, "headers": [_matches(":method", "GET")]}, timeout, most=1024)


def grpc(cluster: str, model: str, most: int, timeout: float) -> list[dict[str, Any]]:
    """Routes of the gRPC port. The model is named inside the message, and the server has only one."""
    del model, most
    return grpc_by(Way(cluster), timeout)


def grpc_by(way: Way, timeout: float, stream: tuple[Way, float] | None = None) -> list[dict[str, Any]]:
    """The same routes with any destination.

    ``stream``: the destination of inference streams, and how many seconds they may last. None refuses them, because no filter
    sees a whole stream.
    """
    method = {"headers": [_matches(":method", "POST"), _matches("content-type", r"application/grpc(\+proto)?")]}
    asking = [f"{_GRPC}{name}" for name in _METHODS] + ["/grpc.health.v1.Health/Check"]
    return [
        _refuse({"prefix": "/", "headers": [_encoded("grpc-encoding")]}, 403, _NO_ENCODING),
        _refuse({"prefix": "/", "headers": [_encoded("content-encoding")]}, 403, _NO_ENCODING),
        _until_deadline(_to(way, {"path": f"{_GRPC}ModelInfer", **method}, timeout), timeout),
        *([_streaming(*stream, {"path": STREAM, **method})] if stream is not None else []),
        *(_until_deadline(_to(way, {"path": path, **method}, timeout, most=FIELD_BYTES), timeout) for path in asking),
        _refuse({"prefix": "/"}, 403, _CLOSED),
    ]


def _until_deadline(route: dict[str, Any], most_seconds: float) -> dict[str, Any]:
    """A route for calls until the deadline in the header grpc-timeout, which may be at most ``most_seconds`` away."""
    route["route"]["max_stream_duration"] = {"grpc_timeout_header_max": seconds(most_seconds)}
    return route


def _streaming(way: Way, most_seconds: float, match: dict[str, Any]) -> dict[str, Any]:
    """A route for streams, passed on unbuffered for at most ``most_seconds``."""
    route = _to(way, match, 0)
    limits = {"max_stream_duration": seconds(most_seconds), "grpc_timeout_header_max": seconds(most_seconds)}
    route["route"]["max_stream_duration"] = limits
    route["route"].pop("retry_policy")
    route["typed_per_filter_config"] = _UNCOUNTED | _unlike(disabled=True)
    return route


def metrics(cluster: str, model: str, most: int, timeout: float) -> list[dict[str, Any]]:
    """Routes of the port that Prometheus scrapes."""
    del model, most
    get = [_matches(":method", "GET")]
    return [
        _to(Way(cluster), {"path": "/metrics", "headers": get}, timeout, most=1024),
        _refuse({"prefix": "/"}, 403, _CLOSED),
    ]


def virtual_hosts(routes: list[dict[str, Any]], hosts: tuple[str, ...]) -> list[dict[str, Any]]:
    """The routes for requests to one of ``hosts``; requests to other hosts get a refusal that names them."""
    ours = {"name": "ours", "domains": list(hosts), "routes": routes}
    if "*" in hosts:
        return [ours]
    message = f"The Host header, or :authority, must be one of {', '.join(hosts)}, with or without a port"
    return [ours, {"name": "others", "domains": ["*"], "routes": [_refuse({"prefix": "/"}, 403, message)]}]


def _to(
    way: Way, match: dict[str, Any], timeout: float, most: int | None = None, *, is_counted: bool = False
) -> dict[str, Any]:
    """A route to the server; ``most`` lowers the largest body, in bytes.

    ``is_counted``: whether its requests count towards the limit on uploads in progress.
    """
    action: dict[str, Any] = {
        **({"cluster": way.cluster} if way.cluster else {"cluster_header": way.chosen, "auto_host_rewrite": True}),
        # Counted from the last byte of the request. Envoy ignores it where max_stream_duration is set, so only gRPC has that.
        "timeout": seconds(timeout),
        # Never retry a request that the server has seen: one that crashes it must not crash its successor.
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
    }
    if way.rewritten:
        action["regex_rewrite"] = {"pattern": {"regex": "^/[^/]+/[^/]+/"}, "substitution": "/"}
    route: dict[str, Any] = {"match": match, "route": action}
    if way.dropped:
        route["request_headers_to_remove"] = list(way.dropped)
    differs = {} if is_counted else _UNCOUNTED
    if most is not None:
        differs = differs | _unlike(buffer={"max_request_bytes": most})
    return {**route, "typed_per_filter_config": differs}


def _refuse(match: dict[str, Any], status: int, message: str) -> dict[str, Any]:
    """A route that refuses at once, without waiting for the body."""
    answer = {"status": status, "body": {"inline_string": f"{message}."}}
    return {"match": match, "direct_response": answer, "typed_per_filter_config": _UNCOUNTED | _unlike(disabled=True)}


COUNTER = "envoy.filters.http.adaptive_concurrency"
_UNCOUNTED = {COUNTER: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}


def _unlike(**buffer: Any) -> dict[str, Any]:
    """Filter settings that differ for a route. A disabled buffer disables the script too, which needs the body."""
    kinds = "type.googleapis.com/envoy.extensions.filters.http"
    filters = {"envoy.filters.http.buffer": {"@type": f"{kinds}.buffer.v3.BufferPerRoute", **buffer}}
    if "disabled" in buffer:
        filters["envoy.filters.http.lua"] = {"@type": f"{kinds}.lua.v3.LuaPerRoute", "disabled": True}
    return filters


def _pattern(expression: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": expression}}


def _matches(header: str, expression: str) -> dict[str, Any]:
    return {"name": header, "string_match": {"safe_regex": {"regex": expression}}}


def _announced(start: int, end: int) -> dict[str, Any]:
    """A body of an announced length, from ``start`` to below ``end``."""
    return {"name": "content-length", "range_match": {"start": start, "end": end}}


def _encoded(header: str) -> dict[str, Any]:
    """Matches if the header is present and names an encoding other than identity."""
    return {**_matches(header, "(?i)(identity)?"), "invert_match": True, "treat_missing_header_as_empty": True}
