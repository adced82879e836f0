"""The configuration of the Envoy in front of model servers: bootstrap, listeners, clusters, as JSON. Pure.

Called by triton_local for the services of one machine, whose listeners and clusters are in files that get replaced, and by the
engines of clusters, where everything is in a pod's bootstrap. Anything without a route here is closed: model control, shared
memory, logging, tracing, statistics and streams never reach the server. Requests that are known to crash a server do not pass
either: compressed bodies, chunked bodies (a request is buffered, and passed on with its length), and deeply nested JSON.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Any

from pelagos.engines.envoy import guards, routes
from pelagos.engines.envoy.guards import JSON_BYTES
from pelagos.engines.envoy.routes import seconds, typed

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Limits on clients; ``request_bytes`` and ``heap_bytes`` in bytes, times in seconds.

    A whole request must arrive within ``upload_seconds``, streams excepted: a response that has begun ends that limit.
    ``heap_bytes`` bounds Envoy's heap for all requests in progress: close to it, the largest HTTP/2 requests are ended, then new
    ones refused. With HTTP/1, a port accepts at most ``uploads`` requests at once of more than a mebibyte or of unknown length.
    ``connections`` is per port, ``all_connections`` for all ports together.
    """

    request_bytes: int = 65 * MIB
    header_kibibytes: int = 16
    connections: int = 256
    all_connections: int = 2048
    streams: int = 64
    uploads: int = 12
    heap_bytes: int = 1024 * MIB
    headers_seconds: int = 10
    upload_seconds: int = 120
    answer_seconds: int = 300
    idle_seconds: int = 300
    stream_seconds: int = 600

    @property
    def request_seconds(self) -> int:
        """Longest time of a request from its first byte to the last of its answer, streams excepted."""
        return self.upload_seconds + self.answer_seconds


