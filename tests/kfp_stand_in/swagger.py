"""The published description of the API: finds the operation of a request, and tells what is wrong with requests and replies."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DESCRIPTION = Path(__file__).parents[2].parent / "shared" / "schemas" / "kfp" / "kfp_api_single_file.swagger.json"
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


@dataclass(frozen=True)
class Operation:
    """What the description says of one method of one path; ``path`` holds the values of the path's parameters."""

    identifier: str
    description: Mapping[str, Any]
    path: Mapping[str, str]


class Swagger:
    """A description in Swagger 2.0."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._definitions: Mapping[str, Any] = document["definitions"]
        self._paths = [
            (_pattern(template), method.upper(), operation)
            for template, methods in document["paths"].items()
            for method, operation in methods.items()
            if template.startswith("/apis/v2beta1/")
        ]

    @classmethod
    def load(cls, file: Path = DESCRIPTION) -> Swagger:
        """Read the description. Raises OSError."""
        return cls(json.loads(file.read_text(encoding="utf-8")))

    def find(self, method: str, path: str) -> Operation | None:
        """The operation that answers a request."""
        for pattern, wanted, operation in self._paths:
            match = pattern.fullmatch(path)
            if match and wanted == method:
                return Operation(operation["operationId"], operation, match.groupdict())
        return None

    def wrong_in_request(self, operation: Operation, query: Mapping[str, str], body: object) -> list[str]:
        """What the description does not allow; a field or parameter that it does not know, too."""
        parameters = {parameter["name"]: parameter for parameter in operation.description.get("parameters", [])}
        known = {name for name, parameter in parameters.items() if parameter["in"] == "query"}
        wrong = [f"query parameter {name} is not known" for name in query if name not in known]
        numbers = (name for name in known & query.keys() if parameters[name].get("type") == "integer")
        wrong += [f"query parameter {name} is no integer" for name in numbers if not query[name].lstrip("-").isdigit()]
        for parameter in parameters.values():
            if parameter["in"] == "body":
                wrong += self._wrong(body, parameter["schema"], "body")
        return wrong

    def wrong_in_reply(self, operation: Operation, status: int, body: object) -> list[str]:
        """What the description does not allow."""
        responses = operation.description["responses"]
        response = responses.get(str(status), responses["default"])
        return list(self._wrong(body, response["schema"], "reply"))

    def _wrong(self, value: object, schema: Mapping[str, Any], where: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        kind = schema.get("type")
        if kind == "string" and schema.get("format") == "int64":
            if not str(value).lstrip("-").isdigit():
                yield f"{where}: {value!r} is no integer"
            return
        if kind and not isinstance(value, _TYPES[kind]):
            yield f"{where}: {value!r} is no {kind}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{where}: {value!r} is none of {schema['enum']}"
        if schema.get("format") == "date-time" and not _is_time(str(value)):
            yield f"{where}: {value!r} is no point in time"
        if isinstance(value, dict):
            yield from self._wrong_in_object(value, schema, where)
        if isinstance(value, list) and "items" in schema:
            for number, item in enumerate(value):
                yield from self._wrong(item, schema["items"], f"{where}[{number}]")

    def _wrong_in_object(self, value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
        properties = schema.get("properties")
        others = schema.get("additionalProperties", None if properties else {})
        for key, item in value.items():
            if properties and key in properties:
                yield from self._wrong(item, properties[key], f"{where}.{key}")
            elif others is None:
                yield f"{where}: field {key} is not known"
            else:
                yield from self._wrong(item, others, f"{where}.{key}")


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{([^}]+)\}", template)
    named = (
        re.escape(part) if number % 2 == 0 else f"(?P<{part.replace('.', '_')}>[^/:]+)"
        for number, part in enumerate(parts)
    )
    return re.compile("".join(named))


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
