"""Scripts that Envoy runs on inference requests, to stop those that would crash the server. Called by config.

Triton 24.10 crashes on a valid request for the classification of a text output; such a request is only visible inside the
message. Both scripts see the whole body, whose size Envoy has limited, and refuse what they cannot read. Envoy lets a request
pass if its script fails, so all of the scripts' work runs in a pcall.
"""

from __future__ import annotations

JSON_BYTES = 9999
"""Longest JSON for the server, in bytes: its parser recurses once per bracket, and a few hundred thousand of them crash it."""
FIELD_BYTES = 4096
"""Longest name or shape in a message, in bytes: errors repeat them in headers, whose size is limited."""
FIELDS = 1000

_NAMES = """
local BROKEN = "The request cannot be read"
local CLASSES = "parameters.classification of an output is not supported: ask for the output as it is"
"""
_PROTECTED = """
function envoy_on_request(handle)
  local fine, why = pcall(fault, handle, handle:headers())
  if not fine then why = BROKEN end
  if why then refuse(handle, why) end
end
"""

HTTP = (
    _NAMES
    + f"""
local MOST = {JSON_BYTES}
local function refuse(handle, why)
  handle:respond({{[":status"] = "400", ["content-type"] = "text/plain"}}, why .. ".\\n")
end
local function fault(handle, headers)
  if headers:get(":method") ~= "POST" then return nil end
  local text = headers:get("inference-header-content-length")
  local body = handle:body()  -- from here on, the headers are out of reach
  local size = body and body:length() or 0
  local length = text and tonumber(text) or size
  if size == 0 then return "The body is empty: POST an inference request" end
  if length > size then
    return "Inference-Header-Content-Length is " .. length .. ", the body has " .. size .. " bytes"
  end
  if length > MOST then return "The JSON has " .. length .. " bytes; at most " .. MOST .. " are accepted" end
  if length == 0 then return nil end
  local json = body:getBytes(0, length)
  if json:find("\\\\", 1, true) then return "The JSON must be without backslashes: send texts and images as binary data" end
  if json:find('"classification"%s*:') then return CLASSES end
end
"""
    + _PROTECTED
)

GRPC = (
    _NAMES
    + f"""
local MOST, FIELDS = {FIELD_BYTES}, {FIELDS}
-- ModelInferRequest: inputs are 5 with their contents in 5, outputs 6, raw_input_contents 7.
local MESSAGE = {{[5] = {{[5] = "data"}}, [6] = "output", [7] = "data"}}
local function varint(body, at, stop)
  local bytes, value, scale = body:getBytes(at, math.min(10, stop - at)), 0, 1
  for index = 1, #bytes do
    local byte = bytes:byte(index)
    value = value + (byte % 128) * scale
    if byte < 128 then return value, at + index end
    scale = scale * 128
  end
  error(BROKEN)
end
local function walk(body, at, stop, rules, left)
  local size
  while at < stop do
    left = left - 1
    if left < 0 then return "The message has more than " .. FIELDS .. " fields" end
    local tag
    tag, at = varint(body, at, stop)
    local wire = tag % 8
    local rule = rules[(tag - wire) / 8]
    if wire == 0 then
      size, at = varint(body, at, stop)
    elseif wire == 1 or wire == 5 then
      at = at + (wire == 1 and 8 or 4)
    elseif wire == 2 then
      size, at = varint(body, at, stop)
      if at + size > stop then return BROKEN end
      if type(rule) == "table" then
        local why
        why, left = walk(body, at, at + size, rule, left)
        if why then return why end
      elseif rule ~= "data" and size > MOST then
        return "A field of the message has " .. size .. " bytes; at most " .. MOST .. " are accepted outside of contents"
      elseif rule == "output" and size > 0 and body:getBytes(at, size):find("classification", 1, true) then
        return CLASSES
      end
      at = at + size
    else
      return BROKEN
    end
  end
  if at ~= stop then return BROKEN end
  return nil, left
end
local function refuse(handle, why)
  handle:respond({{[":status"] = "200", ["grpc-status"] = "3"}}, why)
end
local function fault(handle, headers)
  if headers:get(":path") ~= "/inference.GRPCInferenceService/ModelInfer" then return nil end
  local body = handle:body()
  local length = body and body:length() or 0
  if length < 5 then return BROKEN end
  local flag, a, b, c, d = body:getBytes(0, 5):byte(1, 5)
  if flag ~= 0 then return "A compressed message is not accepted" end
  if ((a * 256 + b) * 256 + c) * 256 + d ~= length - 5 then return "A call must hold exactly one message" end
  return (walk(body, 5, length, MESSAGE, FIELDS))
end
"""
    + _PROTECTED
)
