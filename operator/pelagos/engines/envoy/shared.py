"""The configuration of the Envoy in front of all services of an installation or a namespace, which users connect to. Pure.

Called by pelagos_gateway. A small program next to Envoy (``AUTHORITY``) first decides on each request, and names its destination
in a header: so the routes do not depend on the number of services. Behind it is each service's own Envoy (config).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pelagos.engines.envoy import config, elsewhere, routes
from pelagos.engines.envoy.config import MIB, Limits
from pelagos.engines.envoy.routes import Way, typed

SERVICE = "pelagos-service"
"""Header (gRPC metadata) in which a client names a service: ``namespace/name``."""
CHOSEN, LABELS = "pelagos-cluster", "pelagos-labels"
"""Headers that the authority sets: the cluster, and labels of the call for the journal. A client's own are dropped."""
LENGTH = "pelagos-length"
"""Header by which Envoy passes the announced body length to the authority; ``-`` when there is none."""
CALL = "x-request-id"
"""Header that identifies a call for authority and journal; Envoy sets a new one, even if the client sent one."""
AUTHORITY, CONVERTER, JOURNAL, STREAMS = "authority", "converter", "journal", "streams"
"""Names of sockets, and of their clusters after ``pelagos-``: the program that decides on requests, the one that converts JSON to
binary, the one that receives reports of ended calls, and the one that turns streams into calls."""
ENDED, DETAILS = "ended", "details"
"""Tags of the journal's records: a call has ended; and within a second, its details."""
STREAM = routes.STREAM
_JUDGED_SECONDS = 10
_SECRETS = ("authorization", "proxy-authorization", "cookie")
_NAME = "[^/]+"
_REPLACED = "OVERWRITE_IF_EXISTS_OR_ADD"


@dataclass(frozen=True)
class Front:
    """Where clients connect. ``hosts`` as in config.Service. ``sockets`` is a folder that only its owner can access."""

    address: str
    http: int
    grpc: int
    sockets: str
    hosts: tuple[str, ...] = ()
    json_bytes: int = 24 * MIB


@dataclass(frozen=True)
class Served:
    """A service. ``http`` and ``grpc`` are ``host:port``, and that host is sent to it. ``tls``: whether both use TLS.

    ``grpc`` is empty if it has HTTP alone. With ``authorization`` it belongs to another platform, whose ingress asks for this
    login; its paths begin with ``path``.
    """

    name: str
    http: str
    grpc: str
    tls: bool = False
    path: str = ""
    authorization: str = field(default="", repr=False)


def cluster_name(service: str, kind: str) -> str:
    """The name of a cluster. ``service`` is ``namespace/name``, ``kind`` is http or grpc."""
    return f"{service.replace('/', '.')}-{kind}"


def service_of(cluster: str) -> str:
    """The service, ``namespace/name``, of a cluster. Names of namespaces contain no dot."""
    return cluster.rpartition("-")[0].replace(".", "/", 1)


def listeners(front: Front, limits: Limits) -> list[dict[str, Any]]:
    """The HTTP and the gRPC listener. They change only with the settings of the installation."""
    return [_listener("http", front.http, _http(front, limits), front, limits),
            _listener("grpc", front.grpc, _grpc(limits), front, limits)]  # fmt: skip


def bootstrap(admin: str, front: Front, limits: Limits, dynamic: str) -> dict[str, Any]:
    """The file that Envoy starts with. It contains the clusters of the programs next to it, which never change."""
    ours = tuple(
        config.cluster(f"pelagos-{name}", f"{front.sockets}/{name}", is_http2=name == STREAMS)
        for name in (AUTHORITY, CONVERTER, JOURNAL, STREAMS)
    )
    return config.bootstrap(admin, limits, dynamic, always=ours)


def clusters(services: tuple[Served, ...], authorities: str) -> list[dict[str, Any]]:
    """A cluster for each protocol of each service. ``authorities``: path of the trusted authorities, as Envoy sees it."""
    return [
        _cluster(each, kind, address, authorities)
        for each in services
        for kind, address in (("http", each.http), ("grpc", each.grpc))
        if address
    ]


def _cluster(service: Served, kind: str, address: str, authorities: str) -> dict[str, Any]:
    host, is_http2 = address.rpartition(":")[0], kind == "grpc"
    made = config.cluster(cluster_name(service.name, kind), address, is_http2=is_http2, host=host)
    if service.authorization:
        made = elsewhere.with_login(made, service.path, service.authorization)
    if not service.tls:
        return made
    name = host.strip("[]")
    # Also match the name: not every holder of a certificate of these authorities is this service. Wildcard DNS names match.
    whose = {"san_type": "IP_ADDRESS" if config.is_address(name) else "DNS", "matcher": {"exact": name}}
    context: dict[str, Any] = {
        "common_tls_context": {
            "alpn_protocols": ["h2" if is_http2 else "http/1.1"],
            "validation_context": {
                "trusted_ca": {"filename": authorities},
                "match_typed_subject_alt_names": [whose],
            },
        }
    }
    if not config.is_address(name):
        context["sni"] = name
    tls = typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext", **context)
    return made | {"transport_socket": tls}


