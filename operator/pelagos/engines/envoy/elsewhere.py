"""Requests to model servers on another platform, and their answers. Pure; called by shared and by the gateway's converter.

The platform's ingress requires a login of the service, which callers must not learn. The login is added by an upstream filter of
the service's own Envoy cluster, after the destination was chosen: it can reach no other server. Requests lose all headers that
the platform does not need, such as callers' addresses; answers lose all headers that an inference does not have, such as cookies.
"""

from __future__ import annotations

import json
from typing import Any

from pelagos.engines.envoy.routes import typed

CONNECT_TIMEOUT = "10s"
"""Longer than within a cluster: these servers are reached over the internet."""
REFUSED = "The platform of this model does not accept the login of the gateway: ask the people who run it"
MOVED = "The platform of this model answered with a redirection, which is not followed: ask the people who run it"
_UNAUTHORIZED = (401, 403, 407)
KEPT = (
    "accept",
    "accept-encoding",
    "content-length",
    "content-type",
    "inference-header-content-length",
    "transfer-encoding",
)
"""Headers that pass in both directions, besides those of the protocol itself."""

_LUA = """
local KEPT = {%(kept)s}
local function stripped(headers)
  local dropped = {}
  for name, _ in pairs(headers) do
    if name:sub(1, 1) ~= ":" and not KEPT[name] then dropped[#dropped + 1] = name end
  end
  for _, name in ipairs(dropped) do headers:remove(name) end
end
function envoy_on_request(handle)
  local headers = handle:headers()
  stripped(headers)
  local path = headers:get(":path")
  -- A request that is tried again has its new path already.
  if path:sub(1, 3) == "/v2" then headers:replace(":path", %(path)s .. path) end
  headers:replace("authorization", %(authorization)s)
end
function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  stripped(headers)
  local why = nil
  if %(unauthorized)s then why = %(refused)s end
  if status:sub(1, 1) == "3" then why = %(moved)s end
  if why == nil then return end
  headers:replace(":status", "502")
  headers:replace("content-type", "application/json")
  local size = handle:body(true):setBytes(why)
  headers:replace("content-length", size)
end
"""


def refusal(status: int) -> str:
    """The message that replaces an answer with this status; empty if the answer passes."""
    if status in _UNAUTHORIZED:
        return REFUSED
    return MOVED if 300 <= status < 400 else ""


def with_login(cluster: dict[str, Any], path: str, authorization: str) -> dict[str, Any]:
    """The Envoy cluster with filters that prepend ``path`` and add the login to requests, and that check the answers."""
    kept = ", ".join(f"[{json.dumps(name)}] = true" for name in KEPT)
    code = _LUA % {
        "kept": kept,
        "path": json.dumps(path),
        "authorization": json.dumps(authorization),
        "unauthorized": " or ".join(f'status == "{status}"' for status in _UNAUTHORIZED),
        "refused": json.dumps(json.dumps({"error": REFUSED})),
        "moved": json.dumps(json.dumps({"error": MOVED})),
    }
    filters = [
        typed("envoy.filters.http.lua", "filters.http.lua.v3.Lua", default_source_code={"inline_string": code}),
        typed("envoy.filters.http.upstream_codec", "filters.http.upstream_codec.v3.UpstreamCodec"),
    ]
    (name, options), *_ = cluster["typed_extension_protocol_options"].items()
    return cluster | {
        "connect_timeout": CONNECT_TIMEOUT,
        "typed_extension_protocol_options": {name: options | {"http_filters": filters}},
    }
