"""Evaluates CEL as the API server does, with the library cel-python and the one function of Kubernetes that our rules use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import celpy
from celpy import adapter, celtypes

_ENVIRONMENT = celpy.Environment()


def _split(text: celtypes.StringType, separator: celtypes.StringType) -> celtypes.ListType:
    return celtypes.ListType([celtypes.StringType(part) for part in str(text).split(str(separator))])


def evaluate(expression: str, **variables: Any) -> Any:
    """The value of an expression over JSON values. Raises celpy.CELEvalError where the server would answer with an error."""
    program = _ENVIRONMENT.program(_ENVIRONMENT.compile(expression), functions={"split": _split})
    return program.evaluate({name: adapter.json_to_cel(value) for name, value in variables.items()})


def violated(policy: Mapping[str, Any], **variables: Any) -> list[str]:
    """Messages of the validations of a ValidatingAdmissionPolicy that do not hold; empty when it does not apply."""
    operation = "UPDATE" if "oldObject" in variables else "CREATE"
    given = {"request": {"operation": operation}, "oldObject": None, "params": None, **variables}
    spec = policy["spec"]
    conditions = [condition["expression"] for condition in spec.get("matchConditions", ())]
    if not all(bool(evaluate(condition, **given)) for condition in conditions):
        return []
    known = {each["name"]: evaluate(each["expression"], **given) for each in spec.get("variables", ())}
    given["variables"] = {name: int(value) for name, value in known.items()}
    broken = [each for each in spec["validations"] if not bool(evaluate(each["expression"], **given))]
    return [
        str(evaluate(each["messageExpression"], **given)) if "messageExpression" in each else each["message"]
        for each in broken
    ]