def _http(front: Front, limits: Limits) -> list[dict[str, Any]]:
    dropped = (*_SECRETS, SERVICE, LABELS, LENGTH)
    way = Way(chosen=CHOSEN, dropped=(*dropped, CHOSEN), rewritten=True)
    converter = Way(cluster=f"pelagos-{CONVERTER}", dropped=dropped, rewritten=True)
    base = f"/{_NAME}/{_NAME}"
    return routes.http_by(
        way, base, _NAME, limits.request_bytes, limits.answer_seconds, json=(converter, front.json_bytes)
    )


def _grpc(limits: Limits) -> list[dict[str, Any]]:
    way = Way(chosen=CHOSEN, dropped=(*_SECRETS, SERVICE, LABELS, LENGTH, CHOSEN))
    # Keeps the headers by which its calls are authorized, and the one that names its service.
    stream = Way(cluster=f"pelagos-{STREAMS}", dropped=("proxy-authorization", "cookie", LABELS, LENGTH))
    # The program that handles streams ends them with a message; the limit here is for when it does not.
    return routes.grpc_by(way, limits.answer_seconds, (stream, limits.stream_seconds + 10))


def _listener(kind: str, port: int, found: list[dict[str, Any]], front: Front, limits: Limits) -> dict[str, Any]:
    name = f"gateway-{kind}"
    hosts = routes.virtual_hosts(found, front.hosts or ("*",))
    filters = [_authority(kind), *config.limiting(kind, limits), config.router()]
    manager = config.manager(
        name,
        hosts,
        kind,
        limits,
        filters,
        access_log=[config.refused(), *_journal()],
        local_reply_config={"mappers": [*config.replies(kind, limits, front.json_bytes), _unjudged(kind)]},
        generate_request_id=True,
        early_header_mutation_extensions=[_unsaid()],
    )
    address = {"socket_address": {"address": front.address, "port_value": port}}
    return config.listener(name, address, manager, limits)


def _unsaid() -> dict[str, Any]:
    """Removes the headers that only the authority may set, before anything reads the request."""
    return typed(
        "envoy.http.early_header_mutation.header_mutation",
        "http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            *({"remove": name} for name in (CHOSEN, LABELS, "x-envoy-auth-headers-to-remove")),
            # The request to the authority has no body, and states that length: pass the original one in a header.
            {"append": {"header": {"key": LENGTH, "value": "%REQ(content-length)%"}, "append_action": _REPLACED}},
        ],
    )


def _authority(kind: str) -> dict[str, Any]:
    """The filter that asks the authority, before a body is read. Nothing passes while it does not answer."""
    told = ("www-authenticate", "retry-after", "content-type", "grpc-status")
    service = {
        "server_uri": {
            "uri": f"http://pelagos-{AUTHORITY}/",
            "cluster": f"pelagos-{AUTHORITY}",
            "timeout": routes.seconds(_JUDGED_SECONDS),
        },
        "path_prefix": f"/{kind}",
        "authorization_response": {
            "allowed_upstream_headers": _exactly(CHOSEN),
            "allowed_client_headers": _exactly(*told),
            "dynamic_metadata_from_headers": _exactly(LABELS),
        },
    }
    return typed(
        "envoy.filters.http.ext_authz",
        "filters.http.ext_authz.v3.ExtAuthz",
        http_service=service,
        allowed_headers=_exactly("authorization", SERVICE, CALL, LENGTH),
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        # The route depends on the header that the authority sets, so it must be chosen again.
        clear_route_cache=True,
    )


def _unjudged(kind: str) -> dict[str, Any]:
    """The reply when the authority does not answer or cannot decide: Envoy drops the text of its answers of 500 and above."""
    unavailable = {"op": "EQ", "value": {"default_value": 503, "runtime_key": "pelagos.unjudged"}}
    both = [{"status_code_filter": {"comparison": unavailable}}, {"response_flag_filter": {"flags": ["UAEX"]}}]
    text = "Who may call cannot be determined now: try again in a few seconds"
    shape = config.AS_JSON if kind == "http" else {}
    return {"filter": {"and_filter": {"filters": both}}, "body": {"inline_string": text}, **shape}


def _journal() -> list[dict[str, Any]]:
    """Report each ended call to the authority, however it ended: limits per caller count the calls in progress.

    At once, since a caller's next request may come as soon as this one is answered; and within a second again, with more
    about it. What is sent at once is lost while Envoy still connects, since only a buffer keeps it.
    """
    call = {"call": f"%REQ({CALL})%"}
    more = {
        "labels": f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{LABELS})%",
        "path": "%REQ(:PATH):100%",
        "status": "%RESPONSE_CODE%",
        "grpc": "%GRPC_STATUS_NUMBER%",
        "milliseconds": "%DURATION%",
    }
    return [
        typed(
            "envoy.access_loggers.fluentd",
            "access_loggers.fluentd.v3.FluentdAccessLogConfig",
            cluster=f"pelagos-{JOURNAL}",
            tag=tag,
            stat_prefix=tag,
            buffer_size_bytes=size,
            record=record,
        )
        for tag, size, record in ((ENDED, 1, call), (DETAILS, MIB, call | more))
    ]


def _exactly(*names: str) -> dict[str, Any]:
    return {"patterns": [{"exact": name} for name in names]}
