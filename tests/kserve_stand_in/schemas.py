"""The published schemas of KServe, and of others: what a real API server with KServe would refuse, or drop without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parents[3] / "shared" / "schemas" / "kserve"
MINIMAL = FOLDER / "minimal"
ABSENT = f"the published schemas of KServe are not here ({FOLDER})"


def is_here() -> bool:
    """Whether they are on this machine."""
    return MINIMAL.is_dir()


def validator(plural: str, version: str) -> Callable[[Mapping[str, Any]], None]:
    """A check that raises ValueError for an object that the full CustomResourceDefinition does not take."""
    return validator_of(FOLDER / f"serving.kserve.io_{plural}.yaml", version)


def validator_of(path: Path, version: str) -> Callable[[Mapping[str, Any]], None]:
    """The same by the file of a definition."""
    text = path.read_text(encoding="utf-8")
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (found,) = (each for each in definition["spec"]["versions"] if each["name"] == version)
    schema = _strict(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    check = jsonschema.Draft202012Validator(schema)

    def validate(body: Mapping[str, Any]) -> None:
        error = jsonschema.exceptions.best_match(check.iter_errors(dict(body)))
        if error is not None:
            raise ValueError(f"{error.json_path}: {error.message[:500]}")

    return validate


def _strict(schema: Any) -> Any:
    """As JSON schema: fields that the server would drop are refused, and its own types are told apart."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key not in ("format", "default", "description")}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return made
