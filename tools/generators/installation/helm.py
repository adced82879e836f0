"""Writes the nodes of nodes.py as Go templates: the files below templates/ of the Helm chart.

Every value goes through ``toJson``, which is YAML too: no value can break out of its place, whatever it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from generators.installation import nodes

INDENT = "  "


def template(objects: Iterable[Any]) -> str:
    """A template file with these objects, each a mapping or a ``When`` or ``Each`` of them."""
    return "\n".join(line for node in objects for line in _document(node)) + "\n"


def _document(node: Any) -> list[str]:
    if isinstance(node, nodes.When):
        return _wrapped(f"if {_condition(node.condition)}", _document(node.node))
    if isinstance(node, nodes.Each):
        lines = [line for child in node.nodes for line in _document(child)]
        return _wrapped(f"range $item := {_path(node.path)}", lines)
    return ["---", *_mapping(node)]


def _wrapped(opening: str, lines: list[str]) -> list[str]:
    return [f"{{{{- {opening} }}}}", *lines, "{{- end }}"]


def _mapping(node: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, child in node.items():
        if isinstance(child, nodes.When):
            lines += _wrapped(f"if {_condition(child.condition)}", _field(key, child.node))
        else:
            lines += _field(key, child)
    return lines


def _field(key: str, node: Any) -> list[str]:
    name = _literal(key)
    if isinstance(node, Mapping) and node:
        return [f"{name}:", *_indented(_mapping(node))]
    if isinstance(node, list | tuple) and node:
        return [f"{name}:", *_indented(_sequence(node))]
    return [f"{name}: {_scalar(node)}"]


def _sequence(node: Iterable[Any]) -> list[str]:
    lines: list[str] = []
    for child in node:
        if isinstance(child, nodes.When):
            lines += _wrapped(f"if {_condition(child.condition)}", _sequence([child.node]))
        elif isinstance(child, nodes.Each):
            lines += _wrapped(f"range $item := {_path(child.path)}", _sequence(child.nodes))
        else:
            lines += _entry(child)
    return lines


def _entry(node: Any) -> list[str]:
    if isinstance(node, Mapping) and node:
        # A condition cannot stand where the dash does.
        assert not isinstance(next(iter(node.values())), nodes.When), f"the first key is conditional: {node}"
        first, *rest = _mapping(node)
        return [f"- {first}", *_indented(rest)]
    return [f"- {_scalar(node)}"]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"{INDENT}{line}" for line in lines]


def _scalar(node: Any) -> str:
    if isinstance(node, nodes.Choice):
        then, otherwise = _scalar(node.then), _scalar(node.otherwise)
        return f"{{{{ if {_condition(node.condition)} }}}}{then}{{{{ else }}}}{otherwise}{{{{ end }}}}"
    if _is_plain(node):
        return _literal(node)
    return f"{{{{ {_expression(node)} | toJson }}}}"


def _is_plain(node: Any) -> bool:
    return node is None or isinstance(node, str | int | bool | list | tuple | dict)


def _literal(node: Any) -> str:
    if isinstance(node, tuple):
        node = list(node)
    text = json.dumps(node, ensure_ascii=False)
    assert "{{" not in text, f"would be taken for a template: {text}"
    is_word = (
        isinstance(node, str) and node.replace("-", "").replace("_", "").replace("/", "").replace(".", "").isalpha()
    )
    return node if is_word and node.lower() not in _RESERVED and node[0].isalpha() else text


_RESERVED = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def _expression(node: Any) -> str:
    match node:
        case nodes.Value(path):
            return _path(path)
        case nodes.Item(path):
            return f"$item.{path}"
        case nodes.Release(field):
            return f"$.Release.{field}"
        case nodes.AppVersion():
            return "$.Chart.AppVersion"
        case nodes.Text(template_, parts):
            return f"(printf {json.dumps(template_)} {' '.join(_argument(part) for part in parts)})"
        case nodes.Digits(of):
            return f"({_expression(of)} | int64 | toString)"
        case nodes.Json(of):
            return f"({_expression(of)} | toJson)"
        case nodes.First(of, otherwise):
            return f"({_argument(of)} | default {_argument(otherwise)})"
    raise TypeError(f"no expression: {node}")


def _argument(node: Any) -> str:
    return json.dumps(node) if isinstance(node, str) else _expression(node)


def _condition(condition: nodes.Condition) -> str:
    match condition:
        case nodes.Given(of):
            return _expression(of)
        case nodes.Equal(of, to):
            return f"eq {_expression(of)} {json.dumps(to)}"
        case nodes.Not(of):
            return f"not ({_condition(of)})"
        case nodes.All(of):
            return "and " + " ".join(f"({_condition(part)})" for part in of)
        case nodes.Any_(of):
            return "or " + " ".join(f"({_condition(part)})" for part in of)


def _path(path: str) -> str:
    return f"$.Values.{path}"
