"""Parses JSON that pipelines and packages left in the store, within limits, because its authors are not trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from pelagos.ports.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_JSON = 16 * 1024 * 1024
"""Largest file in bytes. Reports and manifests are far smaller; a larger file is not one of ours."""
MOST_VALUES = 500_000
"""Most values in a file. Each becomes an object of 50 bytes or more in memory, for as few as two bytes in the file."""


def parsed(system: str, where: str, content: bytes) -> Mapping[str, Any]:
    """The JSON object in ``content``.

    Raises:
        RejectedError: the content is not a JSON object, or one that cannot be passed on because of its numbers, texts, depth or
            number of values. The message never quotes the content.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise RejectedError(system, f"{where} holds more than {MOST_VALUES} values, more than any report of Pelagos")
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise RejectedError(
            system, f"{where} is not JSON, from line {error.lineno}, column {error.colno} on"
        ) from error
    except (ValueError, RecursionError) as error:
        # Not UTF-8, a lone surrogate, NaN or Infinity, a number of thousands of digits, or thousands of nested lists.
        raise RejectedError(system, f"{where} is not usable JSON ({type(error).__name__})") from error
    if not isinstance(document, dict):
        raise RejectedError(system, f"{where} must hold a JSON object, but holds a {type(document).__name__}")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
