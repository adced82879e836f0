"""Requests to model servers on somebody else's platform, and their answers. Pure; called by shared.

The platform's ingress asks for a login of the service, which callers must not learn. It is in the filters of this one cluster,
behind the choice of the destination and its TLS: so it reaches no other server. Everything that the platform does not need is
removed from requests, such as addresses of callers, and from answers everything that is no inference, such as cookies.
"""

from __future__ import annotations

import json
from typing import Any

from pelagos.engines.envoy.routes import typed

CONNECT_TIMEOUT = "10s"
"""Such servers are far away."""
REFUSED = "The platform of this model does not accept the login of the gateway: ask whoever runs it"
MOVED = "The platform of this model answered with a redirection, which is not followed: ask whoever runs it"
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


def wrong(status: int) -> str:
    """What is said instead of an answer with this status; empty if the answer passes."""
    if status in _UNAUTHORIZED:
        return REFUSED
    return MOVED if 300 <= status < 400 else ""


def changed(cluster: dict[str, Any], path: str, authorization: str) -> dict[str, Any]:
    """The cluster with the filters for such a server. ``path`` is the prefix of its paths."""
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
