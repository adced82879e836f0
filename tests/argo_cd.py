"""Runs Argo CD's Lua in Lua 5.1, the version that Argo CD embeds, with the same few standard functions that Argo CD allows."""

from __future__ import annotations

from typing import Any

from lupa import lua51

import rendering

FOLDER = rendering.MANIFESTS / "argocd"
HEALTH = "health/pelagos.lua"
SANDBOX = """
local date = os.date
os = {date = date}
io, debug, package, dofile, loadfile, load, loadstring = nil
require = function(name) if name == "os" then return os end error("not in Argo CD: " .. name) end
"""


def run(name: str, body: dict[str, Any]) -> Any:
    """The value that a Lua file returns for an object."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.execute(SANDBOX)
    lua.globals().obj = lua.table_from(body, recursive=True)
    return plain(lua.execute((FOLDER / name).read_text(encoding="utf-8")))


def plain(value: Any) -> Any:
    """A Lua table as a mapping, or as a list when its keys count from 1."""
    if lua51.lua_type(value) != "table":
        return value
    items = {key: plain(child) for key, child in value.items()}
    return list(items.values()) if items and set(items) == set(range(1, len(items) + 1)) else items
