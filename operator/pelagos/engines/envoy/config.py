"""What Envoy is told that stands before model servers: bootstrap, listeners, clusters. Pure; JSON that Envoy reads.

Called by triton_local for the services of one machine, whose listeners and clusters come from files that are replaced, and by
the engines of clusters, where all is in the bootstrap of a pod. Whatever is not named here as a route is closed: model
control, shared memory, logging, tracing, statistics and streams never reach the server. What a server is known to
die of does not pass either: compressed bodies, chunks (a request is buffered, and goes on with its length), JSON that nests deep.
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
    """What clients may ask for, ``request_bytes`` and ``heap_bytes`` in bytes, times in seconds.

    ``heap_bytes`` is what Envoy may take for all requests in progress: near it the largest by HTTP/2 are ended, then new ones
    refused. By HTTP/1, only ``uploads`` of more than a mebibyte, or of unknown length, may be in progress at a port.
    ``connections`` counts those of one port, ``all_connections`` those of all ports.
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


@dataclass(frozen=True)
class Ports:
    """Where clients come to."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True)
class Upstream:
    """Where the server listens that stands behind: ``host:port``, or the path of a Unix socket."""

    http: str
    grpc: str
    metrics: str


@dataclass(frozen=True)
class Service:
    """One served model. ``name`` begins the names of what Envoy makes for it: letters, digits, '.', '_' and '-'.

    ``hosts`` are the names, without port, that clients may ask for; empty: any, where the network decides who comes.
    ``tells_config``: also how the model is configured is told, which names what is served.
    ``private`` is a Unix socket for whoever owns this Envoy: gRPC as clients have it, whatever they take up.
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

    ``admin`` is the path of its Unix socket, for the owner alone. ``dynamic`` is a folder with ``listeners.json`` and
    ``clusters.json``, beside which there are the clusters in ``always``; without one, ``services`` is all that there is.
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
    """One for each port of each service, and one for each private socket."""
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
            # Clients that take up all connections must not make a server look dead to whoever looks after it.
            found.append(private | {"ignore_global_conn_limit": True})
    return found


def clusters(services: tuple[Service, ...]) -> list[dict[str, Any]]:
    """One for each protocol of each service."""
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
        # Streams that hold more than a mebibyte are known by what they hold, so that the largest can be ended.
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
        # Before the others: the first route that matches answers, and the last of them refuses everything.
        found = [routes.config(f"{service.name}-http", service.model, limits.answer_seconds), *found]
    return routes.virtual_hosts(found, service.hosts or ("*",))


def listener(name: str, address: dict[str, Any], manager: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """What takes connections at an address, and hands their requests to ``manager``."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a listener: use letters, digits, '.', '_' and '-'")
    # In this order: a connection beyond the limit is closed before anything of it is read.
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
        # A second Envoy, or anybody else, must not share the port in silence.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 256 * 1024,
        "filter_chains": [{"name": name, "filters": chain}],
    }


def manager(
    name: str, hosts: list[dict[str, Any]], kind: str, limits: Limits, filters: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    """How requests are read, routed by ``hosts`` and filtered, whoever listens. ``more`` are other fields of it."""
    streams = {
        "max_concurrent_streams": limits.streams,
        "initial_stream_window_size": MIB,
        "initial_connection_window_size": 4 * MIB,
    }
    usual: dict[str, Any] = {
        "stat_prefix": name,
        "codec_type": "HTTP2" if kind == "grpc" else "HTTP1",
        # Clusters may come from a file of their own, which Envoy may read later than this.
        "route_config": {"name": name, "validate_clusters": False, "virtual_hosts": hosts},
        "http_filters": filters,
        "access_log": [refused()],
        "local_reply_config": {"mappers": [too_long(limits, JSON_BYTES)]},
        # The address of the client is known by its connection; its headers about that, and those to Envoy, are not believed.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "generate_request_id": False,
        "strip_any_host_port": True,
        # Routes compare what is left of a path after all that a server might make of it: what is closed has one spelling.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": limits.header_kibibytes,
        "common_http_protocol_options": {
            "idle_timeout": seconds(limits.idle_seconds),
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


def too_long(limits: Limits, json_bytes: int) -> dict[str, Any]:
    """Says what is allowed to who sent too much; routes.http tells who announced that."""
    comparison = {"op": "EQ", "value": {"default_value": 413, "runtime_key": "pelagos.too_long"}}
    text = (
        f"The body is too long: at most {limits.request_bytes} bytes are accepted for an inference with binary data, "
        f"{json_bytes} for one in JSON alone, and less for all others"
    )
    return {"filter": {"status_code_filter": {"comparison": comparison}}, "body": {"inline_string": text}}


def limiting(kind: str, limits: Limits) -> list[dict[str, Any]]:
    """Filters that count what is in progress and hold whole bodies, of no more than is allowed."""
    most = limits.request_bytes
    filters = [typed("envoy.filters.http.buffer", "filters.http.buffer.v3.Buffer", max_request_bytes=most)]
    if kind == "http":
        # Before the buffer: what is counted is what would be buffered. Never more than `uploads` in progress; the filter would
        # find out by itself how many are good, and is given no choice.
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
    """The last filter."""
    return typed("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True)


def _filters(kind: str, limits: Limits) -> list[dict[str, Any]]:
    # The script comes after the buffer, since it looks at whole bodies, and at none that is larger than allowed.
    filters = limiting(kind, limits)
    if kind in _GUARDS:
        script = {"inline_string": _GUARDS[kind]}
        filters.append(typed("envoy.filters.http.lua", "filters.http.lua.v3.Lua", default_source_code=script))
    return [*filters, router()]


def refused() -> dict[str, Any]:
    """A line for each request that got an error; whoever keeps the output of Envoy keeps it short."""
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
    """A server at ``host:port`` or at the path of a Unix socket. ``host`` is what it is asked for as; empty: as by the client."""
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
        # A server is on this machine, in this pod or in this cluster: it takes a connection at once, or is not there.
        "connect_timeout": "2s",
        "per_connection_buffer_limit_bytes": 256 * 1024,
        "circuit_breakers": {"thresholds": [most]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def is_address(host: str) -> bool:
    """Whether it is one by numbers, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
