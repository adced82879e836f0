"""JSON Schemas of our kinds for editors, to which a comment `# yaml-language-server: $schema=...` refers."""

from __future__ import annotations

import json
from typing import Any, cast

from pelagos.api import crds, kinds, meta
from pelagos.api.kinds import Kind

_NOT_FOR_EDITORS = ("x-kubernetes-", "format")


def files() -> dict[str, str]:
    """The schemas by file name; ``pelagos.json`` accepts any of the kinds."""
    any_kind = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "oneOf": [{"$ref": f"{kind.singular}.json"} for kind in kinds.KINDS],
    }
    each = {f"{kind.singular}.json": schema(kind) for kind in kinds.KINDS} | {"pelagos.json": any_kind}
    return {name: json.dumps(body, indent=2, ensure_ascii=False) + "\n" for name, body in each.items()}


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema of a kind; unlike an API server it refuses unknown fields."""
    body = crds.render(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = cast("dict[str, Any]", _plain(body))
    found["required"] = ["apiVersion", "kind", "metadata", "spec"]
    found["properties"]["apiVersion"] = {"const": meta.API_VERSION}
    found["properties"]["kind"] = {"const": kind.kind}
    found["properties"]["metadata"] = {"type": "object"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": kind.kind} | found


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(child) for child in node]
    if not isinstance(node, dict):
        return node
    found = {
        key: {name: _plain(child) for name, child in value.items()} if key == "properties" else _plain(value)
        for key, value in node.items()
        if not key.startswith(_NOT_FOR_EDITORS)
    }
    if node.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    return found | ({"additionalProperties": False} if "properties" in found else {})