@dataclass(frozen=True)
class Ports:
    """The ports that clients connect to."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True)
class Upstream:
    """Where the server behind Envoy listens: ``host:port``, or the path of a Unix socket."""

    http: str
    grpc: str
    metrics: str


@dataclass(frozen=True)
class Service:
    """One served model. ``name`` is the prefix of its names in Envoy: letters, digits, '.', '_' and '-'.

    ``hosts`` are the host names, without port, that clients may use; empty allows any, where the network decides who connects.
    ``tells_config``: whether clients can read the model's configuration, which names the served model.
    ``private`` is a Unix socket for Envoy's owner: gRPC as clients have it, but not subject to the limit on all connections.
    """

    name: str
    model: str
    address: str
    ports: Ports
    upstream: Upstream
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    private: str = ""
    tells_config: bool = False


def bootstrap(
    admin: str,
    limits: Limits,
    dynamic: str = "",
    services: tuple[Service, ...] = (),
    always: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """The file that Envoy starts with.

    ``admin`` is the path of its administration socket, for the owner only. ``dynamic`` is a folder with ``listeners.json`` and
    ``clusters.json``, in addition to the clusters in ``always``; without a folder, ``services`` are all there is.
    """
    content: dict[str, Any] = {
        "node": {"id": "pelagos", "cluster": "pelagos"},
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "overload_manager": _overload(limits),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": p} for p in _STATISTICS]}}},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {}}]},
    }
    if dynamic:
        content["dynamic_resources"] = {
            "lds_config": _watched(dynamic, "listeners.json"),
            "cds_config": _watched(dynamic, "clusters.json"),
        }
        if always:
            content["static_resources"] = {"clusters": list(always)}
    else:
        content["static_resources"] = {"listeners": listeners(services, limits), "clusters": clusters(services)}
    return content


def listeners(services: tuple[Service, ...], limits: Limits) -> list[dict[str, Any]]:
    """One listener for each port of each service, and one for each private socket."""
    found = []
    for service in services:
        for kind, port in (
            ("http", service.ports.http),
            ("grpc", service.ports.grpc),
            ("metrics", service.ports.metrics),
        ):
            address = {"socket_address": {"address": service.address, "port_value": port}}
            name = f"{service.name}-{kind}"
            behind = manager(name, _hosts(kind, service, limits), kind, limits, _filters(kind, limits))
            found.append(listener(name, address, behind, limits))
        if service.private:
            address = {"pipe": {"path": service.private, "mode": 0o600}}
            hosts = _hosts("grpc", replace(service, hosts=()), limits)
            name = f"{service.name}-private"
            private = listener(name, address, manager(name, hosts, "grpc", limits, _filters("grpc", limits)), limits)
            # Exempt from the limit: clients that use up all connections must not make a server look dead to its owner.
            found.append(private | {"ignore_global_conn_limit": True})
    return found


def clusters(services: tuple[Service, ...]) -> list[dict[str, Any]]:
    """One cluster for each protocol of each service."""
    return [
        cluster(f"{service.name}-{kind}", address, is_http2=kind == "grpc")
        for service in services
        for kind, address in (
            ("http", service.upstream.http),
            ("grpc", service.upstream.grpc),
            ("metrics", service.upstream.metrics),
        )
    ]


def discovered(kind: str, resources: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """The content of ``listeners.json`` (``kind`` "listener.v3.Listener") or ``clusters.json`` ("cluster.v3.Cluster")."""
    name = f"type.googleapis.com/envoy.config.{kind}"
    return {"version_info": version, "resources": [{"@type": name, **resource} for resource in resources]}


LISTENER, CLUSTER = "listener.v3.Listener", "cluster.v3.Cluster"
_ROUTES = {"http": routes.http, "grpc": routes.grpc, "metrics": routes.metrics}
_GUARDS = {"http": guards.HTTP, "grpc": guards.GRPC}
AS_JSON: dict[str, Any] = {"body_format_override": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}}
"""Replies in the form of inference servers, which HTTP clients expect."""
_DEADLINE_EXCEEDED = {"header": {"key": "grpc-status", "value": "4"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
# Envoy itself would map 408 to UNKNOWN, and 504 to UNAVAILABLE, upon which clients try again at once.
_TOO_LATE: dict[str, dict[str, Any]] = {"http": AS_JSON, "grpc": {"headers_to_add": [_DEADLINE_EXCEEDED]}}
_STATISTICS = ("server.", "listener_manager.", "cluster_manager.", "overload.", "listener.", "http.", "cluster.")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def _watched(folder: str, name: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{folder}/{name}", "watched_directory": {"path": folder}},
    }


def _overload(limits: Limits) -> dict[str, Any]:
    heap, connections = (
        "envoy.resource_monitors.fixed_heap",
        "envoy.resource_monitors.global_downstream_max_connections",
    )

    def action(name: str, trigger: dict[str, Any]) -> dict[str, Any]:
        return {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": heap, **trigger}]}

    return {
        "refresh_interval": "0.25s",
        # Track streams that hold more than a mebibyte (2**20), so that the largest can be ended.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "resource_monitors": [
            typed(heap, "resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=limits.heap_bytes),
            typed(
                connections,
                "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=limits.all_connections,
            ),
        ],
        "actions": [
            action("shrink_heap", {"threshold": {"value": 0.7}}),
            action("reset_high_memory_stream", {"scaled": {"scaling_threshold": 0.8, "saturation_threshold": 0.95}}),
            action("stop_accepting_requests", {"threshold": {"value": 0.9}}),
        ],
    }


def _hosts(kind: str, service: Service, limits: Limits) -> list[dict[str, Any]]:
    found = _ROUTES[kind](f"{service.name}-{kind}", service.model, limits.request_bytes, limits.answer_seconds)
    if kind == "http" and service.tells_config:
        # Before the others: the first matching route applies, and the last of them refuses everything.
        found = [routes.config(f"{service.name}-http", service.model, limits.answer_seconds), *found]
    return routes.virtual_hosts(found, service.hosts or ("*",))


def listener(name: str, address: dict[str, Any], manager: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """A listener that accepts connections at an address and passes them to ``manager``. Raises ValueError for a bad name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a listener: use letters, digits, '.', '_' and '-'")
    # The limit comes first: a connection beyond it is closed before anything is read from it.
    chain = [
        typed(
            "envoy.filters.network.connection_limit",
            "filters.network.connection_limit.v3.ConnectionLimit",
            stat_prefix=name,
            max_connections=limits.connections,
        ),
        manager,
    ]
    return {
        "name": name,
        "address": address,
        # Neither a second Envoy nor anybody else may silently share the port.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 256 * 1024,
        "filter_chains": [{"name": name, "filters": chain}],
    }


def manager(
    name: str, hosts: list[dict[str, Any]], kind: str, limits: Limits, filters: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    """The HTTP connection manager: how requests are parsed, filtered and routed by ``hosts``. ``more`` are other fields of it."""
    streams = {
        "max_concurrent_streams": limits.streams,
        "initial_stream_window_size": MIB,
        "initial_connection_window_size": 4 * MIB,
    }
    usual: dict[str, Any] = {
        "stat_prefix": name,
        "codec_type": "HTTP2" if kind == "grpc" else "HTTP1",
        # Clusters may come from a separate file, which Envoy may read later than this one.
        "route_config": {"name": name, "validate_clusters": False, "virtual_hosts": hosts},
        "http_filters": filters,
        "access_log": [refused()],
        "local_reply_config": {"mappers": replies(kind, limits, JSON_BYTES)},
        # Take the client's address from its connection. Headers about it, and headers meant for Envoy, are not trusted.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "generate_request_id": False,
        "strip_any_host_port": True,
        # Normalize paths as a server might before routes are matched, so that a closed path has only one spelling.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": limits.header_kibibytes,
        "common_http_protocol_options": {
            "idle_timeout": seconds(limits.idle_seconds),
            # A client that reads its answer slowly never counts as idle, and nothing else ends a call without a deadline.
            "max_stream_duration": seconds(limits.request_seconds),
            "max_headers_count": 64,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": streams,
        "request_headers_timeout": seconds(limits.headers_seconds),
        "request_timeout": seconds(limits.upload_seconds),
        "stream_idle_timeout": seconds(limits.idle_seconds),
        "drain_timeout": "5s",
    }
    http = "http_connection_manager"
    return typed(f"envoy.filters.network.{http}", f"filters.network.{http}.v3.HttpConnectionManager", **(usual | more))


def replies(kind: str, limits: Limits, json_bytes: int) -> list[dict[str, Any]]:
    """Envoy's own replies in our words: to a body that turned out too long, and to requests and answers that were too slow.

    Announced lengths are refused by routes.http.
    """
    long = (
        f"The body is too long: at most {limits.request_bytes} bytes are accepted for an inference with binary data, "
        f"{json_bytes} for one only in JSON, and less for all others"
    )
    late = (
        f"The request did not arrive in time: its headers may take {limits.headers_seconds} s, all of it "
        f"{limits.upload_seconds} s. Send smaller images, or use a faster connection"
    )
    unanswered = (
        f"The model did not answer in time, which is {limits.answer_seconds} s or the deadline of the call: try again, or send "
        "fewer images at once"
    )
    of_kind = _TOO_LATE.get(kind, {})
    return [_reply(413, long), _reply(408, late) | of_kind, _reply(504, unanswered) | of_kind]


def _reply(status: int, text: str) -> dict[str, Any]:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"pelagos.reply_{status}"}}
    return {"filter": {"status_code_filter": {"comparison": comparison}}, "body": {"inline_string": text}}


