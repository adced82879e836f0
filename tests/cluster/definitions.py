"""Files that other projects are installed with, and the full definitions of their kinds.

They show what a real API server with them would refuse, or drop silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pelagos.embedded import binaries

FOLDER = binaries.cache().parent / "installations"
"""Filled by tools/definitions.sh: the content of each project's released module, at the same paths."""
KSERVE_MODULE = FOLDER / "kserve-v0.20.0"
KSERVE = KSERVE_MODULE / "config/crd/full"
KUEUE_MODULE = FOLDER / "kueue-v0.17.0"


def validator(path: Path, version: str) -> Callable[[Mapping[str, Any]], None]:
    """A check that raises ValueError for an object that the definition in ``path`` does not accept."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; run tools/definitions.sh")
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


def inference_service_validator() -> Callable[[Mapping[str, Any]], None]:
    """A check for the kind that the engine ``kserve`` writes."""
    return validator(KSERVE / "serving.kserve.io_inferenceservices.yaml", "v1beta1")


def _strict(schema: Any) -> Any:
    """The schema as JSON schema that also refuses fields which the server would drop, and that knows the server's own types."""
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