def limiting(kind: str, limits: Limits) -> list[dict[str, Any]]:
    """Filters that count requests in progress, and buffer whole bodies up to the limit."""
    most = limits.request_bytes
    filters = [typed("envoy.filters.http.buffer", "filters.http.buffer.v3.Buffer", max_request_bytes=most)]
    if kind == "http":
        # Before the buffer, because it limits how many bodies are buffered: at most `uploads`. The filter is meant to find a
        # good number by itself; these parameters fix it.
        controller = {
            "concurrency_limit_params": {
                "max_concurrency_limit": limits.uploads,
                "concurrency_update_interval": "10s",
            },
            "min_rtt_calc_params": {"fixed_value": "1s", "min_concurrency": limits.uploads},
        }
        counter = "filters.http.adaptive_concurrency.v3.AdaptiveConcurrency"
        filters.insert(0, typed(routes.COUNTER, counter, gradient_controller_config=controller))
    return filters


def router() -> dict[str, Any]:
    """The routing filter, which must be the last one."""
    return typed("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True)


def _filters(kind: str, limits: Limits) -> list[dict[str, Any]]:
    # The script comes after the buffer: it needs whole bodies, and must not see any larger than allowed.
    filters = limiting(kind, limits)
    if kind in _GUARDS:
        script = {"inline_string": _GUARDS[kind]}
        filters.append(typed("envoy.filters.http.lua", "filters.http.lua.v3.Lua", default_source_code=script))
    return [*filters, router()]


def refused() -> dict[str, Any]:
    """An access log with a line for each request that got an error; the owner of Envoy's output must bound its size."""
    comparison = {"op": "GE", "value": {"default_value": 400, "runtime_key": "pelagos.logged"}}
    log = typed(
        "envoy.access_loggers.stderr",
        "access_loggers.stream.v3.StderrAccessLog",
        log_format={
            "json_format": {
                "time": "%START_TIME%",
                "from": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "listener": "%FILTER_CHAIN_NAME%",
                "method": "%REQ(:METHOD):16%",
                "host": "%REQ(:AUTHORITY):100%",
                "path": "%REQ(:PATH):200%",
                "status": "%RESPONSE_CODE%",
                "why": "%RESPONSE_CODE_DETAILS%",
                "received": "%BYTES_RECEIVED%",
                "milliseconds": "%DURATION%",
            }
        },
    )
    return log | {"filter": {"status_code_filter": {"comparison": comparison}}}


def cluster(name: str, address: str, *, is_http2: bool, host: str = "") -> dict[str, Any]:
    """A server at ``host:port`` or the path of a Unix socket. ``host`` is the Host it gets; empty keeps the client's."""
    protocol: dict[str, Any] = {"http2_protocol_options": {}} if is_http2 else {"http_protocol_options": {}}
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "60s"},
        "explicit_http_config": protocol,
    }
    kind = "STATIC"
    if address.startswith("/"):
        place: dict[str, Any] = {"pipe": {"path": address}}
    else:
        server, _, port = address.rpartition(":")
        place = {"socket_address": {"address": server.strip("[]"), "port_value": int(port)}}
        kind = "STATIC" if is_address(server.strip("[]")) else "STRICT_DNS"
    endpoint: dict[str, Any] = {"endpoint": {"address": place} | ({"hostname": host} if host else {})}
    most = {"max_connections": 256, "max_pending_requests": 1024, "max_requests": 1024}
    return {
        "name": name,
        "type": kind,
        # Servers are on this machine, in this pod or in this cluster: they accept a connection at once, or are down.
        "connect_timeout": "2s",
        "per_connection_buffer_limit_bytes": 256 * 1024,
        "circuit_breakers": {"thresholds": [most]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
